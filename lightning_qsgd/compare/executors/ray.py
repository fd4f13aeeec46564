"""Runs on a Ray cluster."""

import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from typing_extensions import override

from lightning_qsgd.compare.executors.executor import Attempt, Executor, Fit, Running
from lightning_qsgd.compare.executors.local import LocalExecutor
from lightning_qsgd.compare.planning.job import Job


class RayExecutor(Executor):
    """Gives every run to a worker of a Ray cluster, with one core.

    Workers are used again, so each run gets a process of its own there, just as on one machine:
    what a run before has changed in a module reaches no other.

    Args:
        address: Address of the cluster, such as "auto"; None starts one on this machine.
        processes: Runs at a time; None takes one per core of the cluster.

    Raises:
        ModuleNotFoundError: If Ray is not installed.
    """

    def __init__(self, address: str | None = None, processes: int | None = None) -> None:
        self._ray = _import_ray()
        if not self._ray.is_initialized():
            cores = processes if address is None else None
            self._ray.init(
                address=address,
                num_cpus=cores,
                include_dashboard=False,
                log_to_driver=False,
                runtime_env={"env_vars": {"PYTHONPATH": ":".join(filter(None, sys.path))}},
            )
        self._processes = processes or int(self._ray.cluster_resources().get("CPU", 1))

    @classmethod
    @override
    def of(cls, running: Running, logs: Path) -> "RayExecutor":
        return cls(running.address, running.processes)

    @property
    def at_a_time(self) -> int:
        """Number of runs in flight."""
        return self._processes

    def run(
        self, fit: Fit, jobs: Sequence[Job], started: Callable[[Job], None]
    ) -> Generator[Attempt]:
        """Make runs; see `Executor.run`."""
        task = self._ray.remote(num_cpus=1, max_retries=0)(attempt_apart)
        waiting, working = list(reversed(jobs)), dict[Any, Job]()
        try:
            while waiting or working:
                while waiting and len(working) < self._processes:
                    job = waiting.pop()
                    working[task.remote(fit, job)] = job
                    started(job)
                ended, _ = self._ray.wait(list(working), num_returns=1)
                for reference in ended:
                    yield self._collect(reference, working.pop(reference))
        finally:
            for reference in working:
                self._ray.cancel(reference, force=True)

    def _collect(self, reference: Any, job: Job) -> Attempt:
        try:
            result: Attempt = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:  # the worker died
            return Attempt(job, None, f"The worker died: {error}")
        return replace(result, job=job)


def attempt_apart(fit: Fit, job: Job) -> Attempt:
    """Make one run as a machine of its own would.

    Args:
        fit: Trains the run.
        job: What to run.
    """
    with TemporaryDirectory() as logs:
        (ended,) = LocalExecutor(Path(logs), processes=1).run(fit, [job], _show_nothing)
    return ended


def _show_nothing(job: Job) -> None:
    """Leave that to the machine that gave the job."""


def _import_ray() -> Any:
    try:
        return import_module("ray")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Cannot run on Ray: it is not installed. Install the extra `ray`: "
            "pip install 'lightning-qsgd[ray]', or leave `executor` out."
        ) from error

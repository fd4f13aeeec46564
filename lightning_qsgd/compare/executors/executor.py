"""Who carries out jobs, and how one is chosen."""

import random
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import nan
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from lightning_qsgd.compare.planning.job import Job
from lightning_qsgd.training.recorded_run import RecordedRun

MOST_PROCESSES = 10_000


@dataclass(frozen=True)
class Running:
    """Says where runs are stored, who makes them, and what to do in doubt.

    Args:
        folder: Where everything is stored; None takes `runs/compare/<name of the config>`.
        executor: "local" for processes on this machine, "ray" for a Ray cluster, or the class path
            of an `Executor`.
        processes: Runs at a time; None takes one per core that this
            process may use, or what the cluster has.
        address: Address of the Ray cluster; None starts one on this machine.
        unpaired: What to do if two arms of a seed did not start alike or saw other data:
            "refuse" stops, "allow" goes on and leaves the pair out of every difference.
        changed: What to do with stored runs of another configuration, and with results of other
            arms: "refuse" to go on, or "rerun" and replace them.

    Raises:
        ValueError: If `processes` is below 1, or an address is given with "local".

    Example:
        >>> Running(processes=2).executor
        'local'
    """

    folder: str | None = None
    executor: str = "local"
    processes: int | None = None
    address: str | None = None
    unpaired: Literal["refuse", "allow"] = "refuse"
    changed: Literal["refuse", "rerun"] = "refuse"

    def __post_init__(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise ValueError(
                f"Expected `processes` to be at least 1, got {self.processes}: nothing would run. "
                "Leave it out to use every core."
            )
        if self.processes is not None and self.processes > MOST_PROCESSES:
            raise ValueError(
                f"Expected `processes` to be at most {MOST_PROCESSES}, got {self.processes}: no "
                "machine runs so many at a time. Leave it out to use every core."
            )
        if self.address is not None and self.executor == "local":
            raise ValueError(
                f"Expected no `address` with the executor 'local', got {self.address!r}: its "
                "processes are on this machine. Add `executor: ray`."
            )


Fit: TypeAlias = Callable[[Job], RecordedRun]
"""Trains one run; a function of a module, so that other processes find it."""


SCRATCH = "LIGHTNING_QSGD_SCRATCH"
"""Environment variable that names a folder for what a run writes, if its executor has one. Who made
the folder removes it, also after a run that was killed and could not."""


@dataclass(frozen=True)
class Attempt:
    """What became of a job.

    Attributes:
        job: The job.
        run: The finished run; None if it failed.
        traceback: What a failed run said last.
        wall: Wall-clock seconds that it took in all; NaN if unknown.
    """

    job: Job
    run: RecordedRun | None
    traceback: str = ""
    wall: float = nan


def attempt(fit: Fit, job: Job) -> Attempt:
    """Make one run, and catch what it raises.

    Random generators have the job's seed from here on: a module of the user's may draw when the
    run imports it, and must draw the same whenever and wherever the comparison goes on.

    Args:
        fit: Trains the run.
        job: What to run.

    Example:
        >>> attempt(lambda job: RecordedRun(job.arm, final={"loss": 1.0}), Job("a", 0, {})).run.arm
        'a'
        >>> attempt(lambda job: 1 / 0, Job("a", 0, {})).traceback.splitlines()[-1]
        'ZeroDivisionError: division by zero'
    """
    start = perf_counter()
    random.seed(job.seed)
    np.random.seed(job.seed)  # noqa: NPY002 - the global generator is meant
    torch.manual_seed(job.seed)
    try:
        return Attempt(job, fit(job), wall=perf_counter() - start)
    except (Exception, SystemExit):  # a parser in the run may exit; the others must go on
        return Attempt(job, None, traceback.format_exc(), perf_counter() - start)


class Executor(ABC):
    """Makes runs in processes of their own, several at a time, each with one thread.

    One job gives the same numbers wherever and whenever it runs: it brings its whole configuration
    and seed.
    """

    @classmethod
    def of(cls, running: Running, logs: Path) -> "Executor":
        """Build the executor that a config asks for.

        Args:
            running: What the config says: processes, address.
            logs: Folder for what runs print.
        """
        return cls()

    @property
    @abstractmethod
    def at_a_time(self) -> int:
        """How many runs are made at once, for forecasts."""

    @abstractmethod
    def run(
        self, fit: Fit, jobs: Sequence[Job], started: Callable[[Job], None]
    ) -> Generator[Attempt]:
        """Make runs.

        A run that raises, or whose process dies, is an attempt with a traceback; the others are
        not touched by it. Closing the iterator ends the runs that are still going.

        Args:
            fit: Trains one run; a function of a module.
            jobs: What to run.
            started: Called when a job is given to a process.

        Yields:
            One attempt per job, in the order in which they end.
        """


def attempts_of(
    executor: Executor,
    fit: Fit,
    jobs: Sequence[Job],
    started: Callable[[Job], None],
    shortened: bool = False,
) -> Generator[Attempt]:
    """Have an executor make runs, and refuse what is not one attempt per job.

    One of a user's may mix them up, and every number of the comparison with them.

    Args:
        executor: Makes the runs.
        fit: Trains one run.
        jobs: What to run.
        started: Called when a job is given to a process.
        shortened: Whether `fit` trains less than the job says, so that configurations differ.

    Yields:
        One attempt per job, in the order in which they end.

    Raises:
        TypeError: If something else than an attempt comes.
        RuntimeError: If it is of no waiting job or holds the run of another, or a job is left out.
    """
    waiting = list(jobs)
    attempts = executor.run(fit, jobs, started)
    try:
        for ended in attempts:
            _check(ended, waiting, type(executor).__name__, shortened)
            waiting.remove(ended.job)
            yield ended
        if waiting:
            others = f" and {len(waiting) - 1} others" if len(waiting) > 1 else ""
            raise RuntimeError(
                f"{type(executor).__name__} yielded no attempt at {waiting[0].name}{others}. Yield "
                "one per job; one without a run, and with a traceback, where it failed."
            )
    except Exception as error:
        error.add_note("Every run that had ended is stored. Mend that, and repeat the command.")
        raise
    finally:
        getattr(attempts, "close", _nothing)()


def _nothing() -> None:
    """Close what is no generator."""


def _check(ended: Any, waiting: Sequence[Job], name: str, shortened: bool) -> None:
    if not isinstance(ended, Attempt):
        raise TypeError(
            f"{name} yielded {type(ended).__name__} instead of an Attempt: it is not known which "
            "job it belongs to. Yield `attempt(fit, job)`."
        )
    job, run = ended.job, ended.run
    if job not in waiting:
        raise RuntimeError(
            f"{name} yielded an attempt at {getattr(job, 'name', job)}, which it was not given or "
            "has yielded before. Yield one attempt per job, with the job itself."
        )
    if run is not None and not _is_of(run, job, shortened):
        raise RuntimeError(
            f"{name} yielded another run as that of {job.name}: every number would be of another "
            "configuration. Yield each run with its own job."
        )


def _is_of(run: Any, job: Job, shortened: bool) -> bool:
    """Whether a run is the job's; that of a function may not know its configuration."""
    if not isinstance(run, RecordedRun):
        return False
    is_same = shortened or run.fingerprint in ("", job.fingerprint)
    return is_same and (run.arm, run.seed) == (job.arm, job.seed)


SHORT_NAMES = {name: f"{__package__}.{name}.{name.title()}Executor" for name in ("local", "ray")}
"""What a config may write in place of a class path."""


def choose_executor(running: Running, logs: Path) -> Executor:
    """Build the executor.

    Args:
        running: What the config says.
        logs: Folder for what runs print.

    Raises:
        ValueError: If it names no executor.
        ModuleNotFoundError: If it needs a library that is not installed.
    """
    module, _, name = SHORT_NAMES.get(running.executor, running.executor).rpartition(".")
    try:  # by name, so that one in a user's file is found as those beside this file are
        found = getattr(import_module(module), name) if module else None
    except (ImportError, AttributeError):
        found = None
    if not (isinstance(found, type) and issubclass(found, Executor)):
        raise ValueError(
            f"Expected `executor` to be {', '.join(SHORT_NAMES)} or the class path of an Executor, "
            f"got {running.executor!r}: nothing would make the runs. Give a class of a module that "
            "can be imported here."
        )
    executor = found.of(running, logs)
    at_a_time = executor.at_a_time
    if not isinstance(at_a_time, int) or at_a_time < 1:
        raise ValueError(
            f"Expected `at_a_time` of {name} to be an integer of at least 1, got {at_a_time!r}: "
            "forecasts divide by it. Say how many runs are made at once."
        )
    return executor

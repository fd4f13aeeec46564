"""Who carries out jobs, and how one is chosen."""

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import nan
from pathlib import Path
from time import perf_counter
from typing import TypeAlias

from lightning_qsgd.compare.planning.job import Job, Running
from lightning_qsgd.training.recorded_run import RecordedRun

Fit: TypeAlias = Callable[[Job], RecordedRun]
"""Trains one run; a function of a module, so that other processes find it."""


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
    return found.of(running, logs)

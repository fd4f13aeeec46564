"""One try at a run; whatever happens in it, it ends with something to store."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from time import perf_counter
from typing import TypeAlias

from lightning_qsgd.compare.results import ArmRun
from lightning_qsgd.compare.running.job import Job

Fit: TypeAlias = Callable[[Job], ArmRun]
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
    run: ArmRun | None
    traceback: str = ""
    wall: float = nan


def attempt(fit: Fit, job: Job) -> Attempt:
    """Make one run, and catch what it raises.

    Args:
        fit: Trains the run.
        job: What to run.

    Example:
        >>> attempt(lambda job: ArmRun(job.arm, job.seed, {"loss": 1.0}), Job("a", 0, {})).run.final
        {'loss': 1.0}
        >>> attempt(lambda job: 1 / 0, Job("a", 0, {})).traceback.splitlines()[-1]
        'ZeroDivisionError: division by zero'
    """
    start = perf_counter()
    try:
        return Attempt(job, fit(job), wall=perf_counter() - start)
    except (Exception, SystemExit):  # a parser in the run may exit; the others must go on
        return Attempt(job, None, traceback.format_exc(), perf_counter() - start)

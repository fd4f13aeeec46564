"""A failure ends the training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lightning_qsgd.backends.failures.failure_policy import FailurePolicy

T = TypeVar("T")


@dataclass(frozen=True)
class RaiseOnFailure(FailurePolicy):
    """Lets the job's exception through; no parameter has moved then.

    Example:
        >>> RaiseOnFailure().run(lambda: 3)
        3
    """

    def run(self, job: Callable[[], T]) -> T:
        """Run the job once; see `FailurePolicy.run`."""
        return job()

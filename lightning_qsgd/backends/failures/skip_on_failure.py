"""A failure costs the step its perturbation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lightning_qsgd.backends.circuit_account import CircuitLimitReached
from lightning_qsgd.backends.failures.failure_policy import FailurePolicy
from lightning_qsgd.backends.failures.skipped_step import SkippedStep

T = TypeVar("T")


@dataclass(frozen=True)
class SkipOnFailure(FailurePolicy):
    """Takes the step without any perturbation, and counts it.

    Args:
        limit: Number of steps of a training that may be skipped, at least 1; one more raises.

    Raises:
        ValueError: If `limit` is below 1.

    Example:
        >>> SkipOnFailure(limit=5).run(lambda: 3)
        3
    """

    limit: int = 10

    skips = True

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(
                f"Expected `limit` to be at least 1, got {self.limit}: no step could be skipped. "
                "Use 1 or more, or RaiseOnFailure."
            )

    def run(self, job: Callable[[], T]) -> T:
        """Run the job once; see `FailurePolicy.run`."""
        try:
            return job()
        except CircuitLimitReached:
            raise
        except Exception as failure:
            raise SkippedStep(f"{type(failure).__name__}: {failure}", self.limit) from failure

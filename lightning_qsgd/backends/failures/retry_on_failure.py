"""A failure is followed by another attempt."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from time import sleep
from typing import TypeVar

from lightning_qsgd.backends.circuit_account import CircuitLimitReached
from lightning_qsgd.backends.failures.failure_policy import FailurePolicy
from lightning_qsgd.backends.failures.raise_on_failure import RaiseOnFailure

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetryOnFailure(FailurePolicy):
    """Tries again, waiting twice as long each time; the last attempt is left to another policy.

    Args:
        attempts: Number of attempts in all, at least 2.
        backoff_seconds: Wait before the second attempt in seconds, at least 0.
        then: What follows when the last attempt fails.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If `then` is no policy, or retries itself.

    Example:
        >>> RetryOnFailure(attempts=3, backoff_seconds=0.0).run(lambda: 3)
        3
    """

    attempts: int = 3
    backoff_seconds: float = 1.0
    then: FailurePolicy = field(default_factory=RaiseOnFailure)

    def __post_init__(self) -> None:
        if self.attempts < 2:
            raise ValueError(
                f"Expected `attempts` to be at least 2, got {self.attempts}: nothing would be "
                "tried again. Use 2 or more, or RaiseOnFailure."
            )
        if not 0 <= self.backoff_seconds < float("inf"):
            raise ValueError(
                f"Expected `backoff_seconds` to be non-negative and finite, got "
                f"{self.backoff_seconds}: it is a wait. Use 0 to try again at once."
            )
        if not isinstance(self.then, FailurePolicy) or isinstance(self.then, RetryOnFailure):
            raise TypeError(
                f"Expected `then` to raise or to skip, got {type(self.then).__name__}: it follows "
                "the last attempt. Use RaiseOnFailure or SkipOnFailure."
            )

    @property
    def skips(self) -> bool:  # type: ignore[override]
        """Whether a step may be taken without its perturbation."""
        return self.then.skips

    def run(self, job: Callable[[], T]) -> T:
        """Run the job until it succeeds; see `FailurePolicy.run`."""
        for attempt in range(1, self.attempts):
            try:
                return job()
            except CircuitLimitReached:
                raise
            except Exception as failure:
                wait = self.backoff_seconds * 2 ** (attempt - 1)
                _LOGGER.warning(
                    "Attempt %d of %d failed (%s: %s); trying again in %g s.",
                    *(attempt, self.attempts, type(failure).__name__, failure, wait),
                )
                sleep(wait)
        return self.then.run(job)

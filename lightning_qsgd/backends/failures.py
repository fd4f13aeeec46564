"""What happens when a circuit fails: raise, skip the step, or try again."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from time import sleep
from typing import TypeVar

from typing_extensions import override

from lightning_qsgd.backends.evaluation import CircuitLimitReached


class SkippedStep(RuntimeError):  # noqa: N818 - a request, like StopIteration
    """Raised by a backend whose circuits failed, for the optimizer to go on without them.

    Args:
        reason: What went wrong.
        limit: Number of skipped steps that the policy allows in all.
    """

    def __init__(self, reason: str, limit: int) -> None:
        super().__init__(reason, limit)
        self.reason = reason
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"The circuits failed ({self.reason}), and the step is to be taken without them: the "
            "policy is SkipOnFailure. PerturbedOptimizer does so; elsewhere, catch SkippedStep."
        )


T = TypeVar("T")


class FailurePolicy(ABC):
    """Decides what follows an exception, a time-out or a readout that is not finite.

    Policies are immutable; an interrupt from the keyboard is never caught, nor is a limit on the
    number of circuits.
    """

    attempts: int = 1
    """Number of times that a job is tried, at most."""

    skips: bool = False
    """Whether a step may be taken without its perturbation."""

    @abstractmethod
    def run(self, job: Callable[[], T]) -> T:
        """Run a job and return its result.

        Args:
            job: Evaluates all circuits of a step, and raises if any of them fails.

        Raises:
            SkippedStep: If the step is to be taken without its perturbation.
            Exception: What the job raised, if it is to end the training.
        """


@dataclass(frozen=True)
class RaiseOnFailure(FailurePolicy):
    """Lets the job's exception through; no parameter has moved then.

    Example:
        >>> RaiseOnFailure().run(lambda: 3)
        3
    """

    @override
    def run(self, job: Callable[[], T]) -> T:
        return job()


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

    @override
    def run(self, job: Callable[[], T]) -> T:
        try:
            return job()
        except CircuitLimitReached:
            raise
        except Exception as failure:
            raise SkippedStep(f"{type(failure).__name__}: {failure}", self.limit) from failure


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

    @override
    def run(self, job: Callable[[], T]) -> T:
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

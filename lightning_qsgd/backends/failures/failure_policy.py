"""The contract of what happens when a circuit cannot be evaluated."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

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

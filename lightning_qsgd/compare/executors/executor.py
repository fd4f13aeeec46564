"""The contract of whoever makes runs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence

from lightning_qsgd.compare.executors.attempt import Attempt, Fit
from lightning_qsgd.compare.running.job import Job


class Executor(ABC):
    """Makes runs in processes of their own, several at a time, each with one thread.

    One job gives the same numbers wherever and whenever it runs: it brings its whole configuration
    and seed.
    """

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

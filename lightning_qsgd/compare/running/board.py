"""Shows how far the runs are: a live table on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from time import perf_counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from lightning_qsgd.compare.planning.job import Job
from lightning_qsgd.compare.running.stored_run import StoredRun

WAITING, RUNNING, DONE, FAILED = ".", "[yellow]>[/]", "[green]o[/]", "[bold red]x[/]"


class Board:
    """Shows arms x seeds, what runs, what is done, and the time that is left.

    Args:
        console: Where to show it.
        title: What is being run.
        jobs: All runs.
        at_a_time: How many are made at once.
    """

    def __init__(
        self, console: Console, title: str, jobs: Sequence[Job], at_a_time: int = 1
    ) -> None:
        self.console = console
        self.title = title
        self.at_a_time = at_a_time
        self._states = dict.fromkeys(jobs, WAITING)
        self._walls: list[float] = []
        self._begin = perf_counter()
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(
                console=console, get_renderable=self.table, refresh_per_second=2, transient=True
            )

    def __enter__(self) -> Self:
        """Start showing."""
        self._begin = perf_counter()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop showing."""
        if self._live is not None:
            self._live.stop()
            self.console.print(self.table())

    def found(self, job: Job, stored: StoredRun) -> None:
        """Mark a run that was stored before."""
        self._mark(job, DONE)
        self._say(f"{job.name} was done before")

    def started(self, job: Job) -> None:
        """Mark a run that begins."""
        self._mark(job, RUNNING)

    def ended(self, job: Job, stored: StoredRun) -> None:
        """Mark a run that has ended."""
        failed = stored.finished is None
        self._mark(job, FAILED if failed else DONE)
        if stored.wall == stored.wall:
            self._walls.append(stored.wall)
        last = (
            stored.run.traceback.strip().splitlines()[-1:]
            if hasattr(stored.run, "traceback")
            else []
        )
        self._say(
            f"{job.name} {'FAILED: ' + ''.join(last) if failed else 'done'} ({stored.wall:.1f} s)"
        )

    @property
    def counts(self) -> tuple[int, int, int]:
        """Runs that are done, failed, and wanted in all."""
        states = list(self._states.values())
        return states.count(DONE), states.count(FAILED), len(states)

    @property
    def seconds_left(self) -> float | None:
        """Forecast from the runs that have ended; None before the first."""
        if not self._walls:
            return None
        done, failed, wanted = self.counts
        mean = sum(self._walls) / len(self._walls)
        return mean * (wanted - done - failed) / min(self.at_a_time, max(1, wanted))

    def table(self) -> Table:
        """Lay out one row per arm and one column per seed."""
        table = Table(title=escape(self.title), caption=escape(self.status()), show_lines=False)
        table.add_column("arm")
        table.add_column("seeds (. waits, > runs, o done, x failed)", no_wrap=True)
        table.add_column("done", justify="right")
        for arm in dict.fromkeys(job.arm for job in self._states):
            states = [state for job, state in self._states.items() if job.arm == arm]
            done = f"{states.count(DONE)}/{len(states)}"
            table.add_row(escape(arm), " ".join(states), done)
        return table

    def status(self) -> str:
        """Say in one line how far the runs are, and how long the rest may take."""
        done, failed, wanted = self.counts
        words = [f"{done + failed}/{wanted}"]
        if failed:
            words.append(f"{failed} failed")
        words.append(f"{duration(perf_counter() - self._begin)} so far")
        left = self.seconds_left
        if left is not None and done + failed < wanted:
            words.append(f"about {duration(left)} left")
        return ", ".join(words)

    def _mark(self, job: Job, state: str) -> None:
        self._states[job] = state

    def _say(self, line: str) -> None:
        if self._live is None:
            text = f"{self.title}: {line}; {self.status()}"
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Write a duration for people.

    Example:
        >>> duration(7.4), duration(200), duration(9000)
        ('7 s', '3 min 20 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

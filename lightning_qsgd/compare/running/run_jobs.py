"""Makes the runs that are not stored yet."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from lightning_qsgd.compare.executors import Executor, Fit
from lightning_qsgd.compare.executors.executor import Running, attempts_of
from lightning_qsgd.compare.planning.job import Job
from lightning_qsgd.compare.running.board import Board
from lightning_qsgd.compare.running.stored_run import RunStore, StoredRun, refuse_changes

Watch = Callable[[Job, StoredRun], None]
"""Looks at each run as soon as it is there; may raise to stop the rest."""


@dataclass(frozen=True)
class Workshop:
    """Where runs are made and kept.

    Attributes:
        fit: Trains one run.
        executor: Who runs it.
        store: Where it is kept.
        running: What to do in doubt.
        probe: Trains a few steps of one run; None takes `fit`.
    """

    fit: Fit
    executor: Executor
    store: RunStore
    running: Running
    probe: Fit | None = None

    def run(
        self, jobs: Sequence[Job], board: Board, watch: Watch | None = None
    ) -> dict[Job, StoredRun]:
        """Make every run that is not stored, and store each as soon as it ends.

        Runs that failed before are tried again: what stopped them may be gone.

        Args:
            jobs: All runs that are wanted.
            board: Shows how far they are.
            watch: Looks at each run.

        Returns:
            Every job with its run, in the order of the jobs.

        Raises:
            ValueError: If stored runs have another configuration and may not be replaced.
        """
        done = self.stored(jobs)
        with board:
            for job, stored in done.items():
                board.found(job, stored)
                if watch is not None:
                    watch(job, stored)
            waiting = [job for job in jobs if job not in done]
            with closing(attempts_of(self.executor, self.fit, waiting, board.started)) as attempts:
                for attempt in attempts:
                    stored = StoredRun.of(attempt)
                    self._save(stored, attempt.job)
                    done[attempt.job] = stored
                    board.ended(attempt.job, stored)
                    if watch is not None:
                        watch(attempt.job, stored)
        return {job: done[job] for job in jobs}

    def _save(self, stored: StoredRun, job: Job) -> None:
        try:
            self.store.save(stored, job)
        except OSError as error:  # such as a full disk
            error.add_note(
                f"{job.name} had ended and could not be stored. Every run that ended before is "
                "stored: the same command goes on from there."
            )
            raise

    def stored(self, jobs: Sequence[Job]) -> dict[Job, StoredRun]:
        """Return the runs that need not be made again.

        Args:
            jobs: All runs that are wanted.

        Raises:
            ValueError: If stored runs have another configuration and may not be replaced.
        """
        found = [(job, stored) for job in jobs if (stored := self.store.load(job.name))]
        changed = [(job, stored) for job, stored in found if stored.fingerprint != job.fingerprint]
        if self.running.changed == "refuse":
            refuse_changes(changed)
        stale = {job for job, _ in changed}
        return {
            job: stored for job, stored in found if stored.finished is not None and job not in stale
        }

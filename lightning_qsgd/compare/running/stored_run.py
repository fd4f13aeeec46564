"""Runs as they lie in the folder of a comparison."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import nan
from pathlib import Path
from typing import Any

from lightning_qsgd.atomic_file import write_atomically
from lightning_qsgd.compare.executors.executor import Attempt
from lightning_qsgd.compare.planning.job import RUNS, Job, differences, horizon_block, run_name
from lightning_qsgd.compare.results.results import FailedRun, Results
from lightning_qsgd.training.recorded_run import RecordedRun, rebuilt_run

FORMAT = 1
LARGEST = 2**28
"""Bytes above which a file is no run."""


@dataclass(frozen=True)
class StoredRun:
    """What is kept of an attempt.

    Attributes:
        fingerprint: Hash of the job that was run.
        config: The job's configuration, to say what changed.
        run: The finished run, or how it failed.
        wall: Wall-clock seconds in all; NaN if unknown.
    """

    fingerprint: str
    config: Mapping[str, Any]
    run: RecordedRun | FailedRun
    wall: float = nan

    @classmethod
    def of(cls, attempt: Attempt) -> "StoredRun":
        """Take over what became of a job."""
        job = attempt.job
        run = attempt.run or FailedRun(job.arm, job.seed, attempt.traceback)
        return cls(job.fingerprint, job.config, run, attempt.wall)

    @property
    def finished(self) -> RecordedRun | None:
        """The run, if it did not fail."""
        return self.run if isinstance(self.run, RecordedRun) else None


class RunStore:
    """Keeps one file per run, `<folder>/<block>/<arm>/seed<k>.json`.

    Args:
        folder: Folder of the comparison.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Return the file of a job's name."""
        return self.folder / f"{name}.json"

    def save(self, stored: StoredRun, job: Job) -> None:
        """Write a run; the file is complete or not there, also if the process is killed."""
        path = self.path(job.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        body = json.dumps({**asdict(stored), "kind": type(stored.run).__name__}, default=str)
        head = {"format": FORMAT, "sha256": _digest(body)}
        write_atomically(path, f"{json.dumps(head)}\n{body}\n".encode())

    def load(self, name: str) -> StoredRun | None:
        """Read a run; None if it is not there, damaged, or of another format: it is made again."""
        path = self.path(name)
        try:
            if not path.is_file() or path.stat().st_size > LARGEST:
                return None
            head, body, _ = path.read_text().split("\n")
            if json.loads(head) != {"format": FORMAT, "sha256": _digest(body)}:
                return None
            stored = _rebuild(json.loads(body))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        run = stored.run
        made = stored.fingerprint if stored.finished is None else stored.finished.fingerprint
        is_own = made in ("", stored.fingerprint) and name.endswith(f"/{run.arm}/seed{run.seed}")
        return stored if is_own else None

    def is_damaged(self, name: str) -> bool:
        """Whether there is something in the place of a run that cannot be read."""
        return os.path.lexists(self.path(name)) and self.load(name) is None


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _rebuild(saved: dict[str, Any]) -> StoredRun:
    run = saved["run"]
    failed = saved["kind"] == FailedRun.__name__
    ended = FailedRun(**run) if failed else rebuilt_run(run)
    return StoredRun(saved["fingerprint"], saved["config"], ended, saved["wall"])


SHOWN = 5


def refuse_changes(changed: Sequence[tuple[Job, StoredRun]]) -> None:
    """Say which configuration changed, where stored runs do not fit the plan any more.

    Args:
        changed: Jobs, and what is stored for them.

    Raises:
        ValueError: If there is any.
    """
    if not changed:
        return
    job, stored = changed[0]
    found = list(differences(stored.config, job.config))
    what = "; ".join(found[:SHOWN]) + ("; ..." if len(found) > SHOWN else "")
    raise ValueError(
        f"{len(changed)} stored runs were made with another configuration, {job.name} with "
        f"{what or 'other versions of the libraries'}: old and new runs are no pairs. Choose "
        "another `--folder`, or `--changed rerun` to replace them."
    )


def collect(results: Results, store: RunStore, block: str = RUNS) -> Results:
    """Put what is stored into results, finished and failed runs alike.

    What another configuration has made is left out, if the results say which runs belong.

    Args:
        results: The comparison. Its own runs and failures stand in for files that are damaged or
            gone; all others are replaced.
        store: Where runs are kept.
        block: Which runs; those of every horizon come along with the reported ones.
    """
    before: list[RecordedRun | FailedRun] = [*results.failures, *results.runs]
    ended = {(run.arm, run.seed): run for run in before}
    for arm, seed in results.planned:
        found = store.load(run_name(arm, seed, block))
        if found is not None and results.belongs(arm, seed, found.fingerprint):
            ended[arm, seed] = found.run
    runs = tuple(run for run in ended.values() if not isinstance(run, FailedRun))
    failures = tuple(run for run in ended.values() if isinstance(run, FailedRun))
    horizons = {
        length: collect(part, store, horizon_block(length))
        for length, part in results.horizons.items()
    }
    return replace(results, runs=runs, failures=failures, horizons=horizons)


def foreign_files(results: Results, store: RunStore, block: str = RUNS) -> list[str]:
    """Name the files of runs that another configuration has made, as after a stopped rerun.

    Args:
        results: The comparison.
        store: Where runs are kept.
        block: Which runs; those of every horizon come along with the reported ones.
    """
    names = {(arm, seed): run_name(arm, seed, block) for arm, seed in results.planned}
    found = [
        str(store.path(name))
        for (arm, seed), name in names.items()
        if (stored := store.load(name)) is not None
        and not results.belongs(arm, seed, stored.fingerprint)
    ]
    parts = results.horizons.items()
    return found + [f for n, part in parts for f in foreign_files(part, store, horizon_block(n))]


def damaged_files(results: Results, store: RunStore) -> list[str]:
    """Name the files of runs that cannot be read, and those that are gone although results know.

    Args:
        results: The comparison, with the runs that it knows.
        store: Where runs are kept.
    """
    known = set(results.planned) - set(results.missing)
    return [
        str(store.path(name))
        for arm, seed in results.planned
        if store.is_damaged(name := run_name(arm, seed))
        or ((arm, seed) in known and not store.path(name).exists())
    ]

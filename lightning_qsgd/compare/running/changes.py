"""Stored runs that were made with another configuration."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning_qsgd.compare.running.job import Job
from lightning_qsgd.compare.running.stored_run import StoredRun

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


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Name the places at which two configurations differ.

    Example:
        >>> list(differences({"a": {"lr": 1}, "b": 0}, {"a": {"lr": 2}, "b": 0}))
        ['a.lr: 1, now 2']
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            inner = f"{path}.{key}" if path else str(key)
            yield from differences(old.get(key), new.get(key), inner)
    elif old != new:
        yield f"{path}: {old}, now {new}"

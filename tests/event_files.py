"""Reads back what a run wrote for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EVERYTHING = 0
"""TensorBoard's word for "keep all points" where it usually keeps a random sample."""


Points: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """Recorded values with strictly increasing steps.

    Attributes:
        steps: Global steps, shape (n,), float64 (exact up to 2**53), strictly increasing.
        values: Values in the metric's unit, shape (n,), float64. TensorBoard's usual scalars
            carry float32 precision. NaN and infinity are kept.
        wall_times: When the values were written, shape (n,), float64, seconds since 1970.
    """

    steps: Points
    values: Points
    wall_times: Points


def latest_per_step(points: Iterable[tuple[int, float, float]]) -> Curve:
    """Build a curve from points in the order in which they were written.

    A run resumed from a checkpoint writes some steps again; the value written last counts.

    Args:
        points: n triples of global step, value in the metric's unit, and wall time in seconds
            since 1970.

    Returns:
        At most n points, sorted by step.

    Example:
        >>> latest_per_step([(1, 9.0, 0.0), (2, 8.0, 1.0), (3, 7.0, 2.0), (2, 6.0, 3.0)]).values
        array([9., 6., 7.])
    """
    latest = {step: (value, wall_time) for step, value, wall_time in points}
    rows = [(step, *latest[step]) for step in sorted(latest)]
    steps, values, wall_times = np.array(rows, dtype=np.float64).reshape(-1, 3).T.copy()
    return Curve(steps, values, wall_times)


def read_scalars(folder: str | PathLike[str]) -> dict[str, Curve]:
    """Read all scalars of one run, every point of them.

    Folders inside the folder are other runs and are not read. A file is read up to its first
    damaged or incomplete record, such as the last one of a killed run; what follows is lost, so
    check the last step where completeness matters. If a step was written twice, as after a resume
    from a checkpoint, the value written last counts.

    Args:
        folder: Folder of the run, `<root>/<experiment>/<arm>/seed<k>`.

    Returns:
        Curves by tag; empty if the run has not logged a scalar.

    Raises:
        FileNotFoundError: If there is no such folder, or no event file in it.
        NotADirectoryError: If `folder` is a file.
        ValueError: If no event can be read from any of the files.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from torch.utils.tensorboard import SummaryWriter
        >>> with TemporaryDirectory() as folder:
        ...     with SummaryWriter(folder) as writer:
        ...         for step, loss in enumerate([2.0, 1.0, 0.5]):
        ...             writer.add_scalar("train/loss", loss, step)
        ...     read_scalars(folder)["train/loss"].values
        array([2. , 1. , 0.5])
    """
    run = Path(folder)
    _require_event_files(run)
    events = _load(run)
    return _plain_scalars(events) | _tensor_scalars(events)


def _load(run: Path) -> EventAccumulator:
    # Imported here because it takes a quarter of a second, also where no run is read.
    from tensorboard.backend.event_processing import event_accumulator as ea

    keep_all = {ea.SCALARS: EVERYTHING, ea.TENSORS: EVERYTHING}
    guidance = dict.fromkeys(ea.DEFAULT_SIZE_GUIDANCE, 1) | keep_all
    accumulator = ea.EventAccumulator(str(run), size_guidance=guidance).Reload()
    try:
        accumulator.FirstEventTimestamp()
    except ValueError as error:
        raise ValueError(
            f"Cannot read the run in {run}: its event files are empty or damaged from the start. "
            "Wait until the run has written something, or run it again."
        ) from error
    return accumulator


def _plain_scalars(events: EventAccumulator) -> dict[str, Curve]:
    return {
        tag: latest_per_step(
            (point.step, point.value, point.wall_time) for point in events.Scalars(tag)
        )
        for tag in events.Tags()["scalars"]
    }


def _tensor_scalars(events: EventAccumulator) -> dict[str, Curve]:
    # What `add_scalar(..., new_style=True)` and TensorFlow write instead.
    from tensorboard.util.tensor_util import make_ndarray

    return {
        tag: latest_per_step(
            (point.step, make_ndarray(point.tensor_proto).item(), point.wall_time)
            for point in events.Tensors(tag)
        )
        for tag in events.Tags()["tensors"]
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
    }


def _require_event_files(run: Path) -> None:
    if not run.exists():
        raise FileNotFoundError(
            f"Cannot read the run in {run}: there is no such folder. "
            "Pass a folder such as runs/<experiment>/<arm>/seed0."
        )
    if not run.is_dir():
        raise NotADirectoryError(
            f"Cannot read the run in {run}: it is a file. Pass the folder that contains it."
        )
    if not any("tfevents" in file.name for file in run.iterdir() if file.is_file()):
        raise FileNotFoundError(
            f"Cannot read the run in {run}: the folder holds no TensorBoard event file. "
            "Pass the folder of one run, not one above or below it."
        )

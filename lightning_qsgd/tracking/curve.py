"""A scalar over the course of one run, as it was recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

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

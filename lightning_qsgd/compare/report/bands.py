"""Curves of several seeds as one mean with a band."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from lightning_qsgd.compare.results import Results
from lightning_qsgd.metrics.functional import gap_at_equal_step
from lightning_qsgd.training.recorded_run import RecordedCurve

MOST_POINTS = 120
"""More than a small chart can show; longer curves are averaged piece by piece."""

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Band:
    """Mean of several curves, with an interval for it.

    Attributes:
        steps: Where it is known, shape (n,).
        mean: Mean over seeds, shape (n,), in the unit of the values.
        half: Half the width of the interval by Student's t, shape (n,); zero for one seed.
    """

    steps: Points
    mean: Points
    half: Points


def band_of(curves: Sequence[RecordedCurve], alpha: float) -> Band | None:
    """Average curves over seeds, at the steps that all of them cover.

    Args:
        curves: One curve per seed. Between its points a curve is read on a straight line; a NaN or
            infinity in one curve is a gap in the mean: leaving it out would reward divergence.
        alpha: One minus the confidence of the band.

    Returns:
        At most `MOST_POINTS` points; None if no step is covered by all curves.

    Example:
        >>> one = RecordedCurve([1, 2], [0, 0], [0, 0], [1.0, 2.0])
        >>> two = RecordedCurve([1, 2], [0, 0], [0, 0], [3.0, 4.0])
        >>> band_of([one, two], alpha=0.05).mean
        array([2., 3.])
    """
    known = [curve for curve in curves if curve.steps]
    if not known:
        return None
    start, end = (f(c.steps[i] for c in known) for f, i in ((max, 0), (min, -1)))
    steps = np.unique(np.concatenate([curve.steps for curve in known]))
    steps = steps[(steps >= start) & (steps <= end)]
    if not len(steps):
        return None
    values = np.stack([np.interp(steps, curve.steps, curve.values) for curve in known])
    values[~np.isfinite(values)] = np.nan
    steps, values = _thinned(steps, values)
    return Band(steps, values.mean(axis=0), _half_width(values, alpha))


def gain_curves(results: Results, arm: str) -> list[RecordedCurve]:
    """Subtract the baseline's curve of the goal's metric from an arm's, seed by seed.

    Args:
        results: The runs.
        arm: Name of the arm.

    Returns:
        One curve per seed that both have, at the arm's steps within the baseline's range; positive
        where the arm is better.
    """
    goal, baseline = results.comparison.goal, results.runs_of(results.comparison.baseline.name)
    sign = 1.0 if goal.higher_is_better else -1.0
    curves = []
    for seed, run in results.runs_of(arm).items():
        ours = run.curves.get(goal.metric)
        theirs = baseline[seed].curves.get(goal.metric) if seed in baseline else None
        if ours and theirs and ours.steps and theirs.steps:
            steps, gaps = gap_at_equal_step(ours.steps, ours.values, theirs.steps, theirs.values)
            curves.append(RecordedCurve(steps.tolist(), values=(sign * gaps).tolist()))
    return curves


def _half_width(values: Points, alpha: float) -> Points:
    n = len(values)
    if n == 1:
        return np.zeros(values.shape[1])
    error = values.std(axis=0, ddof=1) / np.sqrt(n)
    return np.asarray(stdtrit(n - 1, 1 - alpha / 2) * error)


def _thinned(steps: Points, values: Points) -> tuple[Points, Points]:
    if len(steps) <= MOST_POINTS:
        return steps, values
    pieces = np.array_split(np.arange(len(steps)), MOST_POINTS)
    means = [values[:, piece].mean(axis=1) for piece in pieces]
    return np.array([steps[piece].mean() for piece in pieces]), np.stack(means, axis=1)

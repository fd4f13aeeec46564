"""Curves of the arms with their bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from lightning_qsgd.compare.report.panels import WIDE, Page, draw_panels
from lightning_qsgd.compare.results.gains import costs_of
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.metrics.functional import gap_at_equal_step
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.recorded_run import RecordedCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    sign = 1.0 if goal.is_rising else -1.0
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
    with np.errstate(over="ignore"):  # the square of a loss such as 1e200: the band has no end
        error = values.std(axis=0, ddof=1) / np.sqrt(n)
    return np.asarray(stdtrit(n - 1, 1 - alpha / 2) * error)


def _thinned(steps: Points, values: Points) -> tuple[Points, Points]:
    if len(steps) <= MOST_POINTS:
        return steps, values
    pieces = np.array_split(np.arange(len(steps)), MOST_POINTS)
    means = [values[:, piece].mean(axis=1) for piece in pieces]
    return np.array([steps[piece].mean() for piece in pieces]), np.stack(means, axis=1)


HIDDEN_TAIL = 2
"""Percent of the mean values that an axis may leave out at an end, such as the very first."""


def draw_bands(results: Results, tag: str, alpha: float, page: Page = WIDE) -> Figure | None:
    """Draw the mean of a curve over seeds, with a band, arm by arm.

    Args:
        results: The runs.
        tag: Which curve.
        alpha: One minus the confidence of the band.
        page: Where it is to be read.

    Returns:
        The picture; None if no arm recorded the curve.
    """
    bands = _bands(results, tag, alpha)
    if not _has_challenger(results, bands):
        return None

    def draw(chart: Axes, arm: str, colour: str, style: str) -> None:
        _draw_band(chart, bands.get(arm), arm, colour, style)

    figure = draw_panels(results.comparison, bands, draw, tag, page)
    falling = tag == results.comparison.goal.loss or not results.comparison.goal.is_rising
    tails = (0, HIDDEN_TAIL) if falling else (HIDDEN_TAIL, 0)
    _cut_tails(figure, list(bands.values()), *tails)
    return figure


def draw_gap(results: Results, alpha: float, page: Page = WIDE) -> Figure | None:
    """Draw the gain in the goal's metric over the baseline during training, arm by arm.

    The difference is taken seed by seed before it is averaged, so what the arms of a seed share
    drops out: it shows what learning curves on top of each other hide.

    Args:
        results: The runs.
        alpha: One minus the confidence of the band.
        page: Where it is to be read.

    Returns:
        The picture; None if no arm shares a recorded step with the baseline.
    """
    gaps = {
        arm.name: band_of(gain_curves(results, arm.name), alpha)
        for arm in results.comparison.challengers
    }
    bands = {name: band for name, band in gaps.items() if band is not None}
    if not bands:
        return None

    def draw(chart: Axes, arm: str, colour: str, style: str) -> None:
        if arm == results.comparison.baseline.name:
            chart.axhline(0, color=colour, linestyle=style, label=arm)
        else:
            _draw_band(chart, bands.get(arm), arm, colour, style)

    y_label = f"gain in {results.comparison.goal.metric}"
    figure = draw_panels(results.comparison, bands, draw, y_label, page)
    _cut_tails(figure, list(bands.values()), HIDDEN_TAIL, HIDDEN_TAIL)
    return figure


def draw_sizes(results: Results, alpha: float, page: Page = WIDE) -> Figure | None:
    """Draw the relative size of the perturbation during training, on a scale of powers of ten.

    Args:
        results: The runs.
        alpha: One minus the confidence of the band.
        page: Where it is to be read.

    Returns:
        The picture; None if nothing was perturbed.
    """
    measured = _bands(results, tags.RELATIVE_SIZE, alpha)
    bands = {name: band for name, band in measured.items() if (band.mean > 0).any()}
    if not _has_challenger(results, bands):
        return None

    def draw(chart: Axes, arm: str, colour: str, style: str) -> None:
        _draw_band(chart, bands.get(arm), arm, colour, style)

    figure = draw_panels(results.comparison, bands, draw, "size relative to the step", page)
    sizes = np.concatenate([band.mean[band.mean > 0] for band in bands.values()])
    figure.axes[0].set_yscale("log")
    figure.axes[0].yaxis.set_major_formatter("{x:g}")
    figure.axes[0].yaxis.set_minor_formatter("")
    figure.axes[0].set_ylim(sizes.min() / 3, sizes.max() * 3)
    return figure


def draw_reached(results: Results, page: Page = WIDE) -> Figure | None:
    """Draw the share of seeds that have reached the target, over the steps it took them.

    Args:
        results: The runs.
        page: Where it is to be read.

    Returns:
        The picture; None without a target.
    """
    arms = results.comparison.arms
    costs = {arm.name: np.sort(costs_of(results, arm.name, "steps")) for arm in arms}
    if not any(len(costs[arm.name]) for arm in results.comparison.challengers):
        return None
    end = _last_step(results)

    def draw(chart: Axes, arm: str, colour: str, style: str) -> None:
        reached = costs[arm][np.isfinite(costs[arm])]
        shares = np.arange(len(reached) + 1) / max(1, len(costs[arm]))
        x = np.concatenate([[0.0], reached, [end]])
        y = np.concatenate([shares, shares[-1:]])
        chart.step(x, y, where="post", color=colour, linestyle=style, label=arm)
        chart.set_ylim(-0.03, 1.03)

    known = [name for name, cost in costs.items() if len(cost)]
    return draw_panels(results.comparison, known, draw, "share of seeds at the target", page)


def _has_challenger(results: Results, bands: dict[str, Band]) -> bool:
    return any(arm.name in bands for arm in results.comparison.challengers)


def _bands(results: Results, tag: str, alpha: float) -> dict[str, Band]:
    found = {}
    for arm in results.comparison.arms:
        runs = results.runs_of(arm.name).values()
        band = band_of([run.curves[tag] for run in runs if tag in run.curves], alpha)
        if band is not None:
            found[arm.name] = band
    return found


def _draw_band(chart: Axes, band: Band | None, arm: str, colour: str, style: str) -> None:
    # An arm without the curve keeps its place in the legend.
    line = chart.plot([], [], color=colour, linestyle=style, label=arm)[0]
    if band is not None:
        line.set_data(band.steps, band.mean)
        low, high = band.mean - band.half, band.mean + band.half
        chart.fill_between(band.steps, low, high, color=colour, alpha=0.18, linewidth=0)


def _cut_tails(figure: Figure, bands: list[Band], lower: float, upper: float) -> None:
    # One arm that blows up, or the first steps, would press all other curves flat.
    means = np.concatenate([band.mean for band in bands])
    finite = means[np.isfinite(means)]
    if not len(finite):
        return
    low, high = np.percentile(finite, (lower, 100 - upper))
    halves = np.concatenate([band.half for band in bands])
    margin = max(0.06 * (high - low), float(np.median(halves[np.isfinite(halves)]))) or 0.5
    figure.axes[0].set_ylim(low - margin, high + margin)


def _last_step(results: Results) -> float:
    metric = results.comparison.goal.metric
    curves = [run.curves[metric] for run in results.runs if metric in run.curves]
    return max((curve.steps[-1] for curve in curves if curve.steps), default=0.0)

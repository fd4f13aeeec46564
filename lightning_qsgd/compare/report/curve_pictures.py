"""Charts over the course of training: means with bands, and who has reached the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightning_qsgd.compare.gains import costs_of
from lightning_qsgd.compare.report.bands import Band, band_of, gain_curves
from lightning_qsgd.compare.report.panels import draw_panels
from lightning_qsgd.compare.results import Results
from lightning_qsgd.tracking import tags

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HIDDEN_TAIL = 2
"""Percent of the mean values that an axis may leave out at an end, such as the very first."""


def draw_bands(results: Results, tag: str, alpha: float) -> Figure | None:
    """Draw the mean of a curve over seeds, with a band, arm by arm.

    Args:
        results: The runs.
        tag: Which curve.
        alpha: One minus the confidence of the band.

    Returns:
        The picture; None if no arm recorded the curve.
    """
    bands = _bands(results, tag, alpha)
    if not _has_challenger(results, bands):
        return None

    def draw(chart: Axes, arm: str, colour: str, style: str) -> None:
        _draw_band(chart, bands.get(arm), arm, colour, style)

    figure = draw_panels(results.comparison, bands, draw, tag)
    falling = tag == results.comparison.goal.loss or not results.comparison.goal.higher_is_better
    tails = (0, HIDDEN_TAIL) if falling else (HIDDEN_TAIL, 0)
    _cut_tails(figure, list(bands.values()), *tails)
    return figure


def draw_gap(results: Results, alpha: float) -> Figure | None:
    """Draw the gain in the goal's metric over the baseline during training, arm by arm.

    The difference is taken seed by seed before it is averaged, so what the arms of a seed share
    drops out: it shows what learning curves on top of each other hide.

    Args:
        results: The runs.
        alpha: One minus the confidence of the band.

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
    figure = draw_panels(results.comparison, bands, draw, y_label)
    _cut_tails(figure, list(bands.values()), HIDDEN_TAIL, HIDDEN_TAIL)
    return figure


def draw_sizes(results: Results, alpha: float) -> Figure | None:
    """Draw the relative size of the perturbation during training, on a scale of powers of ten.

    Args:
        results: The runs.
        alpha: One minus the confidence of the band.

    Returns:
        The picture; None if nothing was perturbed.
    """
    measured = _bands(results, tags.RELATIVE_SIZE, alpha)
    bands = {name: band for name, band in measured.items() if (band.mean > 0).any()}
    if not _has_challenger(results, bands):
        return None

    def draw(chart: Axes, arm: str, colour: str, style: str) -> None:
        _draw_band(chart, bands.get(arm), arm, colour, style)

    figure = draw_panels(results.comparison, bands, draw, "size relative to the step")
    sizes = np.concatenate([band.mean[band.mean > 0] for band in bands.values()])
    figure.axes[0].set_yscale("log")
    figure.axes[0].yaxis.set_major_formatter("{x:g}")
    figure.axes[0].yaxis.set_minor_formatter("")
    figure.axes[0].set_ylim(sizes.min() / 3, sizes.max() * 3)
    return figure


def draw_reached(results: Results) -> Figure | None:
    """Draw the share of seeds that have reached the target, over the steps it took them.

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
    return draw_panels(results.comparison, known, draw, "share of seeds at the target")


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

"""Pictures of a report: panels, colours, gains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from lightning_qsgd.compare.report.document import Tone
from lightning_qsgd.compare.results.results import Comparison
from lightning_qsgd.compare.verdicts.analysis import Analysis, Challenge
from lightning_qsgd.compare.verdicts.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE = "#6b7280"
ARM = "#0072b2"
CONTROLS = ("#d55e00", "#009e73", "#cc79a7")
QUIET = "#68717b"

TONES: dict[Outcome, Tone] = {
    Outcome.BETTER: "good",
    Outcome.WORSE: "bad",
    Outcome.MATCHED: "warn",
    Outcome.BEATEN: "warn",
    Outcome.NO_CLAIM: "warn",
    Outcome.TOO_FEW: "warn",
    Outcome.UNDETECTED: "quiet",
    Outcome.EQUAL: "quiet",
    Outcome.IDENTICAL: "quiet",
}
"""Tone of a verdict in tables; pictures take the colours below. Words always say the same."""

INK: dict[Tone, str] = {
    "good": ARM,
    "bad": "#d55e00",
    "warn": "#b58900",
    "quiet": QUIET,
    "plain": "#1b1f24",
}


SHADE = "#f3f5f7"
"""Behind controls and references, which are not on trial."""

OWN = {BASELINE, ARM, *CONTROLS, *INK.values(), SHADE}
"""All colours that say something."""


@dataclass(frozen=True)
class Page:
    """Where a picture is to be read.

    Attributes:
        width: Inches; letters have the same size on every page.
        columns: Charts side by side, at most.
        height: Inches of a row of charts.
        row: Inches of a row of the picture of gains.
        dots: Dots per inch.
        legend: Size of the letters of a legend, in points.
    """

    width: float
    columns: int
    height: float
    row: float
    dots: int
    legend: float


WIDE = Page(width=11.0, columns=4, height=2.5, row=0.46, dots=150, legend=8.5)
NARROW = Page(width=4.2, columns=2, height=1.8, row=0.5, dots=110, legend=7.0)
"""A telephone, 400 pixels wide."""

DrawLine = Callable[["Axes", str, str, str], None]
"""Draws an arm into a chart: axes, arm, colour, style of the line."""


def lines_of_panels(comparison: Comparison) -> dict[str, list[str]]:
    """Say which arms each chart shows besides the baseline, by the chart's title.

    A control is shown beside the arms that it belongs to; one of no arm has a chart of its own.

    Example:
        >>> from lightning_qsgd.compare import Arm
        >>> from lightning_qsgd.training.convergence_callback import Goal
        >>> arms = (Arm("adamw", "baseline"), Arm("sine", controls=("noise",)))
        >>> arms += (Arm("noise", "control"), Arm("zero", "control"))
        >>> lines_of_panels(Comparison("x", Goal(), arms, (0,)))
        {'sine': ['sine', 'noise'], 'zero': ['zero']}
    """
    owned = {control for arm in comparison.arms for control in arm.controls}
    return {
        arm.name: [arm.name, *arm.controls]
        for arm in comparison.challengers
        if arm.name not in owned
    }


def draw_panels(
    comparison: Comparison, known: Collection[str], draw: DrawLine, y_label: str, page: Page = WIDE
) -> Figure:
    """Draw the charts with common axes.

    Args:
        comparison: The arms.
        known: Arms of which there is something to draw; charts without any are left out.
        draw: Draws one line.
        y_label: Name of the vertical axis.
        page: Where it is to be read.
    """
    from matplotlib.figure import Figure

    panels = {
        title: names
        for title, names in lines_of_panels(comparison).items()
        if not set(names).isdisjoint(known)
    }
    rows = ceil(len(panels) / page.columns)
    columns = ceil(len(panels) / rows)
    figure = Figure(figsize=(page.width, page.height * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    axes = list(grid.flat)
    for chart, (title, names) in zip(axes, panels.items(), strict=False):
        draw(chart, comparison.baseline.name, BASELINE, "--")
        for name, colour in zip(names, _colours(), strict=False):
            draw(chart, name, colour, "-" if colour == ARM else ":")
        chart.set_title(short(title, page), loc="left", fontweight="bold")
        if len(names) > 1:
            chart.legend(handles=chart.get_lines()[1:], loc="best", fontsize=page.legend)
    for chart in axes[len(panels) :]:
        chart.remove()
    figure.supylabel(y_label)
    figure.supxlabel("optimizer steps")
    return figure


def _colours() -> Iterator[str]:
    yield ARM
    while True:
        yield from CONTROLS


FAR = 4.0
"""Rows that lie this many times further out than the typical one are cut, with an arrow."""


def draw_gains(
    analysis: Analysis,
    judged: dict[str, Verdict],
    metric: str,
    page: Page = WIDE,
    into: Figure | None = None,
) -> Figure | None:
    """Draw mean gain, interval and every seed, in the colour of the verdict.

    Args:
        analysis: The statistics.
        judged: Verdict by arm.
        metric: Name of the metric.
        page: Where it is to be read.
        into: An empty part of a figure that it is drawn into; None for a figure of its own.

    Returns:
        The picture; None if no arm has pairs enough for an interval.
    """
    known = [challenge for challenge in analysis.challenges if challenge.gain.enough]
    on_trial = [challenge for challenge in known if challenge.arm.kind == "arm"]
    apart = [challenge for challenge in known if challenge.arm.kind != "arm"]
    rows = [
        Row(one, INK[TONES[judged[one.arm.name].outcome]], judged[one.arm.name].outcome.value)
        for one in on_trial + apart
    ]
    if not rows:
        return None
    figure = _draw_rows(rows, f"gain in {metric} over {analysis.baseline.arm.name}", page, into)
    if apart and on_trial:
        _shade(figure, -0.6, len(apart) - 0.5)
    return figure


def draw_twins(analysis: Analysis, metric: str, page: Page = WIDE) -> Figure | None:
    """Draw every arm together with its own controls, such as its product and linear twins.

    Each is drawn by its gain over the baseline; words say how far the arm is ahead of the control.

    Args:
        analysis: The statistics.
        metric: Name of the metric.
        page: Where it is to be read.

    Returns:
        The picture; None if no arm has a control, or too few pairs.
    """
    known = {one.arm.name: one for one in analysis.challenges if one.gain.enough}
    groups = [one for one in known.values() if not one.over_controls.keys().isdisjoint(known)]
    rows: list[Row] = []
    ends = []
    for one in groups:
        rows.append(Row(one, ARM, "the arm"))
        for name, colour in zip(one.over_controls, list(CONTROLS) * len(known), strict=False):
            if name in known:
                ahead, between = one.over_controls[name].mean, one.control_intervals[name]
                words = f"arm {ahead:+.2g} ({between.low:+.2g} to {between.high:+.2g})"
                rows.append(Row(known[name], colour, words))
        ends.append(len(rows))
    if not rows:
        return None
    figure = _draw_rows(rows, f"gain in {metric} over {analysis.baseline.arm.name}", page)
    for end, start in zip(ends[1::2], ends[0::2], strict=False):  # every other group on grey
        _shade(figure, len(rows) - end - 0.5, len(rows) - start - 0.5)
    return figure


@dataclass(frozen=True)
class Row:
    """A line of a picture of gains.

    Attributes:
        challenge: Whose gain over the baseline.
        colour: Of all that is drawn.
        words: What stands at its end.
    """

    challenge: Challenge
    colour: str
    words: str


def _draw_rows(rows: list[Row], label: str, page: Page, into: Figure | None = None) -> Figure:
    from matplotlib.figure import Figure

    figure = into or Figure(figsize=(page.width, page.row * len(rows) + 1.3), layout="constrained")
    axes = figure.subplots()
    reach = _reach([row.challenge for row in rows])
    axes.axvline(0, color=INK["plain"], linewidth=1)
    heights = range(len(rows) - 1, -1, -1)
    for height, row in zip(heights, rows, strict=True):
        _draw_row(axes, height, row.challenge, row.colour, reach)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(f"← worse{' ' * 24}better →\n{label}")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    label_rows = _label_beside if page is WIDE else _label_above
    label_rows(axes, list(heights), rows, page)
    return figure


def _shade(figure: Figure, low: float, high: float) -> None:
    axes = figure.axes[0]
    axes.axhspan(low, high, color=SHADE, zorder=0)
    axes.axhline(high, color=QUIET, linewidth=0.8)


LONGEST, LONGEST_IF_NARROW = 54, 23
"""Letters of a name or description that fit beside the picture; the fewer fit above a chart."""


def _label_beside(axes: Axes, heights: list[int], rows: list[Row], page: Page) -> None:
    named = [row.challenge.arm for row in rows]
    labels = [f"{short(arm.name, page)}\n{short(arm.description, page)}".strip() for arm in named]
    axes.set_yticks(heights, labels)
    words = axes.twinx()
    words.set_ylim(axes.get_ylim())
    words.set_yticks(heights, [row.words for row in rows])
    words.tick_params(axis="y", length=0)
    words.grid(visible=False)
    for text, row in zip(words.get_yticklabels(), rows, strict=True):
        text.set_color(row.colour)
        text.set_fontweight("bold")


def _label_above(axes: Axes, heights: list[int], rows: list[Row], page: Page) -> None:
    """Write name and words over the line: beside it they would leave no room for the chart."""
    axes.set_yticks([])
    across = axes.get_yaxis_transform()
    for height, row in zip(heights, rows, strict=True):
        name, place = short(row.challenge.arm.name, page), height + 0.33
        axes.text(0.01, place, name, transform=across, va="center", fontsize=9)
        axes.text(
            *(0.99, place, row.words),
            transform=across,
            va="center",
            ha="right",
            fontsize=8,
            fontweight="bold",
            color=row.colour,
        )


def short(text: str, page: Page) -> str:
    """Cut a name or description to what fits beside a chart of a page, with three dots."""
    longest = LONGEST if page is WIDE else LONGEST_IF_NARROW
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _draw_row(axes: Axes, height: int, challenge: Challenge, colour: str, reach: float) -> None:
    gain = challenge.gain
    seeds = np.clip(list(gain.gains.values()), -reach, reach)
    axes.plot(seeds, np.full(len(seeds), height), "o", color=colour, alpha=0.22, markersize=4)
    axes.hlines(height, challenge.interval.low, challenge.interval.high, color=colour, linewidth=3)
    if abs(gain.mean) <= reach:
        axes.plot(gain.mean, height, "D", color=colour, markersize=6.5)
        return
    side = 1 if gain.mean > 0 else -1
    text = f"{gain.mean:+.3g} →" if side > 0 else f"← {gain.mean:+.3g}"
    aligned = "right" if side > 0 else "left"
    axes.text(
        *(side * 0.98 * reach, height, text),
        horizontalalignment=aligned,
        verticalalignment="center",
        color=colour,
        fontweight="bold",
        backgroundcolor="white",
    )


def _reach(rows: list[Challenge]) -> float:
    """Return half the width of the axis: all intervals and seeds of the rows that are not far."""
    extents = [
        max(abs(x) for x in (row.interval.low, row.interval.high, *row.gain.gains.values()))
        for row in rows
    ]
    typical = float(np.median([extent for extent in extents if extent > 0] or [1.0]))
    near = [extent for extent in extents if 0 < extent <= FAR * typical]
    return 1.06 * max(near, default=1.0)

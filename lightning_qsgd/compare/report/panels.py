"""Pictures of a report: panels, colours, gains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
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

MOST_COLUMNS = 4
WIDTH, HEIGHT = 11.0, 2.5
"""Inches of the picture, and of one row of charts."""

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
    comparison: Comparison, known: Collection[str], draw: DrawLine, y_label: str
) -> Figure:
    """Draw the charts with common axes.

    Args:
        comparison: The arms.
        known: Arms of which there is something to draw; charts without any are left out.
        draw: Draws one line.
        y_label: Name of the vertical axis.
    """
    from matplotlib.figure import Figure

    panels = {
        title: names
        for title, names in lines_of_panels(comparison).items()
        if not set(names).isdisjoint(known)
    }
    rows = ceil(len(panels) / MOST_COLUMNS)
    columns = ceil(len(panels) / rows)
    figure = Figure(figsize=(WIDTH, HEIGHT * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    axes = list(grid.flat)
    for chart, (title, names) in zip(axes, panels.items(), strict=False):
        draw(chart, comparison.baseline.name, BASELINE, "--")
        for name, colour in zip(names, _colours(), strict=False):
            draw(chart, name, colour, "-" if colour == ARM else ":")
        chart.set_title(title, loc="left", fontweight="bold")
        chart.legend(handles=chart.get_lines()[1:], loc="best") if len(names) > 1 else None
    for chart in axes[len(panels) :]:
        chart.remove()
    figure.supylabel(y_label)
    figure.supxlabel("optimizer steps")
    return figure


def _colours() -> Iterator[str]:
    yield ARM
    while True:
        yield from CONTROLS


WIDTH, ROW = 11.0, 0.46
"""Inches of the picture, and of one row."""

FAR = 4.0
"""Rows that lie this many times further out than the typical one are cut, with an arrow."""


def draw_gains(analysis: Analysis, judged: dict[str, Verdict], metric: str) -> Figure | None:
    """Draw mean gain, interval and every seed, in the colour of the verdict.

    Args:
        analysis: The statistics.
        judged: Verdict by arm.
        metric: Name of the metric.

    Returns:
        The picture; None if no arm has pairs enough for an interval.
    """
    from matplotlib.figure import Figure

    known = [challenge for challenge in analysis.challenges if challenge.gain.enough]
    on_trial = [challenge for challenge in known if challenge.arm.kind == "arm"]
    rows = on_trial + [challenge for challenge in known if challenge.arm.kind != "arm"]
    if not rows:
        return None
    figure = Figure(figsize=(WIDTH, ROW * len(rows) + 1.3), layout="constrained")
    axes = figure.subplots()
    reach = _reach(rows)
    axes.axvline(0, color=INK["plain"], linewidth=1)
    apart = len(rows) - len(on_trial)
    if apart and on_trial:
        axes.axhspan(-0.6, apart - 0.5, color=SHADE, zorder=0)
        axes.axhline(apart - 0.5, color=QUIET, linewidth=0.8)
    for height, challenge in enumerate(reversed(rows)):
        _draw_row(axes, height, challenge, judged[challenge.arm.name], reach)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_yticks(range(len(rows)), [_named(challenge) for challenge in reversed(rows)])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        f"←  worse     gain in {metric} over {analysis.baseline.arm.name}     better  →"
    )
    axes.grid(axis="y", visible=False)
    words = axes.twinx()
    words.set_ylim(axes.get_ylim())
    labels = [judged[challenge.arm.name].outcome.value for challenge in reversed(rows)]
    words.set_yticks(range(len(rows)), labels)
    words.tick_params(axis="y", length=0)
    words.grid(visible=False)
    for label, challenge in zip(words.get_yticklabels(), reversed(rows), strict=True):
        label.set_color(INK[TONES[judged[challenge.arm.name].outcome]])
        label.set_fontweight("bold")
    return figure


LONGEST = 46
"""Letters of a description that fit beside the picture."""


def _named(challenge: Challenge) -> str:
    said = challenge.arm.description
    short = said if len(said) <= LONGEST else f"{said[: LONGEST - 3]}..."
    return f"{challenge.arm.name}\n{short}" if short else challenge.arm.name


def _draw_row(
    axes: Axes, height: int, challenge: Challenge, verdict: Verdict, reach: float
) -> None:
    gain, colour = challenge.gain, INK[TONES[verdict.outcome]]
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

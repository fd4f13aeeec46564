"""One small chart per arm, each beside the baseline and the arm's own controls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from math import ceil
from typing import TYPE_CHECKING

from lightning_qsgd.compare.report.palette import ARM, BASELINE, CONTROLS
from lightning_qsgd.compare.results import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
        >>> from lightning_qsgd.training.goal import Goal
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

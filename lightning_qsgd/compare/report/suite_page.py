"""The page of a suite: what the arms do over several tasks."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_qsgd.atomic_file import write_atomically
from lightning_qsgd.compare.report.document import (
    Block,
    Bullets,
    Cell,
    Heading,
    Notice,
    Paragraph,
    Picture,
    Table,
    to_html,
    to_markdown,
)
from lightning_qsgd.compare.report.panels import TONES
from lightning_qsgd.compare.report.pictures import LOOK, to_png
from lightning_qsgd.compare.report.tables import count, plain, share, signed, span
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.compare.statistics import Interval, Method
from lightning_qsgd.compare.verdicts.suite import (
    SuiteAnalysis,
    SuiteArm,
    SuiteOutcome,
    analyse_suite,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, MARKDOWN, PROFILE = "suite.html", "suite.md", "profile.png"
FARTHEST = 8.0
"""Factor at which the axis of the profiles ends."""


def write_suite(
    name: str, tasks: Mapping[str, Results], folder: Path, method: Method | None = None
) -> Path:
    """Write `suite.html` and `suite.md`, which need nothing besides themselves.

    Args:
        name: Name of the suite.
        tasks: Results by name of the task.
        folder: Existing folder, with the report of each task in a folder of its name.
        method: How sure the claims of the whole suite have to be.

    Returns:
        Path of `suite.html`.
    """
    analysis = analyse_suite(tasks, method)
    drawn = _picture(analysis) if find_spec("matplotlib") is not None else None
    if drawn is not None:
        write_atomically(folder / PROFILE, drawn.png)
    blocks = suite_blocks(name, analysis, drawn)
    write_atomically(folder / MARKDOWN, to_markdown(blocks).encode())
    write_atomically(folder / PAGE, to_html(f"{name} - suite", blocks).encode())
    return folder / PAGE


def suite_answer(analysis: SuiteAnalysis) -> str:
    """Say in one sentence what the suite shows."""
    names = [f"`{arm.arm}`" for arm in analysis.arms if arm.outcome is SuiteOutcome.BETTER]
    tasks = count(len(analysis.tasks), "task")
    if names:
        return f"**Better than `{analysis.baseline}` over {tasks}:** {', '.join(names)}."
    return f"**No arm** can be said to do better than `{analysis.baseline}` over {tasks}."


def suite_blocks(name: str, analysis: SuiteAnalysis, drawn: Picture | None) -> list[Block]:
    """Put the sections in the order in which a reader asks for them."""
    better = any(arm.outcome is SuiteOutcome.BETTER for arm in analysis.arms)
    poor = [task for task, found in analysis.tasks.items() if not found.design.is_comparison]
    blocks: list[Block] = [
        Heading(f"{name}: what helps over {analysis.baseline} on several tasks?", 1),
        Notice(suite_answer(analysis), "good" if better else "plain"),
        Bullets(tuple(f"`{arm.arm}`: {arm.outcome}." for arm in analysis.arms)),
    ]
    if poor:
        needed = max(found.design.seeds_needed for found in analysis.tasks.values())
        text = f"**Too few seeds** for a suite of this size: {needed} are needed on each task."
        blocks.append(Notice(text, "warn"))
    if drawn is not None:
        blocks += [Heading("Performance profiles"), drawn]
    places = tuple(f"`{task}/report.html` has the report of {task}." for task in analysis.tasks)
    return [
        *blocks,
        Heading("Verdicts, task by task"),
        _verdict_table(analysis),
        Heading("Over all tasks"),
        _total_table(analysis),
        Paragraph(_method(analysis)),
        Heading("Task by task"),
        Bullets(places),
    ]


def _verdict_table(analysis: SuiteAnalysis) -> Table:
    head = ("arm", *analysis.tasks)
    rows: list[tuple[str | Cell, ...]] = []
    for arm in analysis.arms:
        outcomes = [arm.verdicts[task].outcome for task in analysis.tasks]
        rows.append((arm.arm, *(Cell(outcome, TONES[outcome]) for outcome in outcomes)))
    return Table(head, tuple(rows), words=head)


def _total_table(analysis: SuiteAnalysis) -> Table:
    head = ("arm", "mean gain", "interval", "steps over the baseline's", "interval of it", "solved")
    rows = tuple((arm.arm, *_numbers(arm)) for arm in analysis.arms)
    return Table(head, rows)


def _numbers(arm: SuiteArm) -> tuple[str, ...]:
    ratio, gain = arm.ratio_interval, arm.interval
    if arm.outcome not in (SuiteOutcome.BETTER, SuiteOutcome.WORSE) and isfinite(gain.low):
        gain = Interval(min(gain.low, 0.0), max(gain.high, 0.0))
    between = f"{plain(ratio.low)} to {plain(ratio.high)}" if isfinite(ratio.low) else "-"
    solved = share(sum(map(isfinite, arm.factors)) / len(arm.factors))
    return signed(arm.gain), span(gain), plain(arm.step_ratio), between, solved


def _method(analysis: SuiteAnalysis) -> str:
    level = 100 * analysis.method.alpha
    return (
        "A gain is in standard deviations of the baseline's runs on the task, averaged over tasks. "
        "Steps are those to the target, as a geometric mean of ratios at equal seeds; a run that "
        "missed counts with the steps it was given. Intervals are by the hierarchical bootstrap, "
        "which draws tasks again and seeds within each, and hold together; that of the gain goes "
        "to zero where no task bears it out. An arm is better over the suite if its interval lies "
        "above zero, also over its controls, one task at least calls it better, and none calls it "
        "worse or matched by a control. Each task and the question over all of them get the same "
        f"share of {level:g} %: if nothing had any effect, the chance of any false claim on this "
        "page would be that or less. A task counts as solved if half of the seeds reached its "
        "target."
    )


def _picture(analysis: SuiteAnalysis) -> Picture | None:
    if not any(isfinite(f) for factors in analysis.profiles.values() for f in factors):
        return None
    from matplotlib import rc_context

    with rc_context(LOOK):
        png = to_png(draw_profiles(analysis))
    return Picture(
        PROFILE,
        png,
        "Share of tasks on which an arm needs at most so many times the steps of the quickest arm. "
        "Higher is better: at the left who is quickest, at the right who gets there at all. Dashed "
        f"grey: {analysis.baseline}.",
    )


def draw_profiles(analysis: SuiteAnalysis) -> Figure:
    """Draw the performance profile of every arm and of the baseline."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.5), layout="constrained")
    axes = figure.subplots()
    colours = colormaps["tab20"](range(20))
    for number, (arm, factors) in enumerate(analysis.profiles.items()):
        reached = [factor for factor in factors if factor <= FARTHEST]
        heights = [k / len(factors) for k in range(len(reached) + 1)]
        is_baseline = arm == analysis.baseline
        axes.step(
            [1.0, *reached, FARTHEST],
            [*heights, heights[-1]],
            where="post",
            color="#6b7280" if is_baseline else colours[(2 * number) % 20 + (number >= 10)],
            linestyle="--" if is_baseline else ("-", "-.", ":")[number % 3],
            label=arm,
        )
    axes.set_xscale("log", base=2)
    axes.set_xlim(1.0, FARTHEST)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("steps to the target over those of the quickest arm")
    axes.set_ylabel("share of tasks")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure

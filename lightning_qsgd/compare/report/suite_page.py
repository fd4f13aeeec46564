"""The page of a suite: what the arms do over several tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_qsgd.atomic_file import write_atomically
from lightning_qsgd.compare.report.answer import few_seeds
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
from lightning_qsgd.compare.report.panels import ARM, BASELINE, NARROW, TONES, WIDE, Page, short
from lightning_qsgd.compare.report.pictures import LOOK, to_picture
from lightning_qsgd.compare.report.tables import UNKNOWN, count, plain, share, signed, span
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.compare.results.run_table import as_csv
from lightning_qsgd.compare.verdicts.suite import SuiteAnalysis, SuiteArm, SuiteOutcome
from lightning_qsgd.compare.verdicts.verdict import Verdict, verdicts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE, MARKDOWN, PROFILE, TABLE = "suite.html", "suite.md", "profile.png", "suite.csv"
FARTHEST = 8.0
"""Factor at which the axis of the profiles ends."""


def write_suite(
    name: str,
    tasks: Mapping[str, Results],
    analysis: SuiteAnalysis,
    folder: Path,
    stored: Sequence[str] = (),
) -> Path:
    """Write `suite.html`, `suite.md` and `suite.csv`, which need nothing besides themselves.

    Args:
        name: Name of the suite.
        tasks: Results by name of the task.
        analysis: Their statistics.
        folder: Existing folder, with the report of each task in a folder of its name.
        stored: Other tasks with results in the folder, which the page leaves out.

    Returns:
        Path of `suite.html`.
    """
    drawn = _picture(analysis) if find_spec("matplotlib") is not None else None
    if drawn is not None:
        write_atomically(folder / PROFILE, drawn.png)
    blocks = suite_blocks(name, analysis, drawn, stored)
    write_atomically(folder / MARKDOWN, to_markdown(blocks).encode())
    write_atomically(folder / TABLE, suite_csv(analysis, tasks).encode())
    write_atomically(folder / PAGE, to_html(f"{name} - suite", blocks).encode())
    return folder / PAGE


ALL = "(all)"
"""What stands for a task in the rows over all of them."""


def suite_csv(analysis: SuiteAnalysis, tasks: Mapping[str, Results]) -> str:
    """Lay out one row per arm and task, and one per arm over all tasks.

    Args:
        analysis: The statistics.
        tasks: Results by name of the task.

    Returns:
        Columns: arm, task, kind, verdict, unit of the gain, number of pairs, mean gain, ends of its
        interval, p-value after Holm's correction, steps over the baseline's with their interval,
        and the share of tasks solved. Empty where it does not apply.
    """
    head = ["arm", "task", "kind", "verdict", "unit", "pairs", "gain", "low", "high", "p_holm"]
    head += ["step_ratio", "step_ratio_low", "step_ratio_high", "solved"]
    rows: list[tuple[object, ...]] = []
    for task, found in analysis.tasks.items():
        judged = verdicts(found)
        for one in found.challenges:
            lead = (one.arm.name, task, one.arm.kind, judged[one.arm.name].outcome)
            numbers = (one.gain.mean, one.interval.low, one.interval.high, one.p_holm)
            unit = tasks[task].comparison.goal.metric
            rows.append((*lead, unit, one.gain.pairs, *numbers, "", "", "", ""))
    for task in analysis.unanswered:
        rows += [(a.arm, task, "arm", a.verdicts[task].outcome, *[""] * 10) for a in analysis.arms]
    for arm_name, found_in in analysis.partly.items():
        left = [task for task in analysis.tasks if task not in found_in]
        rows += [(arm_name, task, "arm", SKIPPED, *[""] * 10) for task in left]
    for arm in analysis.arms:
        gain, ratio = arm.shown_interval, arm.ratio_interval
        total = (arm.arm, ALL, "arm", arm.outcome, "standard deviations", "")
        ends = (arm.gain, gain.low, gain.high, "", arm.step_ratio, ratio.low, ratio.high)
        rows.append((*total, *ends, _solved(arm)))
    return as_csv(head, rows)


def suite_answer(analysis: SuiteAnalysis) -> str:
    """Say in one sentence what the suite shows."""
    names = [f"`{arm.arm}`" for arm in analysis.arms if arm.outcome is SuiteOutcome.BETTER]
    tasks = count(len(analysis.tasks) + len(analysis.unanswered), "task")
    if names:
        return f"**Better than `{analysis.baseline}` over {tasks}:** {', '.join(names)}."
    if not analysis.arms:
        if not analysis.partly:
            return "**Only controls were compared**, so there is nothing to recommend."
        return "**No answer:** each arm is skipped by a task, so it is judged task by task only."
    if all(arm.outcome is SuiteOutcome.NO_CLAIM for arm in analysis.arms):
        return f"**No answer:** on none of {tasks} is a claim possible."
    which = "No arm that all tasks have" if analysis.partly else "No arm"
    return f"**{which}** can be said to do better than `{analysis.baseline}` over {tasks}."


def suite_blocks(
    name: str, analysis: SuiteAnalysis, drawn: Picture | None, stored: Sequence[str] = ()
) -> list[Block]:
    """Put the sections in the order in which a reader asks for them."""
    better = any(arm.outcome is SuiteOutcome.BETTER for arm in analysis.arms)
    poor = [found for found in analysis.tasks.values() if not found.design.is_comparison]
    blocks: list[Block] = [
        Heading(f"{name}: what helps over {analysis.baseline} on several tasks?", 1),
        Notice(suite_answer(analysis), "good" if better else "plain"),
        *(Notice(text, "warn") for text in words_for_stored(stored)),
        *_arms_left_out(analysis),
        *_failed_tasks(analysis),
        *_flat_tasks(analysis),
        *_aimless_tasks(analysis),
        Bullets(
            (
                *(f"`{arm.arm}`: {arm.outcome}." for arm in analysis.arms),
                *(_skipped(arm, analysis) for arm in analysis.partly),
            )
        ),
    ]
    if poor:
        design = max((found.design for found in poor), key=lambda one: one.seeds_needed)
        text = f"**Too few seeds** for a suite of this size. {few_seeds(design)}"
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


def words_for_stored(tasks: Sequence[str]) -> list[str]:
    """Name tasks whose results are there and do not count; nothing to say without any.

    Example:
        >>> words_for_stored([])
        []
    """
    if not tasks:
        return []
    names = ", ".join(f"`{task}`" for task in tasks)
    return [
        f"**Left out, with results in this folder:** {names}. The answer holds if they were not "
        "left out for what they showed: they have no share of the level here."
    ]


def _failed_tasks(analysis: SuiteAnalysis) -> list[Block]:
    return [
        Notice(
            f"**`{task}` could not answer.** It counts as a task without a claim; gains, steps and "
            f"profiles are of the other tasks. {reason}",
            "warn",
        )
        for task, reason in analysis.unanswered.items()
    ]


def _arms_left_out(analysis: SuiteAnalysis) -> list[Block]:
    if not analysis.left_out:
        return []
    names = ", ".join(f"`{arm}`" for arm in analysis.left_out)
    text = "Tasks have runs of them from when they were: claims are corrected for them, too."
    return [Notice(f"**No longer on trial:** {names}. {text}", "warn")]


def _flat_tasks(analysis: SuiteAnalysis) -> list[Block]:
    return [
        Notice(
            f"**No gain over the suite:** all runs of `{analysis.baseline}` on `{task}` end at one "
            "value, or fewer than two ended. A gain is counted in standard deviations of these "
            "runs, so there is a dash, and no arm can be better or worse over the suite.",
            "warn",
        )
        for task in analysis.flat
    ]


def _aimless_tasks(analysis: SuiteAnalysis) -> list[Block]:
    if not analysis.aimless:
        return []
    names = ", ".join(f"`{task}`" for task in analysis.aimless)
    text = "Steps, profiles and the share of tasks solved are of the tasks that have one."
    return [Notice(f"**Without a target:** {names}. {text}")]


SKIPPED = "skipped"
"""What stands for the verdict of an arm on a task that skips it."""


def _skipped(arm: str, analysis: SuiteAnalysis) -> str:
    left = [f"`{task}`" for task in analysis.tasks if task not in analysis.partly[arm]]
    return f"`{arm}`: judged task by task only, since it is skipped by {', '.join(left)}."


def _verdict_table(analysis: SuiteAnalysis) -> Table:
    head = ("arm", *analysis.tasks, *analysis.unanswered)
    rows: list[tuple[str | Cell, ...]] = []
    known = {arm.arm: arm.verdicts for arm in analysis.arms} | analysis.partly
    for arm, verdicts_of in known.items():
        cells = [_verdict_cell(task, verdicts_of, analysis) for task in head[1:]]
        rows.append((arm, *cells))
    return Table(head, tuple(rows), words=head)


def _verdict_cell(task: str, known: Mapping[str, Verdict], analysis: SuiteAnalysis) -> str | Cell:
    if task not in known:  # nobody knows what a task has that could not be carried out
        return SKIPPED if task in analysis.tasks else UNKNOWN
    return Cell(known[task].outcome, TONES[known[task].outcome])


def _total_table(analysis: SuiteAnalysis) -> Table:
    head = ("arm", "mean gain", "interval", "steps over the baseline's", "interval of it", "solved")
    rows = tuple((arm.arm, *_numbers(arm)) for arm in analysis.arms)
    return Table(head, rows)


def _numbers(arm: SuiteArm) -> tuple[str, ...]:
    ratio, gain = arm.ratio_interval, arm.shown_interval
    between = f"{plain(ratio.low)} to {plain(ratio.high)}" if isfinite(ratio.low) else "-"
    solved = share(_solved(arm))
    return signed(arm.gain), span(gain), plain(arm.step_ratio), between, solved


def _solved(arm: SuiteArm) -> float:
    return sum(map(isfinite, arm.factors)) / len(arm.factors) if arm.factors else nan


def _method(analysis: SuiteAnalysis) -> str:
    level = 100 * analysis.method.alpha
    return (
        "A gain is in standard deviations of the baseline's runs on the task, averaged over tasks. "
        "Steps are those to the target, as a geometric mean of ratios at equal seeds; a run that "
        "missed counts with the steps it was given. Intervals are by the hierarchical bootstrap, "
        "which draws tasks again and seeds within each, and hold together; that of the gain goes "
        "to zero where no task bears it out. An arm is better over the suite if its interval lies "
        "above zero, also over its controls, one task at least calls it better, and none calls it "
        "worse, or matched or beaten by a control, or makes no claim possible. An arm that a task "
        "skips has no place here, nor in the profiles. A dash stands where a task has fewer than "
        "three pairs, or a baseline whose runs do not spread. Each task and the question over all "
        "of them get the same "
        f"share of {level:g} %: if nothing had any effect, the chance of any false claim on this "
        "page would be that or less. A task counts as solved if half of the seeds reached its "
        "target."
    )


def _picture(analysis: SuiteAnalysis) -> Picture | None:
    is_solved = any(isfinite(f) for factors in analysis.profiles.values() for f in factors)
    if not is_solved or analysis.profiles.keys() == {analysis.baseline}:
        return None
    from matplotlib import rc_context

    with rc_context(LOOK):
        return to_picture(
            PROFILE,
            draw_profiles(analysis, WIDE),
            draw_profiles(analysis, NARROW),
            "Share of tasks on which an arm needs at most so many times the steps of the quickest "
            "arm. Higher is better: at the left who is quickest, at the right who gets there at "
            f"all. Dashed grey: {analysis.baseline}.",
        )


def draw_profiles(analysis: SuiteAnalysis, page: Page = WIDE) -> Figure:
    """Draw the performance profile of every arm, each beside the baseline's.

    On few tasks many curves coincide, so that one panel for all of them could not be read.
    """
    from matplotlib.figure import Figure

    arms = [arm for arm in analysis.profiles if arm != analysis.baseline]
    columns = min(len(arms), page.columns)
    rows = -(-len(arms) // columns)
    figure = Figure(figsize=(page.width, 0.7 + 1.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, arm in zip(panels, arms, strict=False):
        _draw_profile(panel, analysis.profiles[analysis.baseline], color=BASELINE, linestyle="--")
        _draw_profile(panel, analysis.profiles[arm], color=ARM, linewidth=2)
        panel.set_title(short(arm, page), fontsize=page.legend)
        panel.tick_params(labelsize=page.legend)
    for panel in panels[len(arms) :]:
        panel.set_axis_off()
    panel = figure.axes[0]  # the others share its axes
    panel.set_xscale("log", base=2)
    panel.set_xlim(1.0, FARTHEST)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set_ylim(-0.05, 1.05)
    figure.supxlabel("steps to the target over those of the quickest arm", fontsize=page.legend)
    figure.supylabel("share of tasks", fontsize=page.legend)
    return figure


def _draw_profile(panel: Axes, factors: Sequence[float], **style: Any) -> None:
    reached = [factor for factor in factors if factor <= FARTHEST]
    heights = [k / len(factors) for k in range(len(reached) + 1)]
    panel.step([1.0, *reached, FARTHEST], [*heights, heights[-1]], where="post", **style)

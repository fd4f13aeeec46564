"""The section that shows published figures beside the measured ones."""

from collections.abc import Callable
from math import isfinite, isnan, nan
from statistics import fmean

from lightning_qsgd.compare.analysis import Analysis, ArmSummary
from lightning_qsgd.compare.gains import cost_ratio, costs_of
from lightning_qsgd.compare.report.document import Block, Heading, Paragraph, Table
from lightning_qsgd.compare.report.numbers import UNKNOWN, count, plain, signed, span
from lightning_qsgd.compare.results import Results


def published_section(results: Results, analysis: Analysis) -> list[Block]:
    """Lay published figures beside the measured ones; empty if none are quoted.

    Args:
        results: The runs, with the figures in their comparison.
        analysis: Their statistics.
    """
    published = results.comparison.published
    rows = tuple(
        (arm, _title(measure, results), str(figure), _MEASURED[measure](results, analysis, arm))
        for arm, figures in published.figures.items()
        for measure, figure in figures.items()
    )
    if not rows:
        return []
    return [
        Heading("Beside published figures"),
        Paragraph(
            f"Published: {published.source}, quoted as printed. Measured: in this comparison, on "
            "its own data and machine, so that the figures themselves need not agree. Times are "
            "those of training without validation, from `timing.csv`: of an epoch, the median "
            "ratio at equal seeds; to the target, the ratio of the medians."
        ),
        Table(("arm", "figure", "published", "measured here"), rows, words=("figure",)),
    ]


def _title(measure: str, results: Results) -> str:
    goal, baseline = results.comparison.goal, results.comparison.baseline.name
    target = "the target" if goal.target is None else f"{goal.metric} = {goal.target:g}"
    return {
        "final": f"final {goal.metric}",
        "gain": f"gain over {baseline}",
        "epochs_to_target": f"epochs to {target}",
        "time_per_epoch": f"time per epoch, against {baseline}",
        "time_to_target": f"time to {target}, against {baseline}",
    }[measure]


def _final(results: Results, analysis: Analysis, arm: str) -> str:
    summary = _summary(analysis, arm)
    runs = count(len(summary.values), "run")
    return f"{plain(summary.mean)} ± {plain(summary.sd)} (mean and sd of {runs})"


def _gain(results: Results, analysis: Analysis, arm: str) -> str:
    gains = {challenge.arm.name: challenge.gain for challenge in analysis.challenges}
    if arm not in gains:
        return UNKNOWN
    level = f"{100 * (1 - analysis.method.alpha):g} %"
    return f"{signed(gains[arm].mean)} ({level} by t: {span(gains[arm].t)})"


def _epochs(results: Results, analysis: Analysis, arm: str) -> str:
    """Give the median of all runs and, as papers do, the mean of those that got there."""
    costs = costs_of(results, arm, "epochs")
    reached = [cost for cost in costs if isfinite(cost)]
    if not reached:
        return "never" if costs else UNKNOWN
    return (
        f"median {plain(_summary(analysis, arm).epochs_to_target)}; mean {plain(fmean(reached))} "
        f"of the {len(reached)} of {len(costs)} that reached it"
    )


def _time_per_epoch(results: Results, analysis: Analysis, arm: str) -> str:
    return _change(cost_ratio(results, arm, "epoch"))


def _time_to_target(results: Results, analysis: Analysis, arm: str) -> str:
    ours, theirs = _summary(analysis, arm).seconds_to_target, analysis.baseline.seconds_to_target
    if not (isfinite(ours) and isfinite(theirs)):
        return f"{plain(ours)}, against {plain(theirs)}"
    return _change(ours / theirs if theirs > 0 else nan)


def _change(ratio: float) -> str:
    return UNKNOWN if isnan(ratio) else f"{100 * (ratio - 1):+.0f} %"


def _summary(analysis: Analysis, arm: str) -> ArmSummary:
    summaries = [analysis.baseline, *(challenge.summary for challenge in analysis.challenges)]
    return next(summary for summary in summaries if summary.arm.name == arm)


_MEASURED: dict[str, Callable[[Results, Analysis, str], str]] = {
    "final": _final,
    "gain": _gain,
    "epochs_to_target": _epochs,
    "time_per_epoch": _time_per_epoch,
    "time_to_target": _time_to_target,
}

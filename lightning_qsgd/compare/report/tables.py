"""Tables of a report and the numbers in them."""

from collections.abc import Sequence
from math import isfinite, isinf, isnan

from lightning_qsgd.compare.report.document import Cell, Table
from lightning_qsgd.compare.report.panels import TONES
from lightning_qsgd.compare.results.gains import final_values
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.compare.statistics import Interval
from lightning_qsgd.compare.verdicts.analysis import Analysis, ArmSummary, Challenge
from lightning_qsgd.compare.verdicts.verdict import Verdict

UNKNOWN = "-"


def plain(value: float) -> str:
    """Write a number with four digits; what is unknown is a dash, what never came is "never".

    Example:
        >>> plain(0.123456), plain(float("nan")), plain(float("inf"))
        ('0.1235', '-', 'never')
    """
    if isnan(value):
        return UNKNOWN
    return f"{value:.4g}" if isfinite(value) else "never"


def signed(value: float) -> str:
    """Write a difference with its sign; zero is exactly zero and has none.

    Example:
        >>> signed(0.0123), signed(0.0), signed(float("nan"))
        ('+0.0123', '0', '-')
    """
    if isnan(value):
        return UNKNOWN
    return f"{value:+.3g}" if value else "0"


def span(interval: Interval) -> str:
    """Write an interval.

    Example:
        >>> span(Interval(-0.01, 0.02))
        '-0.01 to +0.02'
    """
    if isnan(interval.low):
        return UNKNOWN
    low, high = (f"{end:+.2g}" if end else "0" for end in (interval.low, interval.high))
    return f"{low} to {high}"


def known(interval: Interval, bounds: bool = False) -> str:
    """Write a number of which perhaps a bound is known, or the bounds of one.

    Example:
        >>> known(Interval(0.7, 0.7)), known(Interval(1.2, float("inf"))), known(Interval(0, 0.5))
        ('0.7', 'more than 1.2', 'less than 0.5')
    """
    low, high = interval.low, interval.high
    if low == high and not bounds:
        return plain(low)
    if isfinite(high):
        return f"{plain(low)} to {plain(high)}" if low > 0 else f"less than {plain(high)}"
    return f"more than {plain(low)}" if low > 0 else "unknown"


def chance(p: float) -> str:
    """Write a p-value.

    Example:
        >>> chance(0.04321), chance(0.00001), chance(1.0)
        ('0.043', '< 0.001', '1')
    """
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def share(value: float) -> str:
    """Write a share as a percentage.

    Example:
        >>> share(0.625)
        '62 %'
    """
    return UNKNOWN if isnan(value) else f"{100 * value:.0f} %"


def count(number: int, what: str) -> str:
    """Write a number of things.

    Example:
        >>> count(1, "seed"), count(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


def verdict_table(analysis: Analysis, judged: dict[str, Verdict]) -> Table:
    """Lay out what is claimed about each arm, and why."""
    rows = []
    apart = [one for one in analysis.challenges if one.arm.kind != "arm"]
    for challenge in [*analysis.on_trial, *apart]:
        arm, verdict = challenge.arm, judged[challenge.arm.name]
        what = arm.description or ("control" if arm.kind == "control" else "")
        label = Cell(verdict.outcome, TONES[verdict.outcome])
        rows.append((arm.name, arm.kind, label, verdict.reason, what))
    head = ("arm", "kind", "verdict", "evidence", "what it is")
    return Table(head, tuple(rows), words=head)


def gain_table(analysis: Analysis, challenges: Sequence[Challenge]) -> Table:
    """Lay out gains over the baseline.

    Args:
        analysis: The statistics.
        challenges: Which of its arms to show.
    """
    head = (
        *("arm", "pairs", "mean gain", _together(analysis), "p (Holm)"),
        *("Cohen's d", "wins", "detectable gain", "seeds for half of it"),
    )
    rows = tuple(
        (
            challenge.arm.name,
            str(challenge.gain.pairs),
            signed(challenge.gain.mean),
            span(challenge.interval),
            chance(challenge.p_holm),
            _effect(challenge.gain.effect),
            share(challenge.gain.improvement),
            "none" if isinf(challenge.detectable) else plain(challenge.detectable),
            str(challenge.pairs_for_half or UNKNOWN),
        )
        for challenge in challenges
    )
    return Table(head, rows, folded=f"The numbers of {count(len(rows), 'arm')}")


def control_table(analysis: Analysis) -> Table | None:
    """Lay out the gains of arms over their own controls; None if no arm has one."""
    head = ("arm", "control", "pairs", "mean gain", _together(analysis), "p (Holm)")
    rows = tuple(
        (
            challenge.arm.name,
            name,
            str(gain.pairs),
            signed(gain.mean),
            span(challenge.control_intervals[name]),
            chance(challenge.p_over_controls[name]),
        )
        for challenge in analysis.challenges
        for name, gain in challenge.over_controls.items()
    )
    title = f"The numbers of {count(len(rows), 'pair')}"
    return Table(head, rows, words=("control",), folded=title) if rows else None


def _together(analysis: Analysis) -> str:
    return f"{analysis.method.confidence} together"


def arm_table(results: Results, analysis: Analysis) -> Table:
    """Lay out what every arm came to on its own."""
    target = results.comparison.goal.target
    head = ["arm", "runs", "mean", "sd", "median"]
    if target is not None:
        head += ["reached target", "steps to it", "epochs to it", "seconds to it"]
    head += ["seconds per epoch", "time per step", "relative size"]
    summaries = [analysis.baseline, *(challenge.summary for challenge in analysis.challenges)]
    rows = tuple(_arm_row(summary, target is not None) for summary in summaries)
    return Table(tuple(head), rows, folded=f"Means, costs and sizes of {count(len(rows), 'arm')}")


def horizon_table(analysis: Analysis) -> Table:
    """Lay out how long training has to be for the target, over what the baseline needs."""
    head = ("arm", "seeds", "needs", "baseline needs", "ratio", _together(analysis))
    rows = tuple(
        (
            *(one.arm.name, str(found.seeds), known(found.need), known(found.baseline)),
            *(known(found.ratio), known(found.interval, bounds=True)),
        )
        for one in analysis.on_trial
        if (found := one.horizon) is not None
    )
    return Table(head, rows)


def horizon_means(results: Results) -> Table:
    """Lay out the mean metric at the end of each horizon."""
    parts = {**results.horizons, results.comparison.length: results}
    names = [arm.name for arm in next(iter(parts.values())).comparison.arms]
    columns = [{name: final_values(part, name) for name in names} for part in parts.values()]
    rows = tuple(
        (name, *(plain(sum(c[name].values()) / len(c[name])) if c[name] else "-" for c in columns))
        for name in names
    )
    return Table(("arm", *map(str, parts)), rows, folded="The mean metric at each length")


def other_metric_table(results: Results) -> Table | None:
    """Lay out the means of all final metrics but the goal's; None if there is no other."""
    metrics = {metric for run in results.runs for metric in run.final}
    others = sorted(metrics - {results.comparison.goal.metric})
    rows = []
    for arm in results.comparison.arms:
        runs = results.runs_of(arm.name).values()
        columns = [[run.final[m] for run in runs if m in run.final] for m in others]
        rows.append((arm.name, *(plain(sum(c) / len(c)) if c else UNKNOWN for c in columns)))
    head = ("arm", *(f"mean {metric}" for metric in others))
    return Table(head, tuple(rows), folded="Means of the other metrics") if others else None


def tuning_table(results: Results) -> Table:
    """Lay out what tuning chose, and from which range."""
    head = ("arm", "trials", "tuning seeds", "setting", "searched", "best", "at the edge")
    rows = tuple(
        (
            tuned.arm,
            str(tuned.trials),
            ", ".join(map(str, tuned.seeds)),
            value.name,
            f"{value.low:g} to {value.high:g} ({value.scale})",
            plain(value.best),
            Cell("yes", "warn") if value.at_edge else "no",
        )
        for tuned in results.tuning
        for value in tuned.values
    )
    return Table(head, rows, words=("tuning seeds", "setting", "at the edge"))


def _arm_row(summary: ArmSummary, with_target: bool) -> tuple[str, ...]:
    diverged = f" ({len(summary.diverged)} diverged)" if summary.diverged else ""
    row = [summary.arm.name, f"{len(summary.values) + len(summary.diverged)}{diverged}"]
    row += [plain(summary.mean), plain(summary.sd), plain(summary.median)]
    if with_target:
        row.append(share(summary.reached))
        row += map(
            plain, (summary.steps_to_target, summary.epochs_to_target, summary.seconds_to_target)
        )
    cost = plain(summary.step_cost)
    row += [plain(summary.epoch_seconds), f"x {cost}" if cost != UNKNOWN else cost]
    return (*row, plain(summary.relative_size))


def _effect(d: float) -> str:
    return "no spread" if abs(d) == float("inf") else signed(d)


def trained_by(results: Results) -> dict[str, str]:
    """Say by arm which optimizers and schedules its runs had; an arm that nobody noted is left out.

    Args:
        results: The runs.
    """
    found = {
        arm.name: dict.fromkeys(run.optimizers for run in results.runs_of(arm.name).values())
        for arm in results.comparison.arms
    }
    return {arm: " or ".join(filter(None, words)) for arm, words in found.items() if any(words)}

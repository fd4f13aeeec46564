"""The tables of a report."""

from lightning_qsgd.compare.analysis import Analysis, ArmSummary
from lightning_qsgd.compare.report.document import Cell, Table
from lightning_qsgd.compare.report.numbers import UNKNOWN, chance, plain, share, signed, span
from lightning_qsgd.compare.report.palette import TONES
from lightning_qsgd.compare.results import Results
from lightning_qsgd.compare.verdict import Verdict


def verdict_table(analysis: Analysis, judged: dict[str, Verdict]) -> Table:
    """Lay out what is claimed about each arm, and why."""
    rows = []
    for challenge in analysis.challenges:
        arm, verdict = challenge.arm, judged[challenge.arm.name]
        what = arm.description or ("control" if arm.kind == "control" else "")
        label = Cell(verdict.outcome, TONES[verdict.outcome])
        rows.append((arm.name, arm.kind, label, verdict.reason, what))
    head = ("arm", "kind", "verdict", "evidence", "what it is")
    return Table(head, tuple(rows), words=head)


def gain_table(analysis: Analysis) -> Table:
    """Lay out the gains over the baseline."""
    level = f"{100 * (1 - analysis.method.alpha):g} %"
    head = (
        *("arm", "pairs", "mean gain", f"{level} by t", f"{level} by BCa", "p (Holm)"),
        *("Cohen's d", "wins", "detectable gain", "seeds for half of it"),
    )
    rows = tuple(
        (
            challenge.arm.name,
            str(challenge.gain.pairs),
            signed(challenge.gain.mean),
            span(challenge.gain.t),
            span(challenge.gain.bca),
            chance(challenge.p_holm),
            _effect(challenge.gain.effect),
            share(challenge.gain.improvement),
            plain(challenge.detectable),
            str(challenge.pairs_for_half or UNKNOWN),
        )
        for challenge in analysis.challenges
    )
    return Table(head, rows)


def control_table(analysis: Analysis) -> Table | None:
    """Lay out the gains of arms over their own controls; None if no arm has one."""
    level = f"{100 * (1 - analysis.method.alpha):g} %"
    head = ("arm", "control", "pairs", "mean gain", f"{level} by t", f"{level} by BCa", "p (Holm)")
    rows = tuple(
        (
            challenge.arm.name,
            name,
            str(gain.pairs),
            signed(gain.mean),
            span(gain.t),
            span(gain.bca),
            chance(challenge.p_over_controls[name]),
        )
        for challenge in analysis.challenges
        for name, gain in challenge.over_controls.items()
    )
    return Table(head, rows, words=("control",)) if rows else None


def arm_table(results: Results, analysis: Analysis) -> Table:
    """Lay out what every arm came to on its own."""
    target = results.comparison.goal.target
    head = ["arm", "runs", "mean", "sd", "median"]
    if target is not None:
        head += ["reached target", "steps to it", "epochs to it", "seconds to it"]
    head += ["seconds per epoch", "time per step", "relative size"]
    summaries = [analysis.baseline, *(challenge.summary for challenge in analysis.challenges)]
    rows = tuple(_arm_row(summary, target is not None) for summary in summaries)
    return Table(tuple(head), rows)


def other_metric_table(results: Results) -> Table | None:
    """Lay out the means of all final metrics but the goal's; None if there is no other."""
    metrics = {metric for run in results.runs for metric in run.final}
    others = sorted(metrics - {results.comparison.goal.metric})
    rows = []
    for arm in results.comparison.arms:
        runs = results.runs_of(arm.name).values()
        columns = [[run.final[m] for run in runs if m in run.final] for m in others]
        rows.append((arm.name, *(plain(sum(c) / len(c)) if c else UNKNOWN for c in columns)))
    return Table(("arm", *(f"mean {metric}" for metric in others)), tuple(rows)) if others else None


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

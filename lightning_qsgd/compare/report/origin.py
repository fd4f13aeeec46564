"""Where results came from, what sets arms apart besides their lines, and published figures."""

from collections.abc import Callable
from math import isfinite, isnan, nan
from statistics import fmean

from lightning_qsgd.compare.report.document import Block, Bullets, Code, Heading, Paragraph, Table
from lightning_qsgd.compare.report.tables import UNKNOWN, count, plain, signed, span, trained_by
from lightning_qsgd.compare.results.gains import cost_ratio, costs_of, measured_apart
from lightning_qsgd.compare.results.pairing import ended_apart, trained_apart
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.compare.statistics.power import COST_OF_THREE_TESTS
from lightning_qsgd.compare.verdicts.analysis import Analysis, ArmSummary
from lightning_qsgd.training.recorded_run import (
    EPOCH_BATCHES,
    TRAINED_ON,
    TRAINING_BATCHES,
    TRAINING_ROWS,
)
from lightning_qsgd.training.wrapping import schedules_of, with_pace

RECOMPUTE = """\
import csv
import numpy as np
from scipy import stats

metric, arm, baseline, sign = {metric!r}, {arm!r}, {baseline!r}, {sign}
with open("results.csv") as file:
    rows = list(csv.DictReader(file))
value = {{(row["arm"], row["seed"]): float(row[metric]) for row in rows if row["status"] == "done"}}
seeds = [seed for name, seed in value if name == arm and (baseline, seed) in value]
gains = np.array([sign * (value[arm, seed] - value[baseline, seed]) for seed in seeds])
gains = gains[np.isfinite(gains)]
test = stats.ttest_1samp(gains, 0)
bca = stats.bootstrap((gains,), np.mean, n_resamples={resamples}, method="BCa",
                      confidence_level={level}, rng=np.random.default_rng({seed}))
print(gains.mean(), test.confidence_interval({level}), bca.confidence_interval)
print("d", gains.mean() / gains.std(ddof=1), "wins", np.mean((gains > 0) + (gains == 0) / 2))
"""


def recompute_section(results: Results, analysis: Analysis) -> list[Block]:
    """Say how every number follows from the tables beside the report."""
    blocks: list[Block] = [
        Heading("Recompute it"),
        Paragraph(
            "`results.csv` has one row per run with every digit; mean, sd, median, gains, "
            "intervals, p-values, wins and d follow from the column of the metric, the rest from "
            "`steps_to_target`, `epochs_to_target`, `relative_size` (medians over seeds; an even "
            "number of costs takes the lower of the middle two) and `parameters`. Columns such as "
            "`accuracy at 100` hold the metric at the end of shorter runs. Wall-clock "
            "times, which never repeat, are in `timing.csv`, and the curves in `curves.npz` (rows: "
            "steps, epochs, seconds, values). Runs that are no pair with the baseline's are left "
            "out."
        ),
        Bullets(
            (
                "p by t: Student's t of the gains. p by skew: Hall's (1992) transformation of it "
                "with the bias-adjusted skewness. p by BCa: the level at which the interval meets "
                "zero. The largest of the three counts.",
                "Intervals that hold together: at the level over the number of questions, the "
                "widest of t, t corrected for skew, and BCa; cut at zero where Holm's later steps "
                "decide.",
                "Holm: the k-th smallest of m p-values times m - k + 1, none smaller than the one "
                "before it.",
                "Detectable gain: by the noncentral t at the level of Holm's first step, with "
                f"{COST_OF_THREE_TESTS} pairs less for the two other tests, times the standard "
                "deviation of the gains. It holds for normal gains.",
            )
        ),
    ]
    known = [challenge for challenge in analysis.challenges if challenge.gain.sd > 0]
    if known:
        blocks.append(
            Code("The first arm again, in Python", _script(results, analysis, known[0].arm.name))
        )
    return blocks


def origin_section(results: Results) -> list[Block]:
    """Name command, versions, machine and configuration."""
    known = results.provenance
    facts = {
        "Command": f"`{known.command}`" if known.command else "",
        "Started": known.date,
        "Git": known.git,
        "Machine": known.machine,
        "Seeds": ", ".join(map(str, results.comparison.seeds)),
        "Versions": ", ".join(f"{name} {version}" for name, version in known.versions.items()),
    }
    blocks: list[Block] = [
        Heading("Where it comes from"),
        Bullets(tuple(f"**{name}:** {fact}" for name, fact in facts.items() if fact)),
    ]
    overlays = [arm for arm in results.comparison.arms if arm.overlay]
    if overlays:
        text = "\n".join(f"# {arm.name}\n{arm.overlay.strip()}\n" for arm in overlays)
        blocks.append(Code("What makes each arm", text))
    if known.config:
        blocks.append(Code("The whole configuration", known.config))
    return blocks


def _script(results: Results, analysis: Analysis, arm: str) -> str:
    goal = results.comparison.goal
    return RECOMPUTE.format(
        metric=goal.metric,
        arm=arm,
        baseline=analysis.baseline.arm.name,
        sign=1 if goal.is_rising else -1,
        resamples=analysis.method.resamples,
        level=1 - analysis.method.alpha,
        seed=analysis.method.seed,
    )


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
    confidence = analysis.method.confidence
    return f"{signed(gains[arm].mean)} ({confidence} by t: {span(gains[arm].t)})"


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


def same_weights_other_metric(results: Results) -> dict[str, str]:
    """Say which arms ended with the baseline's weights and yet have another metric.

    Returns:
        A sentence or two by title; empty if there are none.
    """
    asked = results.comparison
    return {
        f"Is `{arm}` measured like the baseline?": (
            f"At {count(len(seeds), 'seed')} it ended with the very weights of "
            f"`{asked.baseline.name}`, and with another `{asked.goal.metric}`. No training made "
            "that difference: the validation data differ, or what is measured does, or it draws "
            "random numbers."
        )
        for arm, seeds in measured_apart(results).items()
    }


def other_lengths(results: Results) -> dict[str, str]:
    """Say which arms have runs that ended at other steps than the baseline's, or than their others.

    Returns:
        A few sentences by title; empty if there are none.
    """
    asked = results.comparison
    return {
        f"Another length of `{arm}`:": (
            f"it trained for more or fewer steps than `{asked.baseline.name}`, or than at its "
            f"other seeds, at seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}, "
            f"with one budget of {asked.budget}. Does something stop runs early, or make epochs "
            "longer? Then a gain is that of the length, too. Did an earlier version store some of "
            "them, of a module that steps by hand? Then begin again in another folder."
        )
        for arm, seeds in ended_apart(results).items()
    }


COUNTED = {
    TRAINING_BATCHES: "{} batches",
    TRAINING_ROWS: "{} rows of data",
    EPOCH_BATCHES: "epochs of {} batches",
}
"""What a count of `TRAINED_ON` is of."""


def other_data(results: Results) -> dict[str, str]:
    """Say which arms trained on more or less data than the baseline in the same steps.

    Returns:
        A few sentences by title; empty if there are none.
    """
    baseline, said = results.comparison.baseline.name, {}
    for arm, pairs in trained_apart(results).items():
        run, other = pairs[0]
        apart = [c for c in TRAINED_ON if run.checks.get(c) != other.checks.get(c)]
        ours, theirs = (
            ", ".join(COUNTED[c].format(one.checks.get(c, "an unknown number of")) for c in apart)
            for one in (run, other)
        )
        said[f"Other data for `{arm}` in the same steps:"] = (
            f"at {count(len(pairs), 'seed')} it trained on another amount than `{baseline}`. At "
            f"seed {run.seed}: {ours}; `{baseline}`: {theirs}. Something besides the trainer's "
            "arguments may do that, such as a callback that accumulates gradients. A gain may be "
            "due to the data alone."
        )
    return said


def other_schedules(results: Results) -> dict[str, str]:
    """Say which arms follow another schedule than the baseline, or none, or one at another pace.

    Returns:
        A few sentences by title; empty if there are none.
    """
    trained, name = trained_by(results), results.comparison.baseline.name
    own = schedules_of(trained.get(name, ""))
    others = {arm: found for arm, by in trained.items() if (found := schedules_of(by)) != own}
    if not own or not others:
        return {}
    listed = ", ".join(f"`{arm}` {_followed(found)}" for arm, found in others.items())
    return {
        "Not the same schedule:": f"`{name}` follows {_followed(own)}, but {listed}. A difference "
        "may be due to that: see What trained each arm."
    }


def _followed(schedules: set[str]) -> str:
    return " and ".join(map(with_pace, sorted(schedules)))


def set_apart(results: Results) -> dict[str, str]:
    """Say what runs themselves show of arms that differ in more than their lines say.

    Returns:
        A few sentences by title; empty if there are none.
    """
    return other_schedules(results) | other_data(results) | same_weights_other_metric(results)

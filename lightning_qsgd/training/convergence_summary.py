"""One run, and one run beside its baseline, as a few numbers."""

from math import nan

from lightning_qsgd.metrics.functional import (
    area_under_curve,
    best_value,
    speedup_over_baseline,
    steps_to_target,
    value_at_step,
)
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.goal import Goal
from lightning_qsgd.training.recorded_run import RecordedCurve, RecordedRun

Summary = dict[str, float]


def summarise(run: RecordedRun, goal: Goal) -> Summary:
    """Summarise how a run converged.

    Args:
        run: The recorded curves.
        goal: Which of them count, and the target.

    Returns:
        Values by tag: area under the loss curve, best and last metric, and with a target the
        steps, epochs and seconds to it, ``inf`` if it was not reached. What was not recorded has
        no entry.
    """
    loss, metric = run.curve(goal.loss), run.curve(goal.metric)
    summary: Summary = {}
    if loss.steps:
        summary[tags.AREA_UNDER_LOSS_CURVE] = area_under_curve(loss.steps, loss.values)
    if metric.steps:
        best = best_value(metric.steps, metric.values, higher_is_better=goal.higher_is_better)
        summary[tags.best_tag(goal.metric)] = best
        summary[tags.final_tag(goal.metric)] = metric.values[-1]
        if goal.target is not None:
            summary[tags.STEPS_TO_TARGET] = _cost(metric, metric.steps, goal)
            summary[tags.EPOCHS_TO_TARGET] = _cost(metric, metric.epochs, goal)
            summary[tags.SECONDS_TO_TARGET] = _cost(metric, metric.seconds, goal)
    return summary


def compare(run: RecordedRun, baseline: RecordedRun, goal: Goal) -> Summary:
    """Compare a run with its baseline at the last step that both have.

    Args:
        run: The recorded curves of the arm.
        baseline: Those of the baseline.
        goal: Which curves count, and the target.

    Returns:
        Values by tag: the gap (arm minus baseline) of the loss and of the metric, and the
        speed-up in steps at the target (NaN while neither has reached it).
    """
    summary: Summary = {}
    for tag in (goal.loss, goal.metric):
        gap = last_gap(run.curve(tag), baseline.curve(tag))
        if gap == gap:  # not NaN
            summary[tags.gap_tag(tag)] = gap
    if goal.target is not None and run.curve(goal.metric).steps:
        arm, base = run.curve(goal.metric), baseline.curve(goal.metric)
        base_cost = _cost(base, base.steps, goal) if base.steps else nan
        summary[tags.SPEEDUP] = speedup_over_baseline(_cost(arm, arm.steps, goal), base_cost)
    return summary


def last_gap(arm: RecordedCurve, baseline: RecordedCurve) -> float:
    """Return arm minus baseline at the arm's last step; NaN outside the baseline's range."""
    if not arm.steps or not baseline.steps:
        return nan
    return arm.values[-1] - value_at_step(baseline.steps, baseline.values, arm.steps[-1])


def _cost(curve: RecordedCurve, axis: list[float], goal: Goal) -> float:
    target = 0.0 if goal.target is None else goal.target
    return steps_to_target(axis, curve.values, target, higher_is_better=goal.higher_is_better)

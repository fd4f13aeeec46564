"""What a run is judged by, on curves whose answers are known."""

from dataclasses import replace
from math import inf, isnan, nan
from types import SimpleNamespace

import pytest

from lightning_qsgd.tracking import tags
from lightning_qsgd.training.convergence_callback import Goal, compare, summarise
from lightning_qsgd.training.convergence_metrics import ConvergenceMetrics
from lightning_qsgd.training.publishing import publish
from lightning_qsgd.training.recorded_run import RecordedCurve, RecordedRun

GOAL = Goal(target=0.8)


def run(accuracies: list[float], loss: float = 1.0) -> RecordedRun:
    """One validation per epoch of 10 steps; a constant loss."""
    made = RecordedRun()
    for epoch, accuracy in enumerate(accuracies, start=1):
        made.curve("train/loss").append(10.0 * epoch, epoch, 2.0 * epoch, loss)
        made.curve("val/accuracy").append(10.0 * epoch, epoch, 2.0 * epoch, accuracy)
    return made


def test_summary_of_a_run_that_reached_its_target() -> None:
    summary = summarise(run([0.5, 0.9, 0.7]), GOAL)
    assert summary[tags.STEPS_TO_TARGET] == 20.0
    assert summary[tags.EPOCHS_TO_TARGET] == 2.0
    assert summary[tags.SECONDS_TO_TARGET] == 4.0
    assert summary[tags.best_tag("val/accuracy")] == 0.9
    assert summary[tags.final_tag("val/accuracy")] == 0.7


def test_a_target_that_was_not_reached_is_infinite() -> None:
    summary = summarise(run([0.5, 0.6]), GOAL)
    assert summary[tags.STEPS_TO_TARGET] == summary[tags.SECONDS_TO_TARGET] == inf


def test_without_a_target_no_cost_is_named() -> None:
    summary = summarise(run([0.5]), Goal())
    assert tags.STEPS_TO_TARGET not in summary
    assert tags.best_tag("val/accuracy") in summary


def test_nothing_recorded_gives_nothing() -> None:
    assert summarise(RecordedRun(), GOAL) == {}
    assert compare(RecordedRun(), RecordedRun(), GOAL) == {}


def test_comparison_is_arm_minus_baseline_and_speed_up() -> None:
    result = compare(run([0.9, 0.9], loss=1.5), run([0.5, 0.9], loss=1.0), GOAL)
    assert result[tags.gap_tag("train/loss")] == 0.5
    assert result[tags.gap_tag("val/accuracy")] == 0.0
    assert result[tags.SPEEDUP] == 2.0


@pytest.mark.parametrize(
    ("arm", "baseline", "speedup"),
    [([0.9], [0.1], inf), ([0.1], [0.9], 0.0), ([0.1], [0.1], nan)],
)
def test_speed_up_when_one_side_never_arrives(
    arm: list[float], baseline: list[float], speedup: float
) -> None:
    found = compare(run(arm), run(baseline), GOAL)[tags.SPEEDUP]
    assert found == speedup or (isnan(found) and isnan(speedup))


def test_gap_outside_of_the_baseline_is_not_defined() -> None:
    short = RecordedRun(curves={"train/loss": RecordedCurve([1.0], [1.0], [1.0], [2.0])})
    long = RecordedRun(curves={"train/loss": RecordedCurve([9.0], [1.0], [1.0], [2.0])})
    assert compare(long, short, GOAL) == {}
    assert compare(RecordedRun(), short, GOAL) == {}


@pytest.mark.parametrize("target", [nan, inf, -inf])
def test_a_target_that_is_not_finite_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match=r"Expected `target` to be finite.*Leave it out"):
        Goal(target=target)


@pytest.mark.parametrize(
    "metric", ["val/loss", "val_loss", "loss/val", "val_error_epoch", "val/mae", "test/Perplexity"]
)
def test_a_loss_of_which_more_would_be_better_is_refused(metric):
    assert not Goal(metric=metric, higher_is_better=False).higher_is_better
    with pytest.raises(
        ValueError, match=r"Expected `higher_is_better: false`.*got nothing: by its"
    ):
        Goal(metric=metric)
    with pytest.raises(ValueError, match=r"Expected `higher_is_better: false`.*got true: by its"):
        Goal(metric=metric, higher_is_better=True)


@pytest.mark.parametrize(
    "metric", ["score", "neg_mse", "negative_loss", "loss_reduction", "val_acc"]
)
@pytest.mark.parametrize("higher", [True, False])
def test_other_names_take_either_direction(metric, higher):
    assert Goal(metric=metric, higher_is_better=higher).higher_is_better is higher


@pytest.mark.parametrize("metric", ["val/accuracy", "val_acc", "reward"])
def test_a_name_that_tells_gives_the_direction(metric):
    assert Goal(metric=metric).is_rising is True
    assert Goal(metric=metric) == Goal(metric=metric, higher_is_better=True)
    assert Goal(metric=metric, higher_is_better=False).is_rising is False


def test_an_unknown_direction_is_never_guessed_where_runs_are_judged():
    goal = Goal(metric="val/energy")
    assert goal.higher_is_better is None
    with pytest.raises(ValueError, match=r"beside `goal.metric: val/energy`.*Write true or false"):
        _ = goal.is_rising
    assert replace(goal, higher_is_better=False).is_rising is False


def test_a_run_of_unknown_direction_is_logged_as_before():
    values = run([0.9, 0.2])
    assert summarise(values, Goal(metric="val/accuracy", higher_is_better=None)) == summarise(
        values, Goal()
    )
    energy = RecordedRun(
        curves={"val/energy": RecordedCurve([1.0, 2.0], [1.0] * 2, [1.0] * 2, [3.0, 1.0])}
    )
    found = summarise(energy, Goal(metric="val/energy"))
    assert (found[tags.best_tag("val/energy")], found[tags.final_tag("val/energy")]) == (3.0, 1.0)


def test_behind_the_end_of_its_baseline_a_run_logs_no_gap():
    baseline = run([0.1, 0.3])
    metrics = ConvergenceMetrics(Goal(target=0.2), baseline)
    metrics.add_run(run([0.2, 0.4, 0.9]))
    gaps = {tags.gap_tag("val/accuracy"), tags.gap_tag("train/loss")}
    (last,) = baseline.curve("val/accuracy").steps[-1:]
    compared = metrics.comparison().keys()
    assert gaps < compared - metrics.gaps_ended(last)
    assert compared - metrics.gaps_ended(last + 1) == {tags.SPEEDUP}
    assert gaps < metrics.comparison().keys()


def test_what_is_not_a_number_is_neither_shown_nor_logged_and_some_is_only_shown():
    logged, shown = {}, {}
    logger = SimpleNamespace(log_metrics=lambda scalars, step: logged.update(scalars))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=3))
    trainer = SimpleNamespace(callback_metrics=shown, fit_loop=loop, loggers=[logger])
    publish(trainer, {"gap": 0.5, "speedup": nan, "loss": 1.0}, shown_only={"gap"})
    assert logged == {"loss": 1.0}
    assert {tag: float(value) for tag, value in shown.items()} == {"gap": 0.5, "loss": 1.0}

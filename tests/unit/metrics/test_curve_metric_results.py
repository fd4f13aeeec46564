"""Every metric on planted curves whose answer is known."""

import math

import numpy as np
import pytest

from lightning_qsgd.metrics import (
    AreaUnderLossCurve,
    BestValue,
    EpochsToTarget,
    GapToBaseline,
    SecondsToTarget,
    SpeedupOverBaseline,
    StepsToTarget,
)


def result_of(metric, points):
    for step, value in points:
        metric.update(value, step)
    return metric.compute().item()


@pytest.mark.parametrize("axis", [StepsToTarget, EpochsToTarget, SecondsToTarget])
def test_the_cost_is_the_step_of_the_first_value_at_the_target(axis):
    assert result_of(axis(1.0), [(0.5, 3.0), (1.5, 1.0), (2.5, 0.5)]) == 1.5


@pytest.mark.parametrize("axis", [StepsToTarget, EpochsToTarget, SecondsToTarget])
def test_a_target_never_reached_costs_infinity(axis):
    assert result_of(axis(1.0), [(0, 3.0), (1, math.nan)]) == math.inf


def test_an_accuracy_reaches_its_target_from_below():
    metric = StepsToTarget(0.9, higher_is_better=True)

    assert result_of(metric, [(0, 0.2), (100, np.float32(0.9)), (200, 0.95)]) == 100


def test_a_smoothed_cost_ignores_one_lucky_minibatch():
    points = [(0, 2.0), (1, 0.1), (2, 2.0), (3, 0.5), (4, 0.5)]

    assert result_of(StepsToTarget(1.0), points) == 1
    assert result_of(StepsToTarget(1.0, window=2), points) == 4


def test_a_step_seen_by_two_processes_reaches_the_target_with_its_mean():
    assert result_of(StepsToTarget(1.0), [(0, 0.5), (0, 2.5), (10, 0.5), (10, 1.0)]) == 10


def test_neighbouring_large_global_steps_are_told_apart():
    assert result_of(StepsToTarget(1.0), [(2**24, 2.0), (2**24 + 1, 0.5)]) == 2**24 + 1


def test_the_area_of_a_falling_line_is_its_middle():
    assert result_of(AreaUnderLossCurve(), [(100, 4.0), (300, 0.0)]) == 2.0


def test_the_area_of_one_point_is_finite():
    assert result_of(AreaUnderLossCurve(), [(100, 4.0)]) == 4.0


def test_the_best_value_follows_the_direction_and_ignores_nan():
    points = [(0, 0.5), (1, math.nan), (2, 0.8), (3, 0.7)]

    assert result_of(BestValue(), points) == 0.5
    assert result_of(BestValue(higher_is_better=True), points) == 0.8


def test_the_best_of_nothing_but_nan_is_nan():
    assert math.isnan(result_of(BestValue(), [(0, math.nan)]))


def test_the_gap_is_taken_at_the_last_step_both_curves_cover():
    metric = GapToBaseline([0, 100], [4.0, 2.0])

    assert result_of(metric, [(0, 4.0), (50, 2.0), (150, 0.0)]) == -1.0


def test_the_gap_of_a_curve_beyond_the_baseline_is_nan():
    assert math.isnan(result_of(GapToBaseline([0, 100], [4.0, 2.0]), [(101, 1.0)]))


def test_the_gap_at_a_diverged_point_is_nan():
    assert math.isnan(result_of(GapToBaseline([0, 100], [4.0, 2.0]), [(0, 1.0), (50, math.nan)]))


def test_a_baseline_of_several_processes_is_merged_first():
    metric = GapToBaseline([100, 0, 100], [1.0, 4.0, 3.0])

    assert result_of(metric, [(100, 2.5)]) == 0.5


def test_speedup_of_a_curve_over_itself_is_one():
    steps, values = [0, 10, 20, 30], [3.0, 2.0, 1.1, 0.6]
    points = list(zip(steps, values, strict=True))

    assert result_of(SpeedupOverBaseline(steps, values, target=1.5), points) == 1.0
    assert result_of(SpeedupOverBaseline(steps, values, 1.0, window=2), points) == 1.0


def test_an_arm_in_half_the_steps_has_a_speedup_of_two():
    metric = SpeedupOverBaseline([0, 100, 200], [3.0, 2.0, 1.0], target=1.0)

    assert result_of(metric, [(0, 3.0), (100, 1.0)]) == 2.0


@pytest.mark.parametrize(
    ("arm_value", "baseline_value", "expected"),
    [(2.0, 0.5, 0.0), (0.5, 2.0, math.inf), (2.0, 2.0, math.nan), (0.5, 0.5, 1.0)],
)
def test_a_speedup_says_who_never_reached_the_target(arm_value, baseline_value, expected):
    metric = SpeedupOverBaseline([10], [baseline_value], target=1.0)

    assert result_of(metric, [(10, arm_value)]) == pytest.approx(expected, nan_ok=True)


def test_both_curves_of_a_speedup_are_smoothed_alike():
    baseline_steps, baseline_values = [0, 1, 2, 3], [2.0, 0.1, 2.0, 0.0]
    metric = SpeedupOverBaseline(baseline_steps, baseline_values, target=1.0, window=2)

    assert metric.baseline_cost == 3.0
    assert result_of(metric, [(0, 0.5), (1, 0.5)]) == 3.0


@pytest.mark.parametrize(
    "make",
    [
        lambda target: StepsToTarget(target),
        lambda target: EpochsToTarget(target),
        lambda target: SecondsToTarget(target),
        lambda target: SpeedupOverBaseline([0], [1.0], target),
    ],
)
@pytest.mark.parametrize("target", [math.nan, math.inf])
def test_a_target_that_is_not_finite_is_refused_at_construction(make, target):
    with pytest.raises(ValueError, match=r"`target` to be finite, got"):
        make(target)


@pytest.mark.parametrize(("window", "error"), [(0, ValueError), (-3, ValueError), (1.5, TypeError)])
def test_an_impossible_window_is_refused_at_construction(window, error):
    with pytest.raises(error, match=r"`window` to be"):
        StepsToTarget(1.0, window=window)


@pytest.mark.parametrize("make", [GapToBaseline, lambda *b: SpeedupOverBaseline(*b, target=1.0)])
def test_an_impossible_baseline_is_refused_at_construction(make):
    with pytest.raises(ValueError, match=r"at least one point"):
        make([], [])
    with pytest.raises(ValueError, match=r"of equal length"):
        make([0, 1], [1.0])


def test_an_unknown_keyword_is_refused_by_torchmetrics():
    with pytest.raises(ValueError, match="Unexpected keyword arguments: `patience`"):
        BestValue(patience=3)

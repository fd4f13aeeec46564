"""Cost of a target, smoothing before it, and the speedup made of two costs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_qsgd.metrics.functional import (
    speedup_over_baseline,
    steps_to_target,
    trailing_mean,
)
from lightning_qsgd.metrics.functional.convergence import TARGET_RTOL

values_lists = st.lists(
    st.floats(-100, 100, allow_nan=False, width=32) | st.just(math.nan), min_size=1, max_size=25
)
costs = st.floats(0, 1e9, allow_nan=False) | st.just(math.inf)


def slow_steps_to_target(steps, values, target, higher_is_better):
    for step, value in zip(steps, values, strict=True):
        if higher_is_better and value >= target - TARGET_RTOL * abs(target):
            return step
        if not higher_is_better and value <= target + TARGET_RTOL * abs(target):
            return step
    return math.inf


def slow_trailing_mean(values, window):
    smoothed = []
    for i in range(len(values)):
        last = values[max(0, i - window + 1) : i + 1]
        smoothed.append(sum(last) / window if len(last) == window else math.nan)
    return smoothed


def arange(values):
    return [10.0 * i for i in range(len(values))]


@given(values_lists, st.floats(-100, 100, allow_nan=False), st.booleans())
def test_target_search_agrees_with_a_plain_loop(values, target, higher_is_better):
    steps = arange(values)

    found = steps_to_target(steps, values, target, higher_is_better=higher_is_better)

    assert found == slow_steps_to_target(steps, values, target, higher_is_better)


@given(values_lists, st.floats(-100, 100, allow_nan=False))
def test_negating_the_values_swaps_the_direction(values, target):
    steps, negated = arange(values), [-value for value in values]

    down = steps_to_target(steps, values, target)
    up = steps_to_target(steps, negated, -target, higher_is_better=True)

    assert down == up


@given(values_lists, st.sampled_from([0.25, 0.5, 2.0, 1024.0]))
def test_scaling_the_steps_scales_the_cost(values, scale):
    steps = arange(values)

    cost = steps_to_target([scale * step for step in steps], values, target=0.0)

    assert cost == scale * steps_to_target(steps, values, target=0.0)


@given(values_lists, st.floats(-50, 50), st.floats(0, 50))
def test_a_harder_target_never_costs_less(values, target, harder):
    steps = arange(values)

    assert steps_to_target(steps, values, target - harder) >= steps_to_target(steps, values, target)


def test_a_planted_crossing_is_found_at_its_observed_step():
    steps = list(range(0, 1000, 50))
    values = [math.exp(-step / 300) for step in steps]

    assert steps_to_target(steps, values, target=math.exp(-1.01)) == 350.0


def test_never_reaching_is_inf_and_not_zero():
    assert steps_to_target([0, 1], [2.0, 1.5], target=1.0) == math.inf


def test_nan_never_reaches_a_target_in_either_direction():
    nan = math.nan

    assert steps_to_target([0, 1], [nan, nan], target=1.0) == math.inf
    assert steps_to_target([0, 1], [nan, 2.0], target=1.0, higher_is_better=True) == 1.0


def test_an_accuracy_of_exactly_nine_tenths_in_float32_reaches_nine_tenths():
    values = torch.tensor([0.8, 0.9], dtype=torch.float32)

    assert float(values[1]) < 0.9
    assert steps_to_target([0, 1], values, target=0.9, higher_is_better=True) == 1.0


def test_the_slack_is_far_below_any_difference_that_matters():
    assert steps_to_target([0], [0.9 - 1e-6], target=0.9, higher_is_better=True) == math.inf


@pytest.mark.parametrize("target", [math.nan, math.inf, -math.inf])
def test_a_target_that_is_not_finite_is_refused(target):
    with pytest.raises(ValueError, match=r"`target` to be finite, got .* before the runs"):
        steps_to_target([0], [1.0], target)


@given(values_lists, st.integers(1, 30))
def test_smoothing_agrees_with_a_plain_loop(values, window):
    smoothed = trailing_mean(torch.tensor(values, dtype=torch.float64), window)

    expected = slow_trailing_mean(values, window)
    assert smoothed.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)


def test_a_window_of_one_changes_nothing():
    values = torch.tensor([3.0, math.nan, 1.0])

    assert trailing_mean(values, 1) is values


def test_one_lucky_minibatch_does_not_reach_a_smoothed_target():
    values = torch.tensor([2.0, 2.0, 0.1, 2.0, 2.0, 1.0, 0.9, 0.8])
    steps = range(8)

    assert steps_to_target(steps, values, target=1.0) == 2.0
    assert steps_to_target(steps, trailing_mean(values, 3), target=1.0) == 7.0


def test_a_lucky_first_minibatch_does_not_reach_a_smoothed_target_either():
    values = torch.tensor([0.1, 2.0, 2.0, 2.0])

    assert steps_to_target(range(4), trailing_mean(values, 3), target=1.0) == math.inf


def test_a_nan_spoils_only_the_windows_that_contain_it():
    values = torch.tensor([1.0, math.nan, 1.0, 1.0, 1.0])

    smoothed = trailing_mean(values, 2)

    assert smoothed.isnan().tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smoothing_keeps_the_dtype(dtype):
    assert trailing_mean(torch.ones(3, dtype=dtype), 2).dtype == dtype


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match=r"`window` to be at least 1, got 0.*no smoothing"):
        trailing_mean(torch.ones(3), 0)


@pytest.mark.parametrize("window", [2.0, True, "2"])
def test_a_window_that_is_no_int_is_refused(window):
    with pytest.raises(TypeError, match=r"`window` to be an int, got .*whole number"):
        trailing_mean(torch.ones(3), window)


@given(costs)
def test_speedup_over_itself_is_one_unless_never_reached(cost):
    speedup = speedup_over_baseline(cost, cost)

    assert math.isnan(speedup) if math.isinf(cost) else speedup == 1.0


@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6))
def test_swapping_arm_and_baseline_inverts_the_speedup(cost, baseline_cost):
    speedup = speedup_over_baseline(cost, baseline_cost)

    assert speedup * speedup_over_baseline(baseline_cost, cost) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("cost", "baseline_cost", "expected"),
    [
        (50.0, 100.0, 2.0),
        (200.0, 100.0, 0.5),
        (math.inf, 100.0, 0.0),
        (math.inf, 0.0, 0.0),
        (100.0, math.inf, math.inf),
        (0.0, math.inf, math.inf),
        (math.inf, math.inf, math.nan),
        (0.0, 0.0, 1.0),
        (0.0, 100.0, math.inf),
        (100.0, 0.0, 0.0),
    ],
)
def test_every_case_of_never_and_ever_has_its_speedup(cost, baseline_cost, expected):
    assert speedup_over_baseline(cost, baseline_cost) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("cost", "baseline_cost", "name"), [(-1.0, 1.0, "cost"), (1.0, math.nan, "baseline_cost")]
)
def test_an_impossible_cost_is_refused(cost, baseline_cost, name):
    with pytest.raises(ValueError, match=rf"`{name}` to be non-negative, got .*steps_to_target"):
        speedup_over_baseline(cost, baseline_cost)

"""Best value, area, value between the points, gap to a baseline."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_qsgd.metrics.functional import (
    area_under_curve,
    best_value,
    gap_at_equal_step,
    value_at_step,
)

finite = st.floats(-1e3, 1e3, allow_nan=False)


@st.composite
def curves(draw, values=finite, max_size=20):
    steps = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=max_size, unique=True))
    steps = [float(step) for step in sorted(steps)]
    return steps, draw(st.lists(values, min_size=len(steps), max_size=len(steps)))


def slow_value_at_step(steps, values, step):
    for known, value in zip(steps, values, strict=True):
        if known == step:
            return value
    for i in range(len(steps) - 1):
        if steps[i] < step < steps[i + 1]:
            share = (step - steps[i]) / (steps[i + 1] - steps[i])
            return (1 - share) * values[i] + share * values[i + 1]
    return math.nan


def slow_area(steps, values):
    area = 0.0
    for i in range(len(steps) - 1):
        area += (steps[i + 1] - steps[i]) * (values[i] + values[i + 1]) / 2
    return area / (steps[-1] - steps[0]) if len(steps) > 1 else values[0]


@given(curves(finite | st.just(math.nan)))
def test_best_value_agrees_with_a_plain_loop(curve):
    known = [value for value in curve[1] if not math.isnan(value)]

    lowest = min(known) if known else math.nan
    highest = max(known) if known else math.nan

    assert best_value(*curve) == pytest.approx(lowest, rel=0, abs=0, nan_ok=True)
    assert best_value(*curve, higher_is_better=True) == pytest.approx(
        highest, rel=0, abs=0, nan_ok=True
    )


def test_best_value_of_nothing_but_nan_is_nan():
    assert math.isnan(best_value([0, 1], [math.nan, math.nan]))


def test_an_infinite_loss_is_worse_than_any_other():
    assert best_value([0, 1], [math.inf, 5.0]) == 5.0


@given(curves())
def test_area_agrees_with_a_plain_loop(curve):
    assert area_under_curve(*curve) == pytest.approx(slow_area(*curve), rel=1e-9, abs=1e-9)


@given(curves())
def test_area_lies_between_the_extremes(curve):
    area = area_under_curve(*curve)

    assert min(curve[1]) - 1e-9 <= area <= max(curve[1]) + 1e-9


@given(curves(), st.sampled_from([0.5, 4.0, 1000.0]))
def test_area_does_not_depend_on_the_unit_of_the_steps(curve, scale):
    steps, values = curve

    scaled = area_under_curve([scale * step for step in steps], values)

    assert scaled == pytest.approx(area_under_curve(steps, values), rel=1e-9, abs=1e-9)


def test_area_does_not_depend_on_how_often_a_line_is_observed():
    coarse = area_under_curve([0, 100], [4.0, 2.0])
    fine = area_under_curve([0, 1, 50, 100], [4.0, 3.98, 3.0, 2.0])

    assert coarse == pytest.approx(fine)


def test_area_of_one_point_is_its_height():
    assert area_under_curve([7], [2.5]) == 2.5


def test_a_diverged_run_has_no_area():
    assert math.isnan(area_under_curve([0, 1, 2], [1.0, 0.1, math.nan]))


@given(curves(), st.integers(0, 1000) | st.floats(0, 1000))
def test_reading_between_points_agrees_with_a_plain_loop(curve, step):
    expected = slow_value_at_step(*curve, step)

    assert value_at_step(*curve, step) == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


@given(curves(finite | st.just(math.inf)))
def test_reading_at_an_observed_step_returns_the_observed_value(curve):
    steps, values = curve

    assert [value_at_step(steps, values, step) for step in steps] == values


@pytest.mark.parametrize("step", [-1.0, 3.0, math.nan, math.inf])
def test_nothing_is_extrapolated(step):
    assert math.isnan(value_at_step([0.0, 2.0], [1.0, 1.0], step))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_is_read_next_to_a_value_that_is_not_finite(bad):
    assert math.isnan(value_at_step([0.0, 2.0], [bad, 1.0], 1.0))
    assert math.isnan(value_at_step([0.0, 2.0], [1.0, bad], 1.0))


def test_reading_a_curve_asks_for_logarithmically_many_steps():
    class CountingList(list):
        reads = 0

        def __getitem__(self, index):
            CountingList.reads += 1
            return super().__getitem__(index)

    steps = CountingList(float(i) for i in range(2**16))

    value_at_step(steps, steps, 12345.5)

    assert CountingList.reads <= 16 + 10


@given(curves(), curves())
def test_gap_agrees_with_a_plain_loop(arm, baseline):
    steps, gaps = gap_at_equal_step(*arm, *baseline)

    expected = [
        (step, value - slow_value_at_step(*baseline, step))
        for step, value in zip(*arm, strict=True)
        if baseline[0][0] <= step <= baseline[0][-1]
    ]
    assert steps.tolist() == [step for step, _ in expected]
    assert gaps.tolist() == pytest.approx([gap for _, gap in expected], rel=1e-9, abs=1e-9)


@given(curves())
def test_gap_to_itself_is_zero(curve):
    steps, gaps = gap_at_equal_step(*curve, *curve)

    assert steps.tolist() == curve[0]
    assert torch.equal(gaps, torch.zeros_like(gaps))


@given(curves(), finite)
def test_lifting_the_arm_lifts_the_gap(curve, lift):
    steps, values = curve

    _, gaps = gap_at_equal_step(steps, [value + lift for value in values], steps, values)

    assert gaps.tolist() == pytest.approx([lift] * len(steps), abs=1e-9)


def test_a_lower_loss_is_a_negative_gap():
    _, gaps = gap_at_equal_step([5], [1.0], [0, 10], [3.0, 1.0])

    assert gaps.tolist() == [-1.0]


def test_curves_that_do_not_meet_have_no_gap():
    steps, gaps = gap_at_equal_step([20], [1.0], [0, 10], [3.0, 1.0])

    assert steps.numel() == gaps.numel() == 0

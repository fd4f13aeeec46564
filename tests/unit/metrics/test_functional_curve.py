"""Points become curves: sorting, averaging, and what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_qsgd.metrics.functional import as_curve, as_points, merge_equal_steps

points = st.lists(
    st.tuples(
        st.integers(0, 9).map(float),
        st.floats(-1e6, 1e6, allow_nan=False) | st.just(math.nan),
    ),
    min_size=1,
    max_size=30,
)


def slow_merge(pairs):
    merged = []
    for step in sorted({step for step, _ in pairs}):
        shared = [value for other, value in pairs if other == step]
        merged.append((step, sum(shared) / len(shared)))
    return merged


@given(points)
def test_merging_agrees_with_a_plain_loop(pairs):
    steps, values = merge_equal_steps(*zip(*pairs, strict=True))

    expected = slow_merge(pairs)
    assert steps.tolist() == [step for step, _ in expected]
    oracle = [value for _, value in expected]
    assert values.tolist() == pytest.approx(oracle, rel=1e-9, abs=1e-9, nan_ok=True)


@given(points, st.randoms(use_true_random=False))
def test_merging_does_not_depend_on_the_order_of_points_in_the_last_bit(pairs, random):
    shuffled = random.sample(pairs, len(pairs))

    steps, values = merge_equal_steps(*zip(*pairs, strict=True))
    other_steps, other_values = merge_equal_steps(*zip(*shuffled, strict=True))

    assert torch.equal(steps, other_steps)
    assert np.array_equal(values.numpy(), other_values.numpy(), equal_nan=True)


def test_rounding_of_the_mean_does_not_depend_on_which_process_comes_first():
    assert sum([0.1, 0.2, 0.3]) != sum([0.3, 0.2, 0.1])

    _, values = merge_equal_steps([0, 0, 0], [0.1, 0.2, 0.3])
    _, reversed_values = merge_equal_steps([0, 0, 0], [0.3, 0.2, 0.1])

    assert torch.equal(values, reversed_values)


@given(points)
def test_merging_a_merged_curve_changes_nothing(pairs):
    once = merge_equal_steps(*zip(*pairs, strict=True))
    twice = merge_equal_steps(*once)

    assert torch.equal(once[0], twice[0])
    assert np.array_equal(once[1].numpy(), twice[1].numpy(), equal_nan=True)


def test_curves_of_two_processes_reduce_to_their_mean():
    steps, values = merge_equal_steps([0, 1, 0, 1], [1.0, 2.0, 3.0, 6.0])

    assert steps.tolist() == [0.0, 1.0]
    assert values.tolist() == [2.0, 4.0]


def test_neighbouring_large_steps_stay_apart():
    steps, _ = merge_equal_steps([2**24, 2**24 + 1], [1.0, 2.0])

    assert steps.tolist() == [2.0**24, 2.0**24 + 1]


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        np.array,
        lambda x: np.array(x[::-1])[::-1],
        lambda x: torch.tensor(x, dtype=torch.float32),
        lambda x: torch.tensor(x, dtype=torch.float64, requires_grad=True),
    ],
)
def test_any_kind_of_points_becomes_float64(convert):
    steps, values = as_points(convert([1.0, 0.0]), convert([2.0, 3.0]))

    assert steps.dtype == values.dtype == torch.float64
    assert not values.requires_grad
    assert steps.tolist() == [1.0, 0.0]


def test_read_only_arrays_are_accepted():
    steps = np.array([0.0, 1.0])
    steps.flags.writeable = False

    assert as_points(steps, steps)[0].tolist() == [0.0, 1.0]


def test_an_empty_curve_is_refused():
    with pytest.raises(ValueError, match=r"at least one point, got an empty one.*Record a value"):
        merge_equal_steps([], [])


@pytest.mark.parametrize(("steps", "values"), [([0, 1], [1.0]), ([[0, 1]], [[1.0, 2.0]]), (0, 1.0)])
def test_unequal_lengths_and_wrong_shapes_are_refused(steps, values):
    with pytest.raises(ValueError, match=r"1-D and of equal length, got shapes .* for each step"):
        as_points(steps, values)


@pytest.mark.parametrize("step", [-1.0, math.nan, math.inf])
def test_impossible_steps_are_refused(step):
    with pytest.raises(ValueError, match=r"`steps` to be finite and non-negative, got .* from 0"):
        as_points([0.0, step], [1.0, 1.0])


@pytest.mark.parametrize("steps", [[0, 2, 1], [0, 1, 1]])
def test_steps_out_of_order_are_no_curve(steps):
    with pytest.raises(ValueError, match=r"strictly increasing, got .*`merge_equal_steps` first"):
        as_curve(steps, [1.0, 1.0, 1.0])

"""Laws that every curve metric obeys."""

import copy
import math
import pickle
import random

import pytest
import torch


def test_the_order_of_updates_does_not_matter(make, planted_points, filled):
    points = planted_points()
    shuffled = random.Random(3).sample(points, len(points))

    assert torch.equal(filled(make, points).compute(), filled(make, shuffled).compute())


def test_merging_two_halves_equals_one_metric(make, planted_points, filled):
    points = planted_points()
    metric, other = filled(make, points[::2]), filled(make, points[1::2])
    metric.compute()

    metric.merge_state(other)

    assert torch.equal(metric.compute(), filled(make).compute())


def test_two_processes_with_the_same_curve_equal_one(make, filled):
    metric = filled(make)

    metric.merge_state(filled(make))

    assert torch.allclose(metric.compute(), filled(make).compute(), rtol=1e-14)


def test_merging_into_a_fresh_metric_gives_a_result_without_warning(make, filled):
    metric = make()

    metric.merge_state(filled(make).metric_state)

    assert torch.equal(metric.compute(), filled(make).compute())


def test_forward_accumulates_exactly_like_update(make, planted_points, filled, state_of):
    metric = make()
    for value, step in planted_points():
        metric(value, step)

    assert torch.equal(metric.compute(), filled(make).compute())
    assert state_of(metric) == state_of(filled(make))


def test_forward_returns_the_summary_of_its_own_point(make, filled):
    metric = filled(make)

    on_point = metric(0.3, 250.0)

    alone = filled(make, [(0.3, 250.0)]).compute()
    assert torch.allclose(on_point, alone, equal_nan=True)


def test_reset_forgets_all_points(make, planted_points, filled):
    metric = filled(make)
    metric.compute()
    metric.reset()
    for value, step in planted_points(4):
        metric.update(value, step)

    expected = filled(make, planted_points(4)).compute()
    assert torch.equal(metric.compute().nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_the_result_and_a_life_of_its_own(make, duplicate, filled, state_of):
    metric = filled(make)
    before = metric.compute()

    twin = duplicate(metric)
    assert torch.equal(twin.compute(), before)
    twin.update(0.001, 5)

    assert torch.equal(filled(make).compute(), before)
    assert state_of(metric) == state_of(filled(make))
    assert len(torch.cat(twin.steps)) == len(torch.cat(metric.steps)) + 1


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")
def test_a_metric_without_points_is_nan(make):
    assert make().compute().isnan()


@pytest.mark.parametrize(("value", "shape"), [(torch.ones(2), r"\(2,\)"), ([], r"\(0,\)")])
def test_a_value_that_is_no_scalar_is_refused(make, value, shape):
    with pytest.raises(
        ValueError, match=rf"`value` to be a single number, got shape {shape}.*mean"
    ):
        make().update(value, 0)


@pytest.mark.parametrize("step", [-1, math.nan, math.inf, torch.tensor(-0.5)])
def test_an_impossible_step_is_refused_and_leaves_no_trace(make, step):
    metric = make()

    with pytest.raises(
        ValueError, match=r"`step` to be finite and non-negative, got .*global step"
    ):
        metric.update(1.0, step)

    assert metric.steps == metric.values == []


def test_a_step_that_is_no_scalar_is_refused(make):
    with pytest.raises(ValueError, match=r"`step` to be a single number, got shape \(3,\)"):
        make().update(1.0, torch.zeros(3))


def test_a_value_changed_in_place_after_the_update_stays_recorded(make):
    value = torch.tensor(0.5, dtype=torch.float64)
    metric = make()
    metric.update(value, 100)

    value.fill_(99.0)

    assert torch.cat(metric.values).tolist() == [0.5]


@pytest.mark.parametrize("method", ["update", "forward"])
def test_a_long_run_is_kept_in_few_tensors(make, method):
    metric = make()
    for i in range(500):
        getattr(metric, method)(1.0, i)

    assert len(metric.steps) <= 9
    assert torch.cat(metric.steps).tolist() == [float(i) for i in range(500)]

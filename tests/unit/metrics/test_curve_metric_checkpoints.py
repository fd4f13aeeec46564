"""Every curve metric is saved, loaded and resumed without losing a point."""

import io

import pytest
import torch
from torch import nn


def test_a_checkpoint_carries_all_points_to_a_fresh_metric(make, filled, state_of):
    metric = filled(make)
    buffer = io.BytesIO()
    torch.save(metric.state_dict(), buffer)
    buffer.seek(0)

    fresh = make()
    fresh.load_state_dict(torch.load(buffer, weights_only=True))

    assert torch.equal(fresh.compute(), metric.compute())
    assert state_of(fresh) == state_of(metric)


def test_a_resumed_metric_ends_where_an_uninterrupted_one_ends(make, planted_points, filled):
    points = planted_points()
    resumed = make()
    resumed.load_state_dict(filled(make, points[:9]).state_dict())
    for value, step in points[9:]:
        resumed.update(value, step)

    assert torch.equal(resumed.compute(), filled(make).compute())


def test_a_metric_inside_a_module_is_in_its_checkpoint(make, planted_points):
    def module():
        parent = nn.Module()
        parent.linear, parent.metric = nn.Linear(2, 2), make()
        return parent

    trained, fresh = module(), module()
    for value, step in planted_points():
        trained.metric.update(value, step)
    fresh.load_state_dict(trained.state_dict(), strict=True)

    assert torch.equal(fresh.metric.compute(), trained.metric.compute())
    assert torch.equal(fresh.linear.weight, trained.linear.weight)


def test_an_empty_metric_round_trips_through_a_checkpoint(make, filled):
    metric = make()
    metric.load_state_dict(make().state_dict())

    metric.update(0.5, 100)

    assert torch.equal(
        metric.compute().nan_to_num(), filled(make, [(0.5, 100)]).compute().nan_to_num()
    )


def test_loading_a_checkpoint_replaces_an_earlier_result(make, filled):
    metric = filled(make, [(9.0, 200.0)])
    metric.compute()

    metric.load_state_dict(filled(make).state_dict())

    assert torch.equal(metric.compute(), filled(make).compute())


@pytest.mark.parametrize("change", [lambda m: m.update(0.0, 1), lambda m: m.reset()])
def test_a_loaded_metric_never_changes_the_checkpoint(make, change, filled):
    checkpoint = filled(make).state_dict()
    metric = make()
    metric.load_state_dict(checkpoint)

    change(metric)

    again = make()
    again.load_state_dict(checkpoint)
    assert torch.equal(again.compute(), filled(make).compute())

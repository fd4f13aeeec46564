"""Curve metrics work together with the wrappers of torchmetrics."""

import pytest
from torchmetrics import MetricCollection, MetricTracker

from lightning_qsgd.metrics import BestValue, StepsToTarget


@pytest.fixture
def collection(metrics_by_name):
    def build():
        return MetricCollection({name: make() for name, make in metrics_by_name.items()})

    return build


def test_a_collection_shares_the_points_and_gives_every_result(
    planted_points, filled, collection, metrics_by_name
):
    metrics = collection()
    for value, step in planted_points():
        metrics.update(value, step)

    assert len(metrics.compute_groups) == 1
    assert metrics.compute() == {
        name: filled(make).compute() for name, make in metrics_by_name.items()
    }


def test_a_collection_survives_forward_between_updates(
    planted_points, filled, collection, metrics_by_name
):
    metrics = collection()
    for i, (value, step) in enumerate(planted_points()):
        on_point = metrics(value=value, step=step) if i % 3 else metrics.update(value, step)

    assert on_point["best"] == planted_points()[-1][0]
    assert metrics.compute() == {
        name: filled(make).compute() for name, make in metrics_by_name.items()
    }


def test_a_collection_resumes_from_its_checkpoint_and_resets(
    planted_points, filled, collection, metrics_by_name
):
    points, metrics, resumed = planted_points(), collection(), collection()
    for value, step in points[:9]:
        metrics.update(value, step)
    resumed.load_state_dict(metrics.state_dict())
    for value, step in points[9:]:
        resumed.update(value, step)

    assert resumed.compute() == {
        name: filled(make).compute() for name, make in metrics_by_name.items()
    }
    resumed.reset()
    assert all(metric.steps == [] for metric in resumed.values())


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("steps", False),
        ("steps_upwards", False),
        ("epochs", False),
        ("seconds", False),
        ("area", False),
        ("best", False),
        ("best_upwards", True),
        ("gap", False),
        ("speedup", True),
    ],
)
def test_every_metric_says_whether_a_higher_result_is_better(name, better, metrics_by_name):
    assert metrics_by_name[name]().higher_is_better is better


def test_a_metric_tracker_reads_the_direction_of_each_object():
    tracker = MetricTracker(BestValue(higher_is_better=True), maximize=None)
    for accuracy in (0.5, 0.9, 0.7):
        tracker.increment()
        tracker.update(accuracy, 0)

    assert tracker.best_metric() == 0.9


def test_points_of_another_axis_are_never_merged(filled, metrics_by_name):
    with pytest.raises(ValueError, match="instance of StepsToTarget"):
        StepsToTarget(target=1.0).merge_state(filled(metrics_by_name["epochs"]))

"""Plots show the curve and what the metric found in it."""

import math

import pytest
import torch
from torchmetrics import MetricCollection

from lightning_qsgd.metrics import (
    AreaUnderLossCurve,
    BestValue,
    EpochsToTarget,
    GapToBaseline,
    SpeedupOverBaseline,
    StepsToTarget,
)

matplotlib = pytest.importorskip("matplotlib")

BASELINE = ([0.0, 20.0], [3.0, 1.0])
METRICS = {
    "steps": lambda: StepsToTarget(1.0),
    "smoothed": lambda: StepsToTarget(1.0, window=2),
    "area": AreaUnderLossCurve,
    "best": BestValue,
    "gap": lambda: GapToBaseline(*BASELINE),
    "speedup": lambda: SpeedupOverBaseline(*BASELINE, target=1.0),
}
every_metric = pytest.mark.parametrize("make", METRICS.values(), ids=METRICS.keys())


@pytest.fixture(autouse=True)
def pyplot():
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def filled(metric, values=(3.0, 2.0, 0.5)):
    for i, value in enumerate(values):
        metric.update(value, 10 * i)
    return metric


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@every_metric
def test_a_plot_shows_the_curve_over_its_own_steps(make):
    figure, ax = filled(make()).plot()

    assert ax.get_figure() is figure
    assert ax.lines[0].get_xdata().tolist() == [0.0, 10.0, 20.0]
    assert ax.lines[0].get_ydata().tolist() == [3.0, 2.0, 0.5]
    assert ax.get_title() == type(make()).__name__
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("steps", ["curve", "target 1", "reached at 20"]),
        ("smoothed", ["curve", "mean of 2 points", "target 1"]),
        ("area", ["curve", "mean height 1.875"]),
        ("best", ["curve", "best 0.5"]),
        ("gap", ["curve", "baseline (gap -0.5)"]),
        ("speedup", ["curve", "target 1", "reached at 20", "baseline (speedup 1)"]),
    ],
)
def test_a_plot_marks_what_the_metric_found(name, expected):
    _, ax = filled(METRICS[name]()).plot()

    assert labels(ax) == expected


def test_a_plot_draws_the_target_and_the_step_that_reached_it():
    _, ax = filled(StepsToTarget(1.0)).plot()

    assert list(ax.lines[1].get_ydata()) == [1.0, 1.0]
    assert list(ax.lines[2].get_xdata()) == [20.0, 20.0]


@every_metric
def test_a_plot_draws_into_given_axes(make, pyplot):
    figure, ax = pyplot.subplots()

    drawn_figure, drawn_ax = filled(make()).plot(ax=ax)

    assert (drawn_figure, drawn_ax) == (figure, ax)


@every_metric
@pytest.mark.parametrize("values", [(math.nan,), (math.nan, 2.0), (math.inf, 1.5, math.nan)])
def test_a_diverged_run_can_be_plotted(make, values):
    figure, _ = filled(make(), values).plot()

    figure.canvas.draw()


@every_metric
def test_given_results_are_plotted_by_torchmetrics(make):
    metric = filled(make())

    _, ax = metric.plot([torch.tensor(1.0), torch.tensor(2.0)])

    assert ax.lines[0].get_ydata().tolist() == [1.0, 2.0]
    assert ax.get_ylabel() == type(metric).__name__


def test_the_axis_is_named_after_its_unit():
    assert filled(EpochsToTarget(1.0)).plot()[1].get_xlabel() == "epoch"
    assert filled(StepsToTarget(1.0)).plot()[1].get_xlabel() == "global step"


def test_a_collection_plots_all_its_results():
    metrics = MetricCollection({name: make() for name, make in METRICS.items()})
    for i, value in enumerate((3.0, 2.0, 0.5)):
        metrics.update(value, 10 * i)

    assert len(metrics.plot()) == len(METRICS)


def test_a_metric_without_points_cannot_be_plotted():
    with pytest.raises(ValueError, match=r"StepsToTarget to hold at least one point, got none"):
        StepsToTarget(1.0).plot()

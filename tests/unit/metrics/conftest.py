"""A table of all curve metrics, and one planted curve to fill them with."""

import math
import random

import pytest
import torch

from lightning_qsgd.metrics import (
    AreaUnderLossCurve,
    BestValue,
    EpochsToTarget,
    FinalValue,
    GapToBaseline,
    SecondsToTarget,
    SpeedupOverBaseline,
    StepsToTarget,
)

BASELINE = ([0.0, 50.0, 300.0], [3.0, 2.0, 0.5])

METRICS = {
    "steps": lambda: StepsToTarget(target=1.0),
    "steps_smoothed": lambda: StepsToTarget(target=1.2, window=3),
    "steps_upwards": lambda: StepsToTarget(target=1.9, higher_is_better=True),
    "epochs": lambda: EpochsToTarget(target=1.0),
    "seconds": lambda: SecondsToTarget(target=1.0),
    "area": lambda: AreaUnderLossCurve(),
    "best": lambda: BestValue(),
    "best_upwards": lambda: BestValue(higher_is_better=True),
    "final": lambda: FinalValue(),
    "gap": lambda: GapToBaseline(*BASELINE),
    "speedup": lambda: SpeedupOverBaseline(*BASELINE, target=1.0),
}


def _planted_points(count=20):
    noise = random.Random(7)
    return [(3.0 * math.exp(-i / 8) + 0.2 * noise.random(), 10.0 * i) for i in range(count)]


def _filled(make, points=None):
    metric = make()
    for value, step in _planted_points() if points is None else points:
        metric.update(value, step)
    return metric


def _state_of(metric):
    return [torch.cat(metric.steps).tolist(), torch.cat(metric.values).tolist()]


@pytest.fixture(params=METRICS.values(), ids=METRICS.keys())
def make(request):
    """A constructor of every metric in turn."""
    return request.param


@pytest.fixture
def metrics_by_name():
    return METRICS


@pytest.fixture
def planted_points():
    """A noisy falling curve as pairs (value, step)."""
    return _planted_points


@pytest.fixture
def filled():
    """A metric that has seen the planted points, or the given ones."""
    return _filled


@pytest.fixture
def state_of():
    return _state_of

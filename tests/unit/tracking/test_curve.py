"""Points in the order of writing become a curve with strictly increasing steps."""

import random

from lightning_qsgd.metrics.functional.curve import as_curve
from tests.event_files import latest_per_step


def test_the_points_are_sorted_and_the_last_of_a_step_counts():
    rng = random.Random(3)
    points = [(rng.randrange(50), rng.random(), float(i)) for i in range(500)]

    curve = latest_per_step(points)

    slow = [[p for p in points if p[0] == step][-1] for step in sorted({p[0] for p in points})]
    assert [*zip(curve.steps, curve.values, curve.wall_times, strict=True)] == slow


def test_no_points_make_an_empty_curve():
    curve = latest_per_step([])

    assert [array.shape for array in vars(curve).values()] == [(0,), (0,), (0,)]


def test_the_convergence_metrics_accept_the_curve():
    curve = latest_per_step([(3, 0.5, 2.0), (1, 2.0, 0.0)])

    steps, values = as_curve(curve.steps, curve.values)

    assert (steps.tolist(), values.tolist()) == ([1.0, 3.0], [2.0, 0.5])

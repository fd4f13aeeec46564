"""Gap between two curves at equal steps."""

import torch
from torch import Tensor

from lightning_qsgd.metrics.functional.curve import Points, as_curve
from lightning_qsgd.metrics.functional.interpolation import value_at_step


def gap_at_equal_step(
    steps: Points, values: Points, baseline_steps: Points, baseline_values: Points
) -> tuple[Tensor, Tensor]:
    """Subtract the baseline from the arm, at the arm's steps inside the baseline's range.

    Gap = arm - baseline, in the metric's own unit. Its good sign is that of the metric: negative
    for a loss, positive for an accuracy.

    Args:
        steps: The arm's steps, strictly increasing, shape (n,).
        values: The arm's values, shape (n,), in the metric's unit.
        baseline_steps: The baseline's steps, strictly increasing, shape (m,), same unit.
        baseline_values: The baseline's values, shape (m,), read by `value_at_step`.

    Returns:
        Steps and gaps, both of shape (k,) with k <= n, float64; empty if the ranges do not meet.

    Raises:
        ValueError: If the points of the arm or of the baseline are no curve.

    Example:
        >>> steps, gaps = gap_at_equal_step([5, 10, 15], [2.0, 1.0, 0.5], [0, 10], [4.0, 2.0])
        >>> steps.tolist(), gaps.tolist()
        ([5.0, 10.0], [-1.0, -1.0])
    """
    steps, values = as_curve(steps, values)
    baseline_steps, baseline_values = as_curve(baseline_steps, baseline_values)
    inside = (steps >= baseline_steps[0]) & (steps <= baseline_steps[-1])
    steps, values = steps[inside], values[inside]
    known_steps, known_values = baseline_steps.tolist(), baseline_values.tolist()
    baseline = [value_at_step(known_steps, known_values, step) for step in steps.tolist()]
    return steps, values - torch.tensor(baseline, dtype=torch.float64)

"""What a curve says of convergence: area, best, gap, speedup, steps to a target."""

import math

import torch
from torch import Tensor

from lightning_qsgd.metrics.functional.curve import Points, as_curve, checked_target, value_at_step


def area_under_curve(steps: Points, values: Points) -> float:
    r"""Integrate a curve by trapezoids and divide by the steps it spans.

    .. math:: A = \frac{1}{x_n - x_1} \sum_{i<n} (x_{i+1} - x_i) \frac{v_i + v_{i+1}}{2}

    Divided by the span, the area is a mean height: it has the unit of the values, does not depend
    on how often the curve was observed nor on the unit of the steps, and a one-point curve has the
    height of its point. Compare only curves over the same range of steps; a longer run spends more
    of its range at low loss. A NaN makes the area NaN: leaving it out would reward divergence.

    Args:
        steps: Strictly increasing, shape (n,), in any unit.
        values: Shape (n,), in the metric's unit.

    Returns:
        Mean height, in the metric's unit, between the least and the greatest value.

    Raises:
        ValueError: If the points are no curve.

    Example:
        >>> area_under_curve([0, 10, 30], [4.0, 2.0, 0.0])
        1.6666666666666667
    """
    steps, values = as_curve(steps, values)
    if steps.numel() == 1:
        return float(values[0])
    return float(torch.trapezoid(values, steps) / (steps[-1] - steps[0]))


def best_value(steps: Points, values: Points, *, higher_is_better: bool = False) -> float:
    """Find the best value a run ever had.

    Args:
        steps: Strictly increasing, shape (n,), in any unit.
        values: Shape (n,), in the metric's unit. NaN is ignored: it is no value at all.
        higher_is_better: Whether the values improve upwards (accuracy) or downwards (loss).

    Returns:
        The extreme value in the metric's unit; nan if all values are NaN.

    Raises:
        ValueError: If the points are no curve.

    Example:
        >>> best_value([0, 1, 2], [3.0, 1.0, float("nan")])
        1.0
    """
    _, values = as_curve(steps, values)
    known = values[~values.isnan()]
    if known.numel() == 0:
        return math.nan
    return float(known.max() if higher_is_better else known.min())


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


def speedup_over_baseline(cost: float, baseline_cost: float) -> float:
    """Divide the baseline's cost of reaching a target by the arm's.

    1 means no speedup, 2 half the cost, 0.5 twice the cost. The edges, where a division would
    mislead:

    ================  ====================  =========
    arm               baseline              speedup
    ================  ====================  =========
    never reaches     reaches               0
    reaches           never reaches         inf
    never reaches     never reaches         nan
    reaches at 0      reaches at 0          1
    reaches at 0      reaches later         inf
    ================  ====================  =========

    Args:
        cost: What the arm paid (see `steps_to_target`): steps, epochs or seconds; `inf` for never.
        baseline_cost: What the baseline paid, in the same unit and for the same target.

    Returns:
        The ratio, in [0, inf], or nan if neither reached the target.

    Raises:
        ValueError: If a cost is negative or NaN.

    Example:
        >>> speedup_over_baseline(50.0, baseline_cost=100.0)
        2.0
    """
    for name, paid in (("cost", cost), ("baseline_cost", baseline_cost)):
        if not paid >= 0:
            raise ValueError(
                f"Expected `{name}` to be non-negative, got {paid}: it counts work done. "
                "Take it from `steps_to_target`, which says inf for never."
            )
    if cost == baseline_cost:
        return math.nan if math.isinf(cost) else 1.0
    return baseline_cost / cost if cost > 0 else math.inf


TARGET_RTOL = 2.0**-23
"""One unit in the last place of float32, relative to the target.

Losses and accuracies arrive as float32, and float32(0.9) < 0.9: without it an accuracy of exactly
9 out of 10 would miss the target 0.9.
"""


def steps_to_target(
    steps: Points, values: Points, target: float, *, higher_is_better: bool = False
) -> float:
    """Find the first observed step at which the target is reached.

    Reached means `value <= target` (`>=` if higher is better) up to `TARGET_RTOL`, at an observed
    point: nothing is interpolated, so the answer is quantised to the interval of observation. A
    later return to worse values does not undo it. NaN never reaches.

    Args:
        steps: Strictly increasing, shape (n,), in any unit: global steps, epochs, seconds.
        values: Shape (n,), in the metric's unit; smooth a minibatch loss with `trailing_mean`.
        target: Value to reach, in the metric's unit, finite.
        higher_is_better: Whether the values improve upwards (accuracy) or downwards (loss).

    Returns:
        The step in the unit of `steps`; `inf` if the target is never reached.

    Raises:
        ValueError: If the points are no curve or `target` is not finite.

    Example:
        >>> steps_to_target([0, 100, 200], [2.0, 0.9, 1.5], target=1.0)
        100.0
        >>> steps_to_target([0, 100, 200], [2.0, 0.9, 1.5], target=0.5)
        inf
    """
    steps, values = as_curve(steps, values)
    target = checked_target(target)
    slack = TARGET_RTOL * abs(target)
    reached = values >= target - slack if higher_is_better else values <= target + slack
    first = reached.nonzero()
    return float(steps[first[0]]) if first.numel() else math.inf

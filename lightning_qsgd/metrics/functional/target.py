"""Cost of reaching a target."""

import math

from lightning_qsgd.metrics.functional.curve import Points, as_curve
from lightning_qsgd.metrics.functional.validation import checked_target

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

"""Value of a curve between its points."""

import math
from bisect import bisect_left
from collections.abc import Sequence


def value_at_step(steps: Sequence[float], values: Sequence[float], step: float) -> float:
    """Read a curve at any step, by linear interpolation.

    Linear, and not the last observation: a loss falls between two observations, so the last one is
    always too high and would flatter whatever is compared with it. Outside the observed range the
    answer is NaN: nothing is extrapolated. O(log n), so it can be asked live at every training
    step; for the same reason the curve is not checked here (see `as_curve`).

    Args:
        steps: Strictly increasing, length n, as plain Python floats.
        values: Length n, in the metric's unit.
        step: Where to read, in the unit of `steps`.

    Returns:
        The value in the metric's unit: exactly the observed one at an observed step, NaN outside
        the range and between two points of which one is not finite.

    Example:
        >>> value_at_step([0.0, 10.0], [4.0, 2.0], step=2.5)
        3.5
        >>> value_at_step([0.0, 10.0], [4.0, 2.0], step=11.0)
        nan
    """
    right = bisect_left(steps, step)
    if right == len(steps) or (right == 0 and steps[0] != step):
        return math.nan
    if steps[right] == step:
        return values[right]
    left = right - 1
    weight = (step - steps[left]) / (steps[right] - steps[left])
    value = values[left] + weight * (values[right] - values[left])
    return value if math.isfinite(value) else math.nan

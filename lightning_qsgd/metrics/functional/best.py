"""Best value of a curve."""

import math

from lightning_qsgd.metrics.functional.curve import Points, as_curve


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

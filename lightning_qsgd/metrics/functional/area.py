"""Area under a curve, as a mean height."""

import torch

from lightning_qsgd.metrics.functional.curve import Points, as_curve


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

"""Cost of the baseline over cost of the arm."""

import math


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

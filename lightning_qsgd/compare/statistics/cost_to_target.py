"""Costs to reach a target, where never is an answer."""

from collections.abc import Sequence
from math import isfinite, nan


def median_cost(costs: Sequence[float]) -> float:
    """Return the cost by which half of the runs had reached the target.

    A run that misses is not left out: it took longer than it was watched. With every miss watched
    to the same end this is the median of the Kaplan-Meier curve, the first cost at which at most
    half of the runs are still on their way.

    Args:
        costs: Steps, epochs or seconds per run, ``inf`` for a miss, no NaN.

    Returns:
        The median in the same unit, ``inf`` if fewer than half reached it; NaN without runs.

    Example:
        >>> inf = float("inf")
        >>> median_cost([100.0, inf, 300.0, inf]), median_cost([100.0, inf, inf])
        (300.0, inf)

    References:
        E. L. Kaplan and P. Meier, "Nonparametric Estimation from Incomplete Observations", JASA 53
        (1958), 457-481.
    """
    if not costs:
        return nan
    return sorted(costs)[(len(costs) - 1) // 2]


def share_reached(costs: Sequence[float]) -> float:
    """Return the share of runs that reached the target at all; NaN without runs.

    Example:
        >>> share_reached([100.0, float("inf")])
        0.5
    """
    return sum(map(isfinite, costs)) / len(costs) if costs else nan

"""Costs to a target, where never is an answer, and what several tasks say together."""

from collections.abc import Mapping, Sequence
from math import inf, isfinite, nan

import numpy as np
from numpy.typing import NDArray

from lightning_qsgd.compare.statistics.mean_tests import Interval


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


def performance_profile(costs: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Return by which factor each arm is costlier than the cheapest, task by task, sorted.

    The share of the first k factors is the arm's profile: at factor f it solves as many tasks
    within f times the best arm's cost. A task that no arm solves is nobody's.

    Args:
        costs: Cost of each task by arm, all positive, ``inf`` where the arm never got there.

    Example:
        >>> performance_profile({"a": [10.0, float("inf")], "b": [20.0, 5.0]})
        {'a': [1.0, inf], 'b': [1.0, 2.0]}

    References:
        E. D. Dolan and J. J. More, "Benchmarking Optimization Software with Performance Profiles",
        Math. Program. 91 (2002), 201-213.
    """
    best = [min(task) for task in zip(*costs.values(), strict=True)]
    return {
        arm: sorted(
            inf if cost == inf else cost / least for cost, least in zip(own, best, strict=True)
        )
        for arm, own in costs.items()
    }


def mean_over_tasks(
    groups: Sequence[NDArray[np.float64]], alpha: float, resamples: int, seed: int
) -> tuple[float, Interval]:
    """Average over tasks, with an interval by the hierarchical bootstrap.

    Tasks are drawn again, and the seeds within each: the interval is for tasks like these, not for
    these tasks alone. With five tasks and a level below 2 / 5^5 it is as wide as the worst task
    demands.

    Args:
        groups: One number per seed, shape (n,), for each task.
        alpha: One minus the confidence.
        resamples: Number of resamples.
        seed: Seed of the bootstrap.

    Returns:
        Mean of the tasks' means and its percentile interval, in the unit of the numbers.

    References:
        S. Ren et al., "Nonparametric Bootstrapping for Hierarchical Data", J. Appl. Stat. 37
        (2010), 1487-1498.
    """
    draw = np.random.default_rng(seed)
    chosen = draw.integers(0, len(groups), (resamples, len(groups)))
    means = np.empty(chosen.shape)
    for number, group in enumerate(groups):
        places = chosen == number
        drawn = draw.integers(0, len(group), (int(places.sum()), len(group)))
        means[places] = group[drawn].mean(axis=1)
    low, high = np.quantile(means.mean(axis=1), [alpha / 2, 1 - alpha / 2])
    mean = float(np.mean([group.mean() for group in groups]))
    return mean, Interval(float(low), float(high))

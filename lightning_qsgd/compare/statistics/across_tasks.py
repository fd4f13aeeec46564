"""Costs to a target, where never is an answer, and what several tasks say together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

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


@dataclass(frozen=True)
class HorizonRatio:
    """How long training has to be for an arm to reach the target, over what the baseline needs.

    An interval stands for what is known: both ends are equal where the need lies between two
    horizons, the upper one is infinite if the target was not reached, and the lower one 0 if even
    the shortest horizon reached it.

    Attributes:
        seeds: Number of seeds that both have at every horizon.
        need: Horizon that the arm needs, in the unit of the horizons.
        baseline: Horizon that the baseline needs.
        ratio: The first over the second.
        interval: Where the ratio may lie, by the bootstrap over seeds.
    """

    seeds: int
    need: Interval
    baseline: Interval
    ratio: Interval
    interval: Interval


def horizon_ratio(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    horizons: Sequence[float],
    alpha: float,
    resamples: int,
    seed: int,
) -> HorizonRatio:
    """Compare the horizons at which two arms reach a target.

    A horizon is a length of training at which runs end, schedules included. An arm needs the
    shortest one at which the mean over seeds is at the target; between two horizons the mean is
    read on a straight line. The bootstrap draws seeds with all that belongs to them, both arms and
    every horizon, and its percentiles are expanded for few seeds.

    Args:
        ours: The arm's surplus over the target, positive where it is reached, shape (seeds,
            horizons); minus infinity for a run that diverged.
        theirs: That of the baseline, of the same shape.
        horizons: Lengths in steps or epochs, rising.
        alpha: One minus the confidence.
        resamples: Number of resamples.
        seed: Seed of the bootstrap.

    Example:
        >>> far = np.array([[-1.0, 1.0, 3.0], [-1.0, 1.0, 3.0]])
        >>> horizon_ratio(far, far - 2, [100, 200, 300], 0.05, 99, 0).ratio
        Interval(low=0.6, high=0.6)

    References:
        T. C. Hesterberg, "What Teachers Should Know About the Bootstrap", Am. Stat. 69 (2015),
        371-386, for expanded percentiles.
    """
    count, lengths = len(ours), np.asarray(horizons, np.float64)
    drawn = np.random.default_rng(seed).integers(0, count, (resamples, count))
    need, base = (_needs(one.mean(axis=0)[None], lengths) for one in (ours, theirs))
    lows, highs = _ratio(*(_needs(one[drawn].mean(axis=1), lengths) for one in (ours, theirs)))
    tail = float(ndtr(sqrt(count / (count - 1)) * stdtrit(count - 1, alpha / 2)))
    # No interpolation between resamples: one of them may be infinite.
    low = float(np.quantile(lows, tail, method="lower"))
    high = float(np.quantile(highs, 1 - tail, method="higher"))
    found, between = _interval(_ratio(need, base)), Interval(low, high)
    return HorizonRatio(count, _interval(need), _interval(base), found, between)


Ends = tuple[NDArray[np.float64], NDArray[np.float64]]


def _interval(ends: Ends) -> Interval:
    return Interval(float(ends[0][0]), float(ends[1][0]))


def _needs(means: NDArray[np.float64], lengths: NDArray[np.float64]) -> Ends:
    """Bound the horizon that is needed, for means of shape (n, horizons)."""
    reached = means >= 0
    first = reached.argmax(axis=1)
    before = np.maximum(first - 1, 0)
    rows = np.arange(len(means))
    above, below = means[rows, first], means[rows, before]
    with np.errstate(all="ignore"):  # where there is nothing in between, the ends below count
        share = np.where(np.isfinite(below), -below / (above - below), 1.0)
        between = lengths[before] + share * (lengths[first] - lengths[before])
    never, at_once = ~reached.any(axis=1), reached[:, 0]
    low = np.select([never, at_once], [lengths[-1], 0.0], between)
    return low, np.select([never, at_once], [inf, lengths[0]], between)


def _ratio(ours: Ends, theirs: Ends) -> Ends:
    with np.errstate(divide="ignore"):
        return ours[0] / theirs[1], ours[1] / theirs[0]

"""What a design can see: power, and the correction for many questions."""

from collections.abc import Sequence
from functools import lru_cache
from math import inf, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtrit


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of *any* false claim stays below the level.

    The k-th smallest of m p-values is multiplied by m - k + 1, and none may be smaller than the
    one before it. No independence is assumed.

    Args:
        p_values: One per question, in [0, 1].

    Returns:
        Adjusted p-values in the order given: compare them with the level itself.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    References:
        S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Stat. 6
        (1979), 65-70.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    stepped = np.maximum.accumulate(factors * np.asarray(p_values, dtype=np.float64)[order])
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(p) for p in adjusted]


LARGEST_EFFECT = 100.0
MOST_PAIRS = 1_000_000

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)
TAILS, WEIGHTS = (1 - _NODES) / 2, _WEIGHTS / 2
"""Tail chances of V at which the mean is taken, and their weights; right to four digits."""


def power_of_t(effect: float, pairs: int, alpha: float) -> float:
    r"""Return the chance that a two-sided paired t-test sees an effect, on its right side.

    That is the upper tail of the noncentral t, here as the mean over the spread that is observed,

    .. math:: \mathrm{E}\, \Phi\big(d \sqrt{n} - t_{1 - \alpha/2} \sqrt{V / (n - 1)}\big), \quad
        V \sim \chi^2_{n-1}

    because scipy's own function returns NaN for some large effects.

    Args:
        effect: True mean difference over the standard deviation of the differences, >= 0.
        pairs: Number of pairs, at least 2.
        alpha: Level of the test.

    Returns:
        A probability. The chance to see it on the wrong side is left out: it is no detection.

    Example:
        >>> round(power_of_t(effect=0.75, pairs=16, alpha=0.05), 3)
        0.801
    """
    critical = float(stdtrit(pairs - 1, 1 - alpha / 2))
    spread = np.sqrt(chdtri(pairs - 1, TAILS) / (pairs - 1))
    return float(WEIGHTS @ ndtr(effect * sqrt(pairs) - critical * spread))


@lru_cache(maxsize=1024)
def detectable_effect(pairs: int, alpha: float, power: float) -> float:
    """Find the smallest effect that a paired t-test sees with a given chance.

    Args:
        pairs: Number of pairs, at least 2.
        alpha: Level of the test; for the first of m arms under Holm's correction, alpha / m.
        power: Chance to see it.

    Returns:
        Mean difference in units of the standard deviation of the differences; infinite beyond
        `LARGEST_EFFECT`.

    Example:
        >>> round(detectable_effect(pairs=16, alpha=0.05, power=0.8), 2)
        0.75
    """

    def lack(effect: float) -> float:
        return power_of_t(effect, pairs, alpha) - power

    return float(brentq(lack, 0.0, LARGEST_EFFECT)) if lack(LARGEST_EFFECT) > 0 else inf


@lru_cache(maxsize=1024)
def pairs_needed(effect: float, alpha: float, power: float) -> int:
    """Find the number of pairs with which a paired t-test sees an effect.

    Args:
        effect: Mean difference in units of the standard deviation of the differences, > 0.
        alpha: Level of the test.
        power: Chance to see it.

    Returns:
        The least number of pairs, at least 2 and at most `MOST_PAIRS`.

    Example:
        >>> pairs_needed(effect=0.5, alpha=0.05, power=0.8)
        34
    """
    few, enough = 1, 2
    while power_of_t(effect, enough, alpha) < power and enough < MOST_PAIRS:
        few, enough = enough, min(2 * enough, MOST_PAIRS)
    while enough - few > 1:
        middle = (few + enough) // 2
        if power_of_t(effect, middle, alpha) < power:
            few = middle
        else:
            enough = middle
    return enough

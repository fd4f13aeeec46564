"""What a design can see: power, and the correction for many questions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from math import inf, isnan, nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtrit

from lightning_qsgd.compare.statistics.paired_gain import Method


def holm(p_values: Sequence[float], others: int = 0) -> list[float]:
    """Adjust p-values so that the chance of *any* false claim stays below the level.

    The k-th smallest of m p-values is multiplied by m - k + 1, and none may be smaller than the
    one before it. No independence is assumed.

    Args:
        p_values: One per question, in [0, 1].
        others: Number of questions asked besides, whose p-values are not known. They count as if
            they were 1, which makes no other claim easier than the true ones would.

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
    factors = len(p_values) + others - np.arange(len(p_values))
    stepped = np.maximum.accumulate(factors * np.asarray(p_values, dtype=np.float64)[order])
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(p) for p in adjusted]


LARGEST_EFFECT = 100.0
MOST_PAIRS = 1_000_000


@cache  # found when first asked for: it takes longer than all else that is done on import
def _tails() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return tail chances of V to take the mean at, and their weights; right to four digits."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    return (1 - nodes) / 2, weights / 2


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
    tails, weights = _tails()
    spread = np.sqrt(chdtri(pairs - 1, tails) / (pairs - 1))
    return float(weights @ ndtr(effect * sqrt(pairs) - critical * spread))


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


COST_OF_THREE_TESTS = 3
"""Seeds that three tests need beyond one of them by t, for normal gains; measured at an effect of
`LARGE`, and a little more than smaller effects need."""


def visible_effect(pairs: int, alpha: float, power: float) -> float:
    """Find the smallest effect that all three tests see with a given chance, if gains are normal.

    Args:
        pairs: Number of pairs.
        alpha: Level of the tests; for the first of m arms under Holm's correction, alpha / m.
        power: Chance to see it.

    Returns:
        Mean difference in units of the standard deviation of the differences; infinite if there is
        none.

    Example:
        >>> round(visible_effect(pairs=16, alpha=0.05, power=0.8), 2)
        0.85
    """
    by_t = pairs - COST_OF_THREE_TESTS
    return detectable_effect(by_t, alpha, power) if by_t > 1 else inf


def seeds_for(effect: float, alpha: float, power: float) -> int:
    """Find the number of pairs with which all three tests see an effect, if gains are normal.

    Args:
        effect: Mean difference in units of the standard deviation of the differences, > 0.
        alpha: Level of the tests.
        power: Chance to see it.

    Example:
        >>> seeds_for(effect=2.0, alpha=0.05, power=0.8)
        8
    """
    return pairs_needed(effect, alpha, power) + COST_OF_THREE_TESTS


LARGE = 2.0
"""An effect that no comparison should miss, in standard deviations of the paired differences."""


@dataclass(frozen=True)
class Design:
    """What can be seen with so many seeds and questions, before anything has run.

    Args:
        seeds: Number of pairs of every question.
        questions: Number of arms on trial.
        method: How sure a claim has to be.

    Example:
        >>> Design(4, 22).seeds_needed, Design(4, 22).is_comparison, Design(16, 22).is_comparison
        (12, False, True)
    """

    seeds: int
    questions: int
    method: Method = field(default_factory=Method)

    @property
    def level(self) -> float:
        """Level that the arm with the smallest p-value has to pass: Holm's first step."""
        return self.method.alpha / max(1, self.questions)

    @property
    def smallest_p(self) -> float:
        """Smallest corrected p-value that the bootstrap with so many resamples can give.

        Gains that are all equal are judged by their signs, for which p can be smaller.
        """
        return min(1.0, max(1, self.questions) / (self.method.resamples + 1))

    @property
    def seeds_needed(self) -> int:
        """Seeds with which an effect of `LARGE` standard deviations would be seen."""
        return seeds_for(LARGE, self.level, self.method.power)

    @property
    def is_comparison(self) -> bool:
        """Whether a verdict is possible: not even a large effect would be seen otherwise."""
        return self.seeds >= self.seeds_needed and self.smallest_p <= self.method.alpha

    @property
    def visible(self) -> float:
        """Smallest effect that would be seen, in standard deviations of the differences."""
        return visible_effect(self.seeds, self.level, self.method.power)

    def words(self, spread: float = nan) -> str:
        """Say what can be seen, before anything has run.

        Args:
            spread: Standard deviation of one run's metric over seeds, in its unit; NaN if unknown.

        Example:
            >>> print(Design(4, 22).words())
            This is a trial run, not a comparison: 12 seeds are needed for 22 arms on trial, not 4.
        """
        arms = f"{self.questions} arm{'' if self.questions == 1 else 's'}"
        if not self.is_comparison:
            return (
                f"This is a trial run, not a comparison: {self.seeds_needed} seeds are needed for "
                f"{arms} on trial, not {self.seeds}."
            )
        text = (
            f"With {self.seeds} seeds and {arms} on trial, an effect of "
            f"{self.visible:.2g} standard deviations of the paired differences is seen in "
            f"{self.method.power:.0%} of cases, if they are normal; no corrected p-value can be "
            f"below {self.smallest_p:.1g}, unless all gains are equal."
        )
        if isnan(spread):
            return text
        # Pairs share data and first weights, which makes differences smaller than this.
        size = self.visible * sqrt(2) * spread
        return f"{text} Runs spread by {spread:.2g} so far: that is a gain of {size:.2g} at most."

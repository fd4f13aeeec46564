"""One difference between two arms, over the seeds that both have."""

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from lightning_qsgd.compare.statistics.bootstrap import BootstrapMean
from lightning_qsgd.compare.statistics.effect_size import cohens_d, probability_of_improvement
from lightning_qsgd.compare.statistics.interval import Interval
from lightning_qsgd.compare.statistics.mean_tests import (
    skew_corrected_p_value,
    t_interval,
    t_p_value,
)
from lightning_qsgd.compare.statistics.method import Method

FEWEST_PAIRS = 3
"""Below it nothing is tested: two differences have one degree of freedom."""

UNKNOWN = Interval(nan, nan)


@dataclass(frozen=True)
class PairedGain:
    """How much better an arm is than another, seed by seed.

    Attributes:
        gains: Gain by seed, positive where the arm is better, in the metric's unit.
        mean: Mean gain; NaN without pairs.
        sd: Standard deviation of the gains; NaN with fewer than two pairs.
        t: Interval by Student's t; NaN with fewer than `FEWEST_PAIRS` pairs.
        bca: Interval by the BCa bootstrap; likewise.
        p_t: Two-sided p-value by t; 1 with fewer than `FEWEST_PAIRS` pairs.
        p_skew: The same with the skew corrected.
        p_bca: The same by the bootstrap.
    """

    gains: dict[int, float]
    mean: float
    sd: float
    t: Interval = UNKNOWN
    bca: Interval = UNKNOWN
    p_t: float = 1.0
    p_skew: float = 1.0
    p_bca: float = 1.0

    @property
    def p(self) -> float:
        """The largest p-value: a claim needs all three tests."""
        return max(self.p_t, self.p_skew, self.p_bca)

    @property
    def pairs(self) -> int:
        """Number of seeds that both arms have."""
        return len(self.gains)

    @property
    def enough(self) -> bool:
        """Whether there are pairs enough to test anything."""
        return self.pairs >= FEWEST_PAIRS

    @property
    def effect(self) -> float:
        """Cohen's d of the pairs; NaN with fewer than two."""
        return cohens_d(self._array) if self.pairs > 1 else nan

    @property
    def improvement(self) -> float:
        """Share of pairs in which the arm won, ties counting half; NaN without pairs."""
        return probability_of_improvement(self._array) if self.gains else nan

    @property
    def _array(self) -> NDArray[np.float64]:
        return np.array(list(self.gains.values()), dtype=np.float64)


def paired_gain(gains: dict[int, float], method: Method) -> PairedGain:
    """Test whether a mean gain is zero, by Student's t and by the BCa bootstrap.

    Gains that are all equal have no spread, from which either test could start. If they are zero,
    the arms are the same and p is 1. Otherwise all that is left is that n signs agree: p is that
    of the sign-flip test, 2 / 2**n, and the intervals shrink to the value.

    Args:
        gains: Gain by seed, finite, in the metric's unit.
        method: Level, resamples and seed.

    Returns:
        Mean, intervals and p-values, none of them corrected for other questions.

    Example:
        >>> gain = paired_gain({0: 0.1, 1: 0.3, 2: 0.2, 3: 0.2}, Method())
        >>> round(gain.mean, 3), gain.t.excludes_zero, gain.bca.excludes_zero
        (0.2, True, True)
    """
    sample = np.array(list(gains.values()), dtype=np.float64)
    mean = float(sample.mean()) if len(sample) else nan
    sd = float(sample.std(ddof=1)) if len(sample) > 1 else nan
    if len(sample) < FEWEST_PAIRS:
        return PairedGain(gains, mean, sd)
    if _have_no_spread(sample):
        value = float(sample[0])
        p = 1.0 if value == 0 else 2.0 ** (1 - len(sample))
        return PairedGain(
            gains, value, 0.0, Interval(value, value), Interval(value, value), p, p, p
        )
    bootstrap = BootstrapMean(sample, method.resamples, np.random.default_rng(method.seed))
    return PairedGain(
        gains,
        mean,
        sd,
        t_interval(sample, method.alpha),
        bootstrap.interval(method.alpha),
        t_p_value(sample),
        skew_corrected_p_value(sample),
        bootstrap.p_value,
    )


def _have_no_spread(sample: NDArray[np.float64]) -> bool:
    # Equal differences of unequal numbers, such as 0.3 - 0.2 and 0.2 - 0.1, differ by rounding.
    return bool(np.ptp(sample) <= 1e-12 * np.abs(sample).max())

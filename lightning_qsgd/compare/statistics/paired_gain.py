"""The gain of an arm over pairs of runs: size, interval, p-values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import copysign, inf, nan

import numpy as np
from numpy.typing import NDArray

from lightning_qsgd.compare.statistics.mean_tests import (
    BootstrapMean,
    Interval,
    in_units,
    skew_corrected_interval,
    skew_corrected_p_value,
    t_interval,
    t_p_value,
)


def probability_of_improvement(gains: NDArray[np.float64]) -> float:
    """Return the share of pairs in which the arm won; a tie counts half.

    Args:
        gains: Paired differences, positive where the arm is better, shape (n,), n >= 1.

    Example:
        >>> probability_of_improvement(np.array([1.0, 2.0, 0.0, -1.0]))
        0.625
    """
    return float(np.mean((gains > 0) + (gains == 0) / 2))


def cohens_d(gains: NDArray[np.float64]) -> float:
    """Return the mean difference in units of the standard deviation of the differences.

    This is Cohen's d of pairs, d_z.

    Args:
        gains: Paired differences, shape (n,), n >= 2.

    Returns:
        The effect size; 0 if all differences are zero, infinite if all are equal to another number.

    Example:
        >>> cohens_d(np.array([1.0, 2.0, 3.0]))
        2.0
    """
    mean = float(gains.mean())
    if np.ptp(gains) == 0:
        return copysign(inf, mean) if mean else 0.0
    return mean / _spread(gains)


def _spread(sample: NDArray[np.float64]) -> float:
    """Return the standard deviation, also of numbers whose squares have no float."""
    scaled, unit = in_units(sample)
    return float(scaled.std(ddof=1)) * unit


@dataclass(frozen=True)
class Method:
    """Fixes everything that a statistic may depend on besides the data.

    Args:
        alpha: Chance that any claim of the comparison is false, in (0, 1).
        power: Chance with which an effect counts as detectable, in (alpha, 1).
        resamples: Bootstrap resamples. The smallest p-value that they can show is
            `1 / (resamples + 1)`; Holm's correction multiplies it by the number of arms.
        seed: Seed of the bootstrap. Every difference is resampled with the same indices, so a
            result does not depend on which other arms took part.

    Raises:
        ValueError: If a share is no share, or there are too few resamples.

    Example:
        >>> Method().alpha
        0.05
    """

    alpha: float = 0.05
    power: float = 0.8
    resamples: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < self.power < 1:
            raise ValueError(
                f"Expected 0 < alpha < power < 1, got alpha {self.alpha} and power {self.power}: "
                "a claim would be free or impossible. Use 0.05 and 0.8."
            )
        if self.resamples < 99:
            raise ValueError(
                f"Expected `resamples` to be at least 99, got {self.resamples}: an interval would "
                "hang on a few resamples. Use 9999."
            )

    @property
    def confidence(self) -> str:
        """How sure an interval is, in words.

        Example:
            >>> Method().confidence, Method(alpha=0.05 / 6).confidence
            ('95 %', '99.17 %')
        """
        return f"{100 * (1 - self.alpha):.4g} %"


FEWEST_PAIRS = 3
"""Below it nothing is tested: two differences have one degree of freedom."""

UNKNOWN = Interval(nan, nan)


@dataclass(frozen=True)
class PairedGain:
    """How much better an arm is than another, seed by seed.

    Attributes:
        gains: Gain by seed, positive where the arm is better, in the metric's unit.
        mean: Mean gain; NaN without pairs.
        sd: Standard deviation of the gains; NaN with fewer than two pairs, and 0 where they differ
            by rounding alone.
        t: Interval by Student's t; NaN with fewer than `FEWEST_PAIRS` pairs.
        bca: Interval by the BCa bootstrap; likewise.
        p_t: Two-sided p-value by t; 1 with fewer than `FEWEST_PAIRS` pairs.
        p_skew: The same with the skew corrected.
        p_bca: The same by the bootstrap.
        bootstrap: Resampled means, for intervals of other levels; None without spread.
    """

    gains: dict[int, float]
    mean: float
    sd: float
    t: Interval = UNKNOWN
    bca: Interval = UNKNOWN
    p_t: float = 1.0
    p_skew: float = 1.0
    p_bca: float = 1.0
    bootstrap: BootstrapMean | None = field(default=None, repr=False, compare=False)

    def interval(self, alpha: float) -> Interval:
        """Bound the mean gain by all three tests at once: it is inside where any would have it.

        Args:
            alpha: One minus the confidence; several intervals hold together at a share of it.
        """
        if self.bootstrap is None:
            return self.t
        sample = self._array
        found = (
            t_interval(sample, alpha),
            skew_corrected_interval(sample, alpha),
            self.bootstrap.interval(alpha),
        )
        return Interval(min(one.low for one in found), max(one.high for one in found))

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
        if self.pairs < 2:
            return nan
        if not self.sd:
            return 0.0 if self.p == 1 else copysign(inf, self.mean)
        return cohens_d(self._array)

    @property
    def improvement(self) -> float:
        """Share of pairs in which the arm won, ties counting half; NaN without pairs."""
        return probability_of_improvement(self._array) if self.gains else nan

    @property
    def _array(self) -> NDArray[np.float64]:
        return np.array(list(self.gains.values()), dtype=np.float64)


def paired_gain(
    gains: dict[int, float], method: Method, rounding: Mapping[int, float] | None = None
) -> PairedGain:
    """Test whether a mean gain is zero, by Student's t and by the BCa bootstrap.

    Gains that are equal, but for rounding, have no spread, from which either test could start. If
    they are zero, again but for rounding, p is 1. Otherwise all that is left is that n signs agree:
    p is that of the sign-flip test, 2 / 2**n, and the intervals shrink to the value.

    Args:
        gains: Gain by seed, finite, in the metric's unit.
        method: Level, resamples and seed.
        rounding: By how much rounding may move a gain, by seed, in the metric's unit; None for not
            at all. It hangs on the size of the metric at that seed, which the gain does not tell;
            see `rounding_of`.

    Returns:
        Mean, intervals and p-values, none of them corrected for other questions.

    Example:
        >>> gain = paired_gain({0: 0.1, 1: 0.3, 2: 0.2, 3: 0.2}, Method())
        >>> round(gain.mean, 3), gain.t.excludes_zero, gain.bca.excludes_zero
        (0.2, True, True)
    """
    sample = np.array(list(gains.values()), dtype=np.float64)
    mean = _mean(sample) if len(sample) else nan
    sd = _spread(sample) if len(sample) > 1 else nan
    if len(sample) < FEWEST_PAIRS:
        return PairedGain(gains, mean, sd)
    rounded = np.array([(rounding or {}).get(seed, 0.0) for seed in gains])
    if _have_no_spread(sample, rounded):
        return _by_signs(gains, sample, rounded)
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
        bootstrap,
    )


def _mean(sample: NDArray[np.float64]) -> float:
    scaled, unit = in_units(sample)
    return float(scaled.mean()) * unit


def _have_no_spread(sample: NDArray[np.float64], rounding: NDArray[np.float64]) -> bool:
    # Equal differences of unequal numbers, such as 0.3 - 0.2 and 0.2 - 0.1, differ by rounding.
    allowed = np.maximum(rounding, 1e-12 * np.abs(sample).max())
    return bool((np.abs(sample - np.median(sample)) <= allowed).all())


def _by_signs(
    gains: dict[int, float], sample: NDArray[np.float64], rounding: NDArray[np.float64]
) -> PairedGain:
    """Judge gains without spread by their signs, which those within the rounding do not have."""
    low, high = float(sample.min()), float(sample.max())
    if (np.abs(sample) <= rounding).any():
        around = Interval(min(low, 0.0), max(high, 0.0))
        return PairedGain(gains, _mean(sample), 0.0, around, around)
    # If nothing helped, each sign would be a toss of a coin: all alike in 2 of 2^n cases.
    middle, p = float(np.median(sample)), 2.0 ** (1 - len(sample))
    value = Interval(middle, middle)
    return PairedGain(gains, middle, 0.0, value, value, p, p, p)

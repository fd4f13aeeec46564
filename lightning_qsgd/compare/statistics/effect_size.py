"""How large a difference between pairs is, free of its unit."""

from math import copysign, inf

import numpy as np
from numpy.typing import NDArray


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
    return mean / float(gains.std(ddof=1))

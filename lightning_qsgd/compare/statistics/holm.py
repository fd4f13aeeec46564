"""Holm's correction for asking many questions at once."""

from collections.abc import Sequence

import numpy as np


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

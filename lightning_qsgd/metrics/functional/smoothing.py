"""Smoothing of a noisy curve before a target is looked for in it."""

import torch
from torch import Tensor

from lightning_qsgd.metrics.functional.validation import checked_window


def trailing_mean(values: Tensor, window: int) -> Tensor:
    r"""Average every value with the `window - 1` values before it.

    .. math:: s_i = \frac{1}{w} \sum_{j=i-w+1}^{i} v_j

    A training loss is the loss of one minibatch; a single lucky minibatch must not count as
    reaching a target. For the same reason the first `window - 1` entries are NaN, which never
    reaches a target, instead of means of fewer points. The mean looks back only, so a value never
    depends on what came later. A NaN spoils the `window` entries that contain it and no more: each
    window is summed on its own, where a running sum would carry the NaN to the end.

    Args:
        values: Values in the order of their steps, shape (n,), floating point.
        window: Number of points averaged, at least 1; 1 returns the values unchanged.

    Returns:
        Smoothed values, shape (n,), same dtype and unit; all NaN if n < window.

    Raises:
        TypeError: If `window` is not an integer.
        ValueError: If `window` is below 1.

    Example:
        >>> trailing_mean(torch.tensor([4.0, 0.0, 2.0]), window=2)
        tensor([nan, 2., 1.])
    """
    if checked_window(window) == 1:
        return values
    smoothed = torch.full_like(values, torch.nan)
    if len(values) >= window:
        smoothed[window - 1 :] = values.unfold(0, window, 1).mean(dim=-1)
    return smoothed

"""Trigonometric polynomials of many scores, and their gradients."""

from __future__ import annotations

import torch
from torch import Tensor


def trigonometric_polynomial(scores: Tensor, coefficients: Tensor, frequency: float) -> Tensor:
    r"""Evaluate :math:`\sum_{k=0}^{d} a_k \cos(k f s) + b_k \sin(k f s)` for each score s.

    Args:
        scores: Any shape, floating point.
        coefficients: Rows a and b, shape (2, d + 1); the first entry of b plays no part.
        frequency: f, in radians per unit of score.

    Returns:
        Values of the shape and dtype of the scores.
    """
    dtype = torch.promote_types(scores.dtype, torch.float32)
    phase = torch.nan_to_num(scores.to(dtype) * frequency, 0.0, 0.0, 0.0)
    a, b = coefficients.to(dtype)
    value: Tensor = torch.zeros_like(phase) + a[0]
    for k in range(1, len(a)):
        value = value + a[k] * torch.cos(k * phase) + b[k] * torch.sin(k * phase)
    return value.to(scores.dtype)

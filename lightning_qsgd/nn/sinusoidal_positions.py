"""Encode positions as sines and cosines of geometrically spaced frequencies."""

import math

import torch
from torch import Tensor


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Compute the fixed position code of the original transformer.

    Entry (p, 2k) is sin(p / 10000^(2k / width)) and entry (p, 2k + 1) the cosine of the same angle
    in radians, so that a shift in position is a rotation of each pair.

    Args:
        length: Number of positions.
        width: Entries per position, even.

    Returns:
        Position codes in [-1, 1], float32, shape (length, width).

    Example:
        >>> sinusoidal_positions(2, 2)
        tensor([[0.0000, 1.0000],
                [0.8415, 0.5403]])

    References:
        Vaswani et al., Attention Is All You Need, 2017, section 3.5.
    """
    positions = torch.arange(length, dtype=torch.float32)[:, None]
    exponents = torch.arange(0, width, 2, dtype=torch.float32) / width
    angles = positions * torch.exp(-math.log(10_000.0) * exponents)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(length, width)

"""Coefficients of Phi as a function of the weights, for small exact circuits: in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_qsgd.backends.fixed_points import FixedPoints


def exact_coefficients(weights: Tensor, points: FixedPoints, matrix: np.ndarray) -> Tensor:
    """Evaluate a circuit at points, and turn its values into coefficients.

    Args:
        weights: In radians, shape (num_weights,), on the CPU.
        points: The circuit at B points.
        matrix: Takes values to coefficients, shape (B, 2 (d + 1)).

    Returns:
        Rows a and b, shape (2, d + 1), float32 or float64, differentiable once. They are computed
        in double precision.
    """
    coefficients: Tensor = _Coefficients.apply(weights, points, matrix)  # type: ignore[no-untyped-call]
    return coefficients


class _Coefficients(torch.autograd.Function):
    """Evaluates both without leaving numpy; what the way back needs is a few small arrays."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, points: FixedPoints, matrix: np.ndarray) -> Tensor:
        values, ctx.way = points.values(weights.detach().double().numpy())
        ctx.points, ctx.matrix, ctx.dtype = points, matrix, weights.dtype
        dtype = torch.promote_types(weights.dtype, torch.float32)
        return torch.from_numpy(values @ matrix).to(dtype).view(2, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        of_values = ctx.matrix @ upstream[0].double().reshape(-1).numpy()
        gradient = ctx.points.gradient(ctx.way, of_values)
        return torch.from_numpy(gradient).to(ctx.dtype), None, None

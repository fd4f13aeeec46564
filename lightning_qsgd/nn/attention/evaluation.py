"""Two ways to evaluate Phi on many scores: its exact Fourier form, and score by score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.nn.attention.phi import Phi
from lightning_qsgd.nn.attention.polynomial import trigonometric_polynomial


class Evaluation(ABC):
    """Evaluates Phi on scores of any shape.

    Args:
        phi: What is evaluated.
    """

    def __init__(self, phi: Phi) -> None:
        self._phi = phi

    @abstractmethod
    def circuits_for(self, num_scores: int) -> int:
        """Count the circuits that one evaluation of so many scores runs."""

    @abstractmethod
    def __call__(self, scores: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Return Phi of each score.

        Args:
            scores: Any shape, floating point.
            weights: The circuit's weights in radians, shape (num_weights,).
            keys: One uint64 per circuit where shots are drawn.

        Returns:
            A tensor of the shape, dtype and device of the scores.
        """


class LiteralEvaluation(Evaluation):
    """Runs one circuit per score, as Eq. 4 is written: the oracle, and very slow."""

    def circuits_for(self, num_scores: int) -> int:
        """Return the number of scores."""
        return num_scores

    def __call__(self, scores: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Run the circuits; see `Evaluation`."""
        angles = scores.flatten().to(torch.promote_types(scores.dtype, torch.float32))
        return self._phi(angles, weights, keys).view(scores.shape).to(scores.dtype)


class FourierEvaluation(Evaluation):
    r"""Runs 2d + 1 circuits, whatever the number of scores, and evaluates a polynomial.

    For fixed weights :math:`\Phi(s) = \sum_{k=0}^{d} a_k \cos(k f s) + b_k \sin(k f s)` exactly,
    since each score enters through finitely many rotations. Its values at the 2d + 1 points
    :math:`s_j = 2 \pi j / ((2 d + 1) f)` determine it: they are evaluated, on any backend and with
    gradients, and a fixed matrix turns them into coefficients,
    :math:`a_k = \frac{2}{2d+1} \sum_j \Phi(s_j) \cos(k f s_j)`, and half of that for k = 0.

    Args:
        phi: What is evaluated.

    Raises:
        ValueError: If the frequencies of the circuit cannot be found.
    """

    def __init__(self, phi: Phi) -> None:
        super().__init__(phi)
        self.spectrum = phi.spectrum()
        self._tensors: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def circuits_for(self, num_scores: int) -> int:
        """Return 2d + 1."""
        return 2 * self.spectrum.degree + 1

    def coefficients(self, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Return rows a and b, shape (2, d + 1), differentiable by the weights."""
        points, matrix = self._points_and_matrix(weights)
        return (self._phi(points, weights, keys) @ matrix).view(2, -1)

    def __call__(self, scores: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Evaluate the polynomial; see `Evaluation`."""
        coefficients = self.coefficients(weights, keys)
        return trigonometric_polynomial(scores, coefficients, self.spectrum.frequency)

    def _points_and_matrix(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the points, shape (M,), and the matrix, shape (M, 2 (d + 1))."""
        key = torch.promote_types(like.dtype, torch.float32), like.device
        if key not in self._tensors:
            degree, frequency = self.spectrum.degree, self.spectrum.frequency
            count = 2 * degree + 1
            turns = 2 * pi * np.arange(count) / count
            phases = turns[:, None] * np.arange(degree + 1)
            weight = np.where(np.arange(degree + 1), 2.0, 1.0) / count
            matrix = np.concatenate([np.cos(phases) * weight, np.sin(phases) * weight], axis=1)
            arrays = turns / frequency, matrix
            self._tensors[key] = tuple(torch.tensor(a).to(key[1], key[0]) for a in arrays)  # type: ignore[assignment]
        return self._tensors[key]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tensors": {}}  # tensors of a device are made anew

"""Two ways to evaluate Phi on many scores: its exact Fourier form, and score by score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from math import pi

import numpy as np
import torch
from torch import Tensor, nn

from lightning_qsgd.backends.compiled.precision import eagerly, in_full_precision
from lightning_qsgd.backends.spectrum import Spectrum
from lightning_qsgd.nn.attention.exact_coefficients import exact_coefficients
from lightning_qsgd.nn.attention.phi import Phi
from lightning_qsgd.nn.attention.polynomial import trigonometric_polynomial


class Evaluation(ABC):
    """Evaluates Phi on scores of any shape.

    Args:
        phi: Evaluates it on some scores, with one circuit for each.
    """

    def __init__(self, phi: Phi) -> None:
        self._phi = phi

    @abstractmethod
    def circuits_for(self, num_scores: int) -> int:
        """Count the circuits that one evaluation of so many scores runs."""

    @abstractmethod
    def phi(self, scores: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Return Phi of each score.

        Args:
            scores: Any shape, floating point.
            weights: The circuit's weights in radians, shape (num_weights,).
            keys: One uint64 per circuit where shots are drawn.

        Returns:
            A tensor of the shape, dtype and device of the scores.
        """

    @abstractmethod
    def add_to(
        self, divided: Tensor, scale: Tensor, unit: float, weights: Tensor, keys: np.ndarray | None
    ) -> Tensor:
        """Return ``divided + scale * Phi(divided * unit)``; see `ScoreBias.add_to`."""


class LiteralEvaluation(Evaluation):
    """Runs one circuit per score, as Eq. 4 is written: the oracle, and very slow."""

    def circuits_for(self, num_scores: int) -> int:
        """Return the number of scores."""
        return num_scores

    def phi(self, scores: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Run the circuits; see `Evaluation.phi`."""
        angles = scores.flatten().to(torch.promote_types(scores.dtype, torch.float32))
        return self._phi(angles, weights, keys).view(scores.shape).to(scores.dtype)

    def add_to(
        self, divided: Tensor, scale: Tensor, unit: float, weights: Tensor, keys: np.ndarray | None
    ) -> Tensor:
        """Run the circuits and add; see `Evaluation.add_to`."""
        scores = divided.to(torch.promote_types(divided.dtype, torch.float32)) * unit
        return divided + (scale * self.phi(scores, weights, keys)).to(divided.dtype)


class FourierEvaluation(Evaluation):
    r"""Runs 2d + 1 circuits, whatever the number of scores, and evaluates a polynomial.

    For fixed weights :math:`\Phi(s) = \sum_{k=0}^{d} a_k \cos(k f s) + b_k \sin(k f s)` exactly,
    since each score enters through finitely many rotations. Its values at the 2d + 1 points
    :math:`s_j = 2 \pi j / ((2 d + 1) f)` determine it: they are evaluated, on any backend and with
    gradients, and a fixed matrix turns them into coefficients,
    :math:`a_k = \frac{2}{2d+1} \sum_j \Phi(s_j) \cos(k f s_j)`, and half of that for k = 0. Small
    exact circuits on a CPU take a way of their own, `FixedPoints`.

    Args:
        phi: Evaluates Phi on some scores, with one circuit for each.

    Attributes:
        spectrum: The frequency f and the degree d.

    Raises:
        ValueError: If the frequencies of the circuit cannot be found.
    """

    def __init__(self, phi: Phi) -> None:
        super().__init__(phi)
        self.spectrum = phi.spectrum()
        points, self._matrix = _points_and_matrix(self.spectrum)
        self._exact = phi.at(points)

    def circuits_for(self, num_scores: int) -> int:
        """Return 2d + 1."""
        return 2 * self.spectrum.degree + 1

    @eagerly  # backends keep state between calls, and run what torch cannot trace
    def coefficients(self, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Return rows a and b, shape (2, d + 1), differentiable by the weights."""
        if self._exact is not None and _is_plain(weights):
            return exact_coefficients(weights, self._exact, self._matrix)
        dtype = torch.promote_types(weights.dtype, torch.float32)
        points, matrix = _as_tensors(self.spectrum, dtype, weights.device)
        with in_full_precision(weights.device.type):
            return (self._phi(points, weights, keys) @ matrix).view(2, -1)

    def phi(self, scores: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Evaluate the polynomial; see `Evaluation.phi`."""
        coefficients = self.coefficients(weights, keys)
        return trigonometric_polynomial(scores, coefficients, self.spectrum.frequency)

    def add_to(
        self, divided: Tensor, scale: Tensor, unit: float, weights: Tensor, keys: np.ndarray | None
    ) -> Tensor:
        """Evaluate scores and polynomial in one pass; see `Evaluation.add_to`."""
        coefficients = scale * self.coefficients(weights, keys)
        frequency = self.spectrum.frequency * unit
        return trigonometric_polynomial(divided, coefficients, frequency, share=1.0)


def _is_plain(weights: Tensor) -> bool:
    """Whether numpy can read a tensor: on the CPU, and no subclass that stands for another one."""
    return weights.device.type == "cpu" and type(weights) in (Tensor, nn.Parameter)


def _points_and_matrix(spectrum: Spectrum) -> tuple[np.ndarray, np.ndarray]:
    """Return the points, shape (2d + 1,), and the matrix, shape (2d + 1, 2 (d + 1))."""
    count = 2 * spectrum.degree + 1
    turns = 2 * pi * np.arange(count) / count
    multiples = np.arange(spectrum.degree + 1)
    phases = turns[:, None] * multiples
    weight = np.where(multiples, 2.0, 1.0) / count
    matrix = np.concatenate([np.cos(phases) * weight, np.sin(phases) * weight], axis=1)
    return turns / spectrum.frequency, matrix


@lru_cache(maxsize=32)
def _as_tensors(
    spectrum: Spectrum, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return both as tensors, made once."""
    with torch.inference_mode(False):  # tensors made there could carry no gradient later
        points, matrix = (torch.tensor(array) for array in _points_and_matrix(spectrum))
        return points.to(device, dtype), matrix.to(device, dtype)

r"""Trigonometric polynomials: exact coefficients, and fast evaluation on every score.

Cosines :math:`T_k = \cos(k \phi)` follow from the first by Chebyshev's recurrence
:math:`T_{k+1} = 2 T_1 T_k - T_{k-1}`, and sines are products: :math:`\sin(k \phi) = \sin(\phi)
U_{k-1}`, where U is a sum of T of lower degree. So a polynomial of degree d takes one cosine and
one sine of each score, d - 1 products, and two inner products with rows of T:

.. math::
    \Phi = \sum_{k=0}^{d} \alpha_k T_k + \sin(\phi) \sum_{k=0}^{d-1} \beta_k T_k

Its derivative has the same form, and the gradients of alpha and beta are inner products of T with
what flows back. T is made anew in the backward pass, chunk by chunk in one small buffer.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, partial
from threading import get_ident
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.backends.compiled.derivatives import (
    Plain,
    asks_for_more,
    is_transformed,
    pull_back,
)
from lightning_qsgd.backends.compiled.memory import in_full_precision
from lightning_qsgd.backends.fourier.fixed_points import FixedPoints


def trigonometric_polynomial(
    scores: Tensor, coefficients: Tensor, frequency: float, share: float = 0.0
) -> Tensor:
    r"""Evaluate :math:`\mathit{share} \cdot s + \sum_k a_k \cos(k f s) + b_k \sin(k f s)`.

    An infinite score counts as 0 inside the sum, and NaN stays NaN: attention scores that overflow
    then behave as without the sum.

    Args:
        scores: The numbers s, any shape, floating point.
        coefficients: Rows a and b for k = 0 to d, shape (2, d + 1); b_0 plays no part.
        frequency: f, in radians per unit of score.
        share: How much of the score itself is added: 0 for the polynomial alone, 1 for the score
            with the polynomial on top.

    Returns:
        Values of the shape and dtype of the scores, computed in float32 at least. Differentiable
        by scores and coefficients, as often as asked.

    Example:
        >>> s = torch.tensor([0.0, torch.pi / 2])
        >>> trigonometric_polynomial(s, torch.tensor([[1.0, 0.0], [0.0, 2.0]]), 1.0)
        tensor([1., 3.])
    """
    dtype = torch.promote_types(scores.dtype, torch.float32)
    arguments = scores.to(dtype), coefficients.to(dtype), frequency, share
    if torch.compiler.is_compiling() or type(scores) is not Tensor or is_transformed():
        return clenshaw(*arguments).to(scores.dtype)
    values: Tensor = _Polynomial.apply(*arguments)  # type: ignore[no-untyped-call]
    return values.to(scores.dtype)


def clenshaw(scores: Tensor, coefficients: Tensor, frequency: float, share: float) -> Tensor:
    """Do so in plain operations on each score, which a compiler fuses into one loop."""
    phase = torch.nan_to_num(scores * frequency, 0.0, 0.0, 0.0)
    twice = 2 * phase.cos()
    even, odd = coefficients.unbind()
    last = last_odd = before = before_odd = torch.zeros_like(phase)
    for k in range(len(even) - 1, 0, -1):
        last, before = even[k] + twice * last - before, last
        last_odd, before_odd = odd[k] + twice * last_odd - before_odd, last_odd
    value = even[0] + 0.5 * twice * last - before + phase.sin() * last_odd
    return scores * share + value if share else value


class _Polynomial(torch.autograd.Function):
    """Evaluates the polynomial chunk by chunk; see the module."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, coefficients: Tensor, frequency: float, share: float
    ) -> Tensor:
        ctx.save_for_backward(scores, coefficients)
        ctx.frequency, ctx.share = frequency, share
        basis = ChebyshevBasis.of(coefficients)
        flat = scores.reshape(-1)
        out = torch.empty_like(flat)
        with in_full_precision(scores.device.type):
            alpha, beta = basis.values(coefficients)
            for chunk, into in chunks_of(flat, out):
                rows = ChebyshevRows.of(basis.degree, chunk).fill(chunk, frequency)
                rows.combine(alpha, beta, into, chunk, share)
        return out.view(scores.shape)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:
        scores, coefficients = ctx.saved_tensors
        if asks_for_more(*upstream):
            plain = partial(clenshaw, frequency=ctx.frequency, share=ctx.share)
            return *pull_back(plain, (scores, coefficients), *upstream), None, None
        basis = ChebyshevBasis.of(coefficients)
        flat, flow = scores.reshape(-1), upstream[0].reshape(-1)
        out = torch.empty_like(flat)
        sums = flat.new_zeros(2 * basis.degree + 1)
        with in_full_precision(scores.device.type):
            alpha, beta = basis.slopes(coefficients, ctx.frequency)
            for chunk, into, given in chunks_of(flat, out, flow):
                rows = ChebyshevRows.of(basis.degree, chunk).fill(chunk, ctx.frequency)
                rows.combine(alpha, beta, into, chunk, 0.0)
                shared = given if ctx.share == 1 else given * ctx.share
                torch.addcmul(shared, given, into, out=into)
                rows.add_inner_products(given, sums)
            of_coefficients = basis.pull(sums)
        return out.view(scores.shape), of_coefficients, None, None


def exact_coefficients(
    weights: Tensor, points: FixedPoints, matrix: np.ndarray, plain: Plain
) -> Tensor:
    """Evaluate a circuit at points, and turn its values into coefficients.

    Args:
        weights: In radians, shape (num_weights,), on the CPU.
        points: The circuit at B points.
        matrix: Takes values to coefficients, shape (B, 2 (d + 1)).
        plain: The same function of the weights in torch, for second derivatives.

    Returns:
        Rows a and b, shape (2, d + 1), float32 or float64, differentiable. They are computed in
        double precision.
    """
    coefficients: Tensor = _Coefficients.apply(weights, points, matrix, plain)  # type: ignore[no-untyped-call]
    return coefficients


class _Coefficients(torch.autograd.Function):
    """Evaluates both without leaving numpy; what the way back needs is a few small arrays."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, points: FixedPoints, matrix: np.ndarray, plain: Plain
    ) -> Tensor:
        ctx.save_for_backward(weights)
        ctx.plain = plain
        values, ctx.way = points.values(weights.detach().double().numpy())
        ctx.points, ctx.matrix, ctx.dtype = points, matrix, weights.dtype
        dtype = torch.promote_types(weights.dtype, torch.float32)
        return torch.from_numpy(values @ matrix).to(dtype).view(2, -1)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        if asks_for_more(*upstream):
            return *pull_back(ctx.plain, ctx.saved_tensors, *upstream), None, None, None
        of_values = ctx.matrix @ upstream[0].double().reshape(-1).numpy()
        gradient = ctx.points.gradient(ctx.way, of_values)
        return torch.from_numpy(gradient).to(ctx.dtype), None, None, None


CHUNK_ON_CPU = 2**16
CHUNK_ELSEWHERE = 2**22
"""Scores at a time: small enough for a cache, or for memory; large enough to cost few calls."""


def chunks_of(*flat: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Cut tensors of shape (N,) alike."""
    size = CHUNK_ON_CPU if flat[0].device.type == "cpu" else CHUNK_ELSEWHERE
    return zip(*(tensor.split(size) for tensor in flat), strict=True)


class ChebyshevBasis:
    r"""Turns coefficients of cosines and sines into those of the rows of `ChebyshevRows`, and back.

    Args:
        degree: Highest multiple d of the phase.
        like: A tensor of the dtype and on the device of the coefficients.

    Attributes:
        degree: The same.
    """

    def __init__(self, degree: int, like: Tensor) -> None:
        self.degree = degree
        values, slopes = (torch.tensor(m).to(like) for m in _matrices(degree))
        self._values, self._slopes = values, slopes

    @classmethod
    def of(cls, coefficients: Tensor) -> ChebyshevBasis:
        """Return the basis for coefficients of shape (2, d + 1), made once."""
        return _basis(coefficients.shape[1] - 1, coefficients.dtype, coefficients.device)

    def values(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha, shape (d + 1,), and beta, shape (d,), of the polynomial."""
        alpha, beta = (coefficients.reshape(-1) @ self._values).split(
            [self.degree + 1, self.degree]
        )
        return alpha, beta

    def slopes(self, coefficients: Tensor, frequency: float) -> tuple[Tensor, Tensor]:
        """Return those of its derivative by the score."""
        joined = (coefficients.reshape(-1) @ self._slopes).mul_(frequency)
        alpha, beta = joined.split([self.degree + 1, self.degree])
        return alpha, beta

    def pull(self, sums: Tensor) -> Tensor:
        """Turn gradients of alpha and beta, shape (2 d + 1,), into those of the coefficients."""
        return (self._values @ sums).view(2, -1)


class ChebyshevRows:
    r"""Rows :math:`\pm T_k(\cos \phi)` for k = 0 to d, and :math:`\sin \phi`, of one chunk.

    The signs +, +, -, -, repeated, turn the recurrence into a single fused operation per row:
    :math:`e_{k+1} = e_{k-1} \pm 2 T_1 e_k`. Coefficients carry them as well.

    Args:
        degree: d.
        like: A chunk of scores, shape (N,).
    """

    def __init__(self, degree: int, like: Tensor) -> None:
        with torch.inference_mode(False):  # buffers made there could not be written elsewhere
            rows = torch.empty(degree + 1, len(like), dtype=like.dtype, device=like.device)
            self._phase, self._sine, self._other = torch.empty_like(like.expand(3, -1)).unbind()
        rows[0] = 1.0
        self._even, self._odd = rows, rows[:-1]
        self._each = rows.unbind()

    @classmethod
    def of(cls, degree: int, like: Tensor) -> ChebyshevRows:
        """Return room for such a chunk: on a CPU the same one again for each thread."""
        if like.device.type == "cpu":
            return _rows(get_ident(), degree, len(like), like.dtype)
        return cls(degree, like)

    def fill(self, scores: Tensor, frequency: float) -> ChebyshevRows:
        """Compute the rows of scores, shape (N,)."""
        phase, each = self._phase, self._each
        torch.mul(scores, frequency, out=phase).nan_to_num_(0.0, 0.0, 0.0)
        if len(each) > 1:
            torch.cos(phase, out=each[1])
            torch.sin(phase, out=self._sine)
        for k in range(2, len(each)):
            sign = 2.0 if k % 2 else -2.0
            torch.addcmul(each[k - 2], each[1], each[k - 1], value=sign, out=each[k])
        return self

    def combine(
        self, alpha: Tensor, beta: Tensor, into: Tensor, scores: Tensor, share: float
    ) -> None:
        """Write ``share * scores + alpha . rows + sine * (beta . rows)``."""
        torch.addmv(scores, self._even.t(), alpha, beta=share, out=into)
        if len(beta):
            torch.mv(self._odd.t(), beta, out=self._other)
            into.addcmul_(self._sine, self._other)

    def add_inner_products(self, flow: Tensor, sums: Tensor) -> None:
        """Add the gradients of alpha and beta, given that of the values; spends the sine."""
        degree = len(self._odd)
        sums[: degree + 1].addmv_(self._even, flow)
        if degree:
            sums[degree + 1 :].addmv_(self._odd, torch.mul(flow, self._sine, out=self._sine))


def _matrices(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what coefficients are multiplied with, shape (2 (d + 1), 2 d + 1) each."""
    multiples = np.arange(degree + 1)
    cosines = np.diag(np.where(multiples % 4 < 2, 1.0, -1.0))
    sines = np.zeros((degree + 1, degree))
    for k in range(1, degree + 1):  # sin(k p) / sin(p) = 2 T_{k-1} + 2 T_{k-3} + ..., T_0 once
        sines[k, k - 1 :: -2] = 2.0
        sines[k, :1] = np.minimum(sines[k, :1], 1.0)
    sines *= np.diag(cosines)[:-1]
    zeros = np.zeros_like(sines), np.zeros_like(cosines)
    values = np.block([[cosines, zeros[0]], [zeros[1], sines]])
    turned = np.block([[zeros[1], -sines * multiples[:, None]], [cosines * multiples, zeros[0]]])
    return values, turned


@lru_cache(maxsize=32)
def _basis(degree: int, dtype: torch.dtype, device: torch.device) -> ChebyshevBasis:
    with torch.inference_mode(False):
        return ChebyshevBasis(degree, torch.empty(0, dtype=dtype, device=device))


@lru_cache(maxsize=4)
def _rows(thread: int, degree: int, length: int, dtype: torch.dtype) -> ChebyshevRows:
    return ChebyshevRows(degree, torch.empty(length, dtype=dtype))

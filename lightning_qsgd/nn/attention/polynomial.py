r"""Trigonometric polynomials of many scores, with a backward pass that keeps the scores alone.

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

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_qsgd.backends.compiled.precision import in_full_precision
from lightning_qsgd.nn.attention.chebyshev import ChebyshevBasis, ChebyshevRows, chunks_of


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
        once, by scores and coefficients.

    Example:
        >>> s = torch.tensor([0.0, torch.pi / 2])
        >>> trigonometric_polynomial(s, torch.tensor([[1.0, 0.0], [0.0, 2.0]]), 1.0)
        tensor([1., 3.])
    """
    dtype = torch.promote_types(scores.dtype, torch.float32)
    arguments = scores.to(dtype), coefficients.to(dtype), frequency, share
    if torch.compiler.is_compiling() or type(scores) is not Tensor:
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
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:
        scores, coefficients = ctx.saved_tensors
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

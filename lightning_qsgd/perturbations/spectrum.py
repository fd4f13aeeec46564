r"""Functions of a matrix' singular values: exactly, and by matrix products alone.

A matrix :math:`M = U \, \mathrm{diag}(S) \, V^T` and a function u of :math:`s = S / \max S` give
:math:`U \, u(s) \, V^T`. Two ways, equal up to rounding:

    exact        eigenvectors of the smaller Gram matrix G = M M^T give U and S;
                 U u(s) V^T = U (u(s) / S) U^T M needs no V
    polynomial   u, continued as an odd function, is a sum of Chebyshev polynomials T_1, T_3, ...;
                 those of M / sigma need matrix products only, and sigma = max S a few products
                 with a vector, and a check that nothing is larger

The second is what a quantum computer does in the quantum singular value transformation, emulated
with matrices: an odd polynomial of all singular values at once; only the largest is computed.

Matrices come in batches of one shape (batch, rows, columns), in float32 or better.

References:
    Gilyén et al. 2019, Quantum singular value transformation and beyond, arXiv:1806.01838.
    Clenshaw 1955, A note on the summation of Chebyshev series.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial.chebyshev import chebval
from torch import Tensor

SpectralFunction = Callable[[Tensor], Tensor]
"""Takes s in [0, 1], any shape, to values of the same shape and dtype."""

LINEAR_BELOW = 1e-7
"""Below this share of the largest, singular values are rounding: a function is linear there."""

LARGEST_DEGREE = 63

SMALLEST = 1e-20
"""Squares below this, or above its inverse, may be lost in single precision: scale first."""

LEEWAY = 0.02
"""Largest error of max S squared, as a share of it: 1 % of max S, and less where u is steep."""
LARGEST_CHANGE = 0.01
"""How far an error of max S may change u: as far as 1 % changes a straight line."""
DECOMPOSED = 16
"""Gram matrices of up to so many rows are decomposed, which costs less than power iteration."""

_NOTHING = 1e-30  # in place of 0, to divide by
_ODD_NODES = 256
_MOST_HALVINGS = 10  # further ones would ask more than float32 can tell
_BETWEEN_NORMS = 4  # products with a matrix whose largest eigenvalue is at least 1 / rows


def exact_part(
    matrices: Tensor, function: SpectralFunction, linear_below: float = LINEAR_BELOW
) -> Tensor:
    """Evaluate U u(s) V^T through the eigenvectors of the smaller Gram matrix.

    It holds squares, and is decomposed in float64: singular values down to 1e-8 of the largest are
    told apart. Where s is below `linear_below`, whose direction is arbitrary, u(s) is the line from
    0 to u(`linear_below`). A matrix of zeros, or with an entry that is not finite, gives zeros.

    Args:
        matrices: Shape (batch, rows, columns).
        function: u.
        linear_below: Share of the largest singular value, in (0, 1).

    Returns:
        Shape and dtype of `matrices`.

    Example:
        >>> matrices = torch.tensor([[[3.0, 0.0], [0.0, -1.5]]])
        >>> exact_part(matrices, lambda s: s**2).abs()
        tensor([[[1.0000, 0.0000],
                 [0.0000, 0.2500]]])
    """
    wide = _wide(_scaled(matrices.double()))
    values, vectors = torch.linalg.eigh(wide @ wide.mT)
    singular = values.clamp_(min=0.0).sqrt_()  # ascending, (batch, rows)
    largest = _or_one(singular[:, -1:])
    share = singular / largest
    ratio = function(share.clamp(min=linear_below)) / (share.clamp(min=linear_below) * largest)
    part = (vectors * ratio[:, None, :]) @ (vectors.mT @ wide)
    return _like(part, matrices)


def odd_coefficients(
    function: SpectralFunction,
    tolerance: float = LINEAR_BELOW,
    largest_degree: int = LARGEST_DEGREE,
) -> list[float]:
    r"""Return Chebyshev coefficients of a function, continued to [-1, 1] as an odd one.

    It is evaluated once, at the positive ones of 256 Chebyshev nodes. The degree is the least whose
    tail, the summed sizes of all later coefficients, is at most the tolerance: that is its error.

    Args:
        function: u.
        tolerance: Largest error of the polynomial on [-1, 1], above 0.
        largest_degree: Degree above which the polynomial is refused.

    Returns:
        Coefficients of :math:`T_1, T_3, T_5, \dots`, at least one.

    Raises:
        ValueError: If the degree would be too large, as for functions with a jump at 0.

    Example:
        >>> [round(c, 6) for c in odd_coefficients(lambda s: 4 * s**3)]  # T_3 + 3 T_1
        [3.0, 1.0]
    """
    angles = np.pi * (np.arange(_ODD_NODES // 2) + 0.5) / _ODD_NODES
    values = function(torch.from_numpy(np.cos(angles))).double().cpu().numpy()
    degrees = np.arange(1, _ODD_NODES, 2)
    coefficients = 4 / _ODD_NODES * np.cos(np.outer(degrees, angles)) @ values
    tails = np.cumsum(np.abs(coefficients)[::-1])[::-1]
    kept = max(1, int((tails > tolerance).sum()))
    if 2 * kept - 1 > largest_degree:
        raise ValueError(
            f"Cannot write the function of the singular values as an odd polynomial: an error of "
            f"{tolerance:g} needs degree {2 * kept - 1}, and the limit is {largest_degree}. u(0) "
            f"must be 0, without shots, and u smooth; here u is {values[-1]:.3g} at s = "
            f"{np.cos(angles[-1]):.2g}. Raise `tolerance`, or use evaluation='exact'."
        )
    return [float(value) for value in coefficients[:kept]]


def polynomial_part(
    matrices: Tensor,
    coefficients: Sequence[float],
    start: Tensor | None = None,
    iterations: int = 4,
) -> tuple[Tensor, Tensor]:
    r"""Evaluate U u(s) V^T as an odd polynomial, by matrix products.

    With :math:`X = M / \sigma` and :math:`Y = T_2(X) = 2 X X^T - 1`, odd Chebyshev polynomials are
    :math:`T_{2k+1}(X) = R_k(Y) X` with :math:`R_{k+1} = 2 Y R_k - R_{k-1}` and
    :math:`R_{-1} = R_0 = 1`. Clenshaw's recurrence sums them from the last coefficient on.

    Args:
        matrices: As for `exact_part`.
        coefficients: Of T_1, T_3, ...; see `odd_coefficients`.
        start: Vectors that power iteration starts from, shape (batch, min(rows, columns)): what
            the last call returned; None starts afresh, with ten times as many iterations.
        iterations: Products with a vector that sigma is found by.

    Returns:
        What `exact_part` returns, and the vectors for the next call.

    Example:
        >>> matrices = torch.tensor([[[3.0, 0.0], [0.0, -1.5]]])
        >>> part, _ = polynomial_part(matrices, [3.0, 1.0])  # 4 s^3
        >>> part.abs()
        tensor([[[4.0000, 0.0000],
                 [0.0000, 0.5000]]])
    """
    parts, vectors = polynomial_parts([matrices], coefficients, start, iterations)
    return parts[0], vectors


def polynomial_parts(
    stacks: Sequence[Tensor],
    coefficients: Sequence[float],
    start: Tensor | None = None,
    iterations: int = 4,
    products: torch.dtype | None = None,
) -> tuple[list[Tensor], Tensor]:
    """Do so for matrices of several shapes whose smaller side is the same, in fewer calls.

    Args:
        stacks: Matrices of one shape each.
        coefficients: As for `polynomial_part`.
        start: Vectors of all matrices, in the order of the stacks.
        iterations: As for `polynomial_part`.
        products: Precision of the products of matrices; None takes that of the matrices.
    """
    products = stacks[0].dtype if products is None else products
    own = [matrices.to(products) for matrices in stacks]
    gram = _grams(own).to(stacks[0].dtype)
    traces = _diagonal(gram).sum(dim=1).tolist()
    if not all(SMALLEST < trace < 1 / SMALLEST for trace in traces):  # false for NaN, too
        own = [_scaled(matrices).to(products) for matrices in stacks]
        gram = _grams(own).to(stacks[0].dtype)
    leeway = leeway_of(tuple(coefficients))
    largest, vectors = largest_eigenvalue(gram, start, iterations, leeway)
    largest = largest.clamp_(min=_NOTHING)[:, None, None]
    if len(coefficients) == 1:
        factors = coefficients[0] / largest.sqrt()  # no product, and so no rounding of it
    else:
        twice = gram.mul_(4.0 / largest)  # 2 Y, from here on
        _diagonal(twice).sub_(2.0)
        factors = _clenshaw(twice.to(products), coefficients).div_(largest.sqrt())
    split = factors.split([len(matrices) for matrices in own])
    applied = torch.mul if len(coefficients) == 1 else _applied
    parts = [applied(factor, matrices) for factor, matrices in zip(split, own, strict=True)]
    return [part.to(stacks[0].dtype) for part in parts], vectors


def _grams(stacks: Sequence[Tensor]) -> Tensor:
    return torch.cat([_product(wide, wide.mT) for wide in map(_wide, stacks)])


def _applied(factors: Tensor, matrices: Tensor) -> Tensor:
    """Multiply by symmetric ones from the shorter side; entries lie in memory as they did."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    return _product(matrices, factors) if is_tall else _product(factors, matrices)


def _clenshaw(twice: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Return the sum of two or more c_k R_k(Y), given 2 Y, shape (batch, rows, rows)."""
    # b_K is c_K times the identity, so that b_(K-1) = 2 Y c_K + c_(K-1) needs no product.
    last = twice * coefficients[-1]
    _diagonal(last).add_(coefficients[-2])
    before: Tensor | None = None
    for index in range(len(coefficients) - 3, -1, -1):
        if before is None:
            new = twice @ last
            _diagonal(new).add_(coefficients[index] - coefficients[-1])
        else:
            new = torch.baddbmm(before, twice, last, beta=-1.0)
            _diagonal(new).add_(coefficients[index])
        last, before = new, last
    if before is None:
        _diagonal(last).sub_(coefficients[-1])
        return last
    return last.sub_(before)


@lru_cache(maxsize=16)
def leeway_of(coefficients: tuple[float, ...]) -> float:
    """Return how far max S squared may be off for u to change by no more than `LARGEST_CHANGE`.

    A polynomial of a high degree is steep, and leaves [-1, 1] at once where s exceeds 1.

    Args:
        coefficients: As for `polynomial_part`.

    Returns:
        `LEEWAY`, or a half, a quarter, and so on, of it.
    """
    s = np.cos(np.pi * (np.arange(_ODD_NODES // 2) + 0.5) / _ODD_NODES)
    series = np.zeros(2 * len(coefficients))
    series[1::2] = coefficients
    leeway = LEEWAY
    for _ in range(_MOST_HALVINGS):
        below, u, above = (chebval(s * (1 + k * leeway / 2), series) for k in (-1, 0, 1))
        if max(abs(below - u).max(), abs(above - u).max()) <= LARGEST_CHANGE:
            break
        leeway /= 2
    return leeway


def largest_eigenvalue(
    gram: Tensor, start: Tensor | None = None, iterations: int = 4, leeway: float = LEEWAY
) -> tuple[Tensor, Tensor]:
    """Find the largest eigenvalue of Gram matrices, each with an error of at most a `leeway`.

    What power iteration leaves, G v - lambda v, says only that *some* eigenvalue is near. So it is
    checked that none is larger; else it goes on, from the longest row too, or G is decomposed.

    Args:
        gram: Shape (batch, rows, rows), positive semi-definite.
        start: As for `polynomial_part`; None takes the longest rows, ten times as often multiplied.
            A vector of zeros, which a matrix of zeros leaves, or of NaN is found to miss all.
        iterations: Products with a vector.
        leeway: Largest error, as a share of the eigenvalue.

    Returns:
        Eigenvalues, shape (batch,), 0 for a matrix of zeros, and unit vectors for the next call.
    """
    if gram.shape[1] <= DECOMPOSED:
        return _decomposed(gram), _longest_row(gram)
    trace = _diagonal(gram).sum(dim=1).clamp_(min=_NOTHING)
    scaled = gram / trace[:, None, None]  # eigenvalues of at most 1: nothing over- or underflows
    if start is None:
        start, iterations = _longest_row(scaled), 10 * iterations
    found, vectors = _power_iteration(scaled, start, iterations)
    below, products = _exceeded(scaled, found, leeway), 10 * iterations
    if below:
        vectors[below] = _unit(vectors[below].nan_to_num_(0.0) + _longest_row(scaled[below]))
    while below and products < gram.shape[1]:  # more would cost more than to decompose
        again, vectors[below] = _power_iteration(scaled[below], vectors[below], products)
        found.update(zip(below, again.values(), strict=True))
        again = {index: found[index] for index in below}
        below, products = _exceeded(scaled, again, leeway), 4 * products
    values = scaled.new_tensor([m + min(missed, leeway * m) for m, missed, _ in found.values()])
    if below:
        values[below] = _decomposed(scaled[below])
    return values * trace, vectors


def _power_iteration(
    scaled: Tensor, vectors: Tensor, iterations: int
) -> tuple[dict[int, list[float]], Tensor]:
    """Return v^T G v, the norms of G v - v v^T G v and of G, by a matrix' index; and vectors v."""
    for done in range(1, iterations + 1):
        vectors = _image(scaled, vectors)
        if done % _BETWEEN_NORMS == 0 or done == iterations:
            vectors = _unit(vectors)
    image = _image(scaled, vectors)
    least = (vectors * image).sum(dim=1, keepdim=True)
    missed = torch.linalg.vector_norm(image.sub_(least * vectors), dim=1)
    norms = torch.linalg.vector_norm(scaled, dim=(1, 2))
    return dict(enumerate(torch.stack([least[:, 0], missed, norms], dim=1).tolist())), vectors


def _exceeded(scaled: Tensor, found: dict[int, list[float]], leeway: float) -> list[int]:
    """Return where an eigenvalue is larger than v^T G v by more than a leeway.

    The norm of G tells often, that of its square nearly always, else a Cholesky decomposition.
    """
    unsure = [i for i, known in found.items() if _may_exceed(known, known[2], 2, leeway)]
    if unsure:
        squares = torch.linalg.matrix_power(scaled[unsure], 2)
        norms = torch.linalg.vector_norm(squares, dim=(1, 2)).sqrt_().tolist()
        bounds = dict(zip(unsure, norms, strict=True))
        unsure = [i for i, norm in bounds.items() if _may_exceed(found[i], norm, 4, leeway)]
    if not unsure:
        return []
    left, limits = scaled[unsure].neg_(), [(1.0 + leeway) * found[i][0] for i in unsure]
    _diagonal(left).add_(left.new_tensor(limits).nan_to_num_(0.0)[:, None])
    failed = torch.linalg.cholesky_ex(_on_host(left)).info.tolist()
    return [i for i, place in zip(unsure, failed, strict=True) if place > 0]


def _may_exceed(known: list[float], norm: float, power: int, leeway: float) -> bool:
    least, missed, _ = known
    # With v as its first axis, G is [[least, r], [r, B]] with |r| = missed. Without r the sum of
    # the eigenvalues' powers is no larger, so that what `least` leaves of it bounds B.
    others = float(max(norm**power - least**power, 0.0) ** (1.0 / power))
    limit = (1.0 + leeway) * least
    return not (limit >= others and (limit - least) * (limit - others) >= missed**2)  # or NaN


def _decomposed(gram: Tensor) -> Tensor:
    values: Tensor = torch.linalg.eigvalsh(_on_host(gram))
    return values[:, -1].to(gram.device).clamp_(min=0.0)


def _on_host(matrices: Tensor) -> Tensor:  # Apple's graphics cards decompose nothing
    return matrices.cpu() if matrices.device.type == "mps" else matrices


def _longest_row(gram: Tensor) -> Tensor:
    chosen = _diagonal(gram).argmax(dim=1)
    return _unit(gram[torch.arange(len(gram), device=gram.device), chosen])


def _image(symmetric: Tensor, vectors: Tensor) -> Tensor:
    """Multiply a vector by each matrix, from the left: up to four times as fast."""
    images = torch.empty_like(vectors)
    torch.bmm(vectors[:, None], symmetric, out=images[:, None])  # autocast spares what has an `out`
    return images


def _unit(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / lengths.clamp_(min=_NOTHING)


def _product(left: Tensor, right: Tensor) -> Tensor:  # a batch of one takes twice as long
    return (left[0] @ right[0])[None] if len(left) == 1 else left @ right


def _diagonal(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2)


def _wide(matrices: Tensor) -> Tensor:
    """Return matrices of at most as many rows as columns; `_like` turns them back."""
    return matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices


def _like(wide: Tensor, matrices: Tensor) -> Tensor:
    return (wide.mT if matrices.shape[1] > matrices.shape[2] else wide).to(matrices.dtype)


def _scaled(matrices: Tensor) -> Tensor:
    """Divide by the largest entry, so that no square under- or overflows; zeros if not finite."""
    size = matrices.abs().amax(dim=(1, 2), keepdim=True)
    finite = torch.isfinite(size)
    return torch.where(finite, matrices / torch.where(finite, _or_one(size), 1.0), 0.0)


def _or_one(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1.0)

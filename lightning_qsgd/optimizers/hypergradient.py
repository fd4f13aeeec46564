"""The derivatives of the next loss through the last perturbation, without their size.

Step t moved the touched entries by ``m * c * u(w)`` beside the base's step, so that with the next
gradient g the chain rule gives ``dL/dm = <g, c * u>`` and ``dL/dw = m * <g, c * du/dw>``. Both are
divided here by norms, and the second by m; see `Learning` for why.
"""

from collections.abc import Callable
from math import isfinite

import torch
from torch import Tensor


def strength_hypergradient(gradient: Tensor, direction: Tensor) -> float:
    """Return the cosine between the next gradient and the last perturbation.

    Positive where the perturbation raised the loss.

    Args:
        gradient: Gradient of the next loss on the entries that were perturbed, shape (entries,).
        direction: What a factor of 1 adds to them, c * u, shape (entries,).

    Returns:
        A value in [-1, 1]; 0 where it is not defined: a vector is zero or not finite.

    Example:
        >>> strength_hypergradient(torch.tensor([3.0, 0.0]), torch.tensor([-2e-30, 0.0]))
        -1.0

    References:
        Baydin et al. 2018, arXiv:1703.04782, Eq. 5 and its normalised form.
    """
    cosine = float(_unit(gradient).dot(_unit(direction)))
    return max(-1.0, min(1.0, cosine)) if isfinite(cosine) else 0.0


def weights_hypergradient(
    gradient: Tensor,
    coefficients: Tensor,
    modulate: Callable[[Tensor], Tensor],
    weights: Tensor,
) -> Tensor:
    r"""Differentiate ``<g, c * u(w)> / (|g| |c|)`` by the weights: one vector-Jacobian product.

    Args:
        gradient: Gradient of the next loss on the entries that were perturbed, shape (entries,).
        coefficients: c, shape (entries,): what a modulation of 1 adds to them.
        modulate: Evaluates u, shape (entries,), at the parameters of the last step.
        weights: The circuit's weights in radians at that step, shape (num_weights,).

    Returns:
        The derivative per radian, with shape, dtype and device of `weights`; 0 where it is not
        defined: a vector is zero, or anything is not finite.

    Raises:
        TypeError: If the modulation does not carry the gradient of its weights.

    Example:
        >>> one, w = torch.ones(1), torch.zeros(1)
        >>> weights_hypergradient(2 * one, -3 * one, torch.sin, w)
        tensor([-1.])
    """
    flow = _unit(gradient) * _unit(coefficients)
    with torch.enable_grad():
        leaf = weights.detach().clone().requires_grad_()
        u = modulate(leaf)
        if not u.requires_grad:
            raise TypeError(
                "Cannot learn the circuit's weights: the backend's readout carries no gradient for "
                "them. Set `weights_rate` to 0, or take a backend that is differentiable."
            )
        (derivative,) = torch.autograd.grad(u, leaf, flow.to(u.device, u.dtype))
    return derivative if bool(torch.isfinite(derivative).all()) else torch.zeros_like(derivative)


def _unit(vector: Tensor) -> Tensor:
    """Divide by the norm, by the largest entry first: squares of small entries would vanish."""
    scaled = vector / vector.abs().amax()
    return scaled.div_(torch.linalg.vector_norm(scaled))

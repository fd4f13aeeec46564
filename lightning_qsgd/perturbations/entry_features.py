r"""The features of entries: what a step knows of each of them, in [-1, 1].

With g the gradient of what is minimised, :math:`\delta` the base's step without decoupled weight
decay, :math:`\mathrm{sq}(x) = x / \sqrt{1 + x^2}`, and the root mean square (rms) over the touched
entries of one tensor:

    alignment   sq(4 * g / rms(g) * -delta / rms(delta))
    gradient    sq(g / rms(g))
    step        sq(-delta / rms(delta))
    weight      sq(theta / rms(theta))
    progress    t / T

None of them changes when the loss or a tensor is measured in another unit. Where a tensor is all
zeros its feature is 0; where one of its entries is not finite, nothing is added to that tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.perturbations.features import Feature
from lightning_qsgd.perturbations.step import TouchedStep, means_of, per_tensor, spread

SMALLEST = 1e-30
"""Bounds rms, and products of them, from below."""


@dataclass(frozen=True)
class Alignment(Feature):
    """Shows how far the base's step goes down the present gradient.

    Positive where the step lowers the loss, negative where momentum goes against the gradient.

    Args:
        sharpness: Factor before squashing, positive and finite.

    References:
        The idea of comparing both, as a mask: Liang et al. 2024, Cautious optimizers,
        arXiv:2411.16085.
    """

    sharpness: float = 4.0

    needs_gradient = True
    needs_base_step = True

    def __post_init__(self) -> None:
        if not 0 < self.sharpness < float("inf"):
            raise ValueError(
                f"Expected `sharpness` to be positive and finite, got {self.sharpness}: it scales "
                "the product of gradient and step. Use 4."
            )

    @override
    def values(self, step: TouchedStep) -> Tensor:
        delta = step.without_decay()
        sizes = step.sizes
        factor = rms(step.gradient, sizes).mul_(rms(delta, sizes)).clamp_(min=SMALLEST)
        product = step.gradient * delta
        factor.reciprocal_().mul_(-self.sharpness)
        return squashed_(product.mul_(spread(factor, sizes)))


@dataclass(frozen=True)
class Gradient(Feature):
    """Shows the gradient, relative to the rms of its tensor."""

    needs_gradient = True

    @override
    def values(self, step: TouchedStep) -> Tensor:
        return relative(step.gradient, step.sizes)


@dataclass(frozen=True)
class Step(Feature):
    """Shows where the base has moved, downwards positive, relative to the rms of its tensor."""

    needs_base_step = True

    @override
    def values(self, step: TouchedStep) -> Tensor:
        return relative(step.without_decay(), step.sizes, sign=-1.0)


@dataclass(frozen=True)
class Weight(Feature):
    """Shows the parameter before the step, relative to the rms of its tensor."""

    @override
    def values(self, step: TouchedStep) -> Tensor:
        return relative(step.theta, step.sizes)


@dataclass(frozen=True)
class Progress(Feature):
    """Shows how much of the training is over: t / T, and 1 from then on.

    Args:
        total_steps: T in optimizer steps, at least 1.
    """

    total_steps: int

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise ValueError(
                f"Expected `total_steps` to be at least 1, got {self.total_steps}: progress needs "
                "an end. Give the number of optimizer steps of the training."
            )

    @override
    def values(self, step: TouchedStep) -> float:
        return min(step.seed_and_step[1] / self.total_steps, 1.0)


def rms(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the root mean square of each tensor's entries, shape (tensors,)."""
    if values.device.type == "cpu":
        return means_of(values * values, sizes).sqrt_()
    norms = torch.stack(torch._foreach_norm(per_tensor(values, sizes)))
    return norms.mul_(torch.tensor([size**-0.5 for size in sizes]).to(norms))


def squashed_(values: Tensor) -> Tensor:
    """Return ``x / sqrt(1 + x^2)``, in place."""
    root = torch.addcmul(values.new_ones(()), values, values).rsqrt_()
    return values.mul_(root)


def relative(values: Tensor, sizes: Sequence[int], sign: float = 1.0) -> Tensor:
    """Return ``sq(sign * x / rms(x))``."""
    factors = rms(values, sizes).clamp_(min=SMALLEST).reciprocal_().mul_(sign)
    return squashed_(values * spread(factors, sizes))

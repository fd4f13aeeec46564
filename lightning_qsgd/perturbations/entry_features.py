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
from functools import lru_cache
from math import inf

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.perturbations.features import Feature
from lightning_qsgd.perturbations.step import TouchedStep, per_tensor, spread, starts_and_counts

SMALLEST, LARGEST = 1e-15, 1e15
"""Sizes in between are ordinary: nothing was lost of their squares, nor of products of two."""


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

    bounded = True
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
        slope, is_ordinary = _rms(step.gradient, sizes)
        length, is_so_too = _rms(delta, sizes)
        if is_ordinary and is_so_too:
            product = step.gradient * delta
            factor = slope.mul_(length).reciprocal_().mul_(-self.sharpness)
            return squashed_(product.mul_(spread(factor, sizes)))
        # In such units the product of the two would vanish or overflow. The sharpness comes last:
        # the reciprocal that stands for that of 0 is just below infinity.
        product = step.gradient * spread(_inverse(slope), sizes)
        product.mul_(delta * spread(_inverse(length), sizes))
        return squashed_(product.mul_(-self.sharpness))


@dataclass(frozen=True)
class Gradient(Feature):
    """Shows the gradient, relative to the rms of its tensor."""

    bounded = True
    needs_gradient = True

    @override
    def values(self, step: TouchedStep) -> Tensor:
        return relative(step.gradient, step.sizes)


@dataclass(frozen=True)
class Step(Feature):
    """Shows where the base has moved, downwards positive, relative to the rms of its tensor."""

    bounded = True
    needs_base_step = True

    @override
    def values(self, step: TouchedStep) -> Tensor:
        return relative(step.without_decay(), step.sizes, sign=-1.0)


@dataclass(frozen=True)
class Weight(Feature):
    """Shows the parameter before the step, relative to the rms of its tensor."""

    bounded = True

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

    bounded = True

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
    """Return the root mean square of each tensor's entries, shape (tensors,), in any unit.

    NaN where an entry is not finite: all features of its tensor are then NaN.
    """
    return _rms(values, sizes)[0]


def _rms(values: Tensor, sizes: Sequence[int]) -> tuple[Tensor, bool]:
    """Return it, and whether it is known to be ordinary for all tensors; see `SMALLEST`."""
    # A wider type holds squares of any unit. It takes a CPU longer than to look whether it is
    # needed; on other devices to look would be to wait.
    if values.device.type == "cpu" and not values.requires_grad:
        roots = _roots_on_cpu(values, sizes)
        is_ordinary = bool(roots.min() > SMALLEST and roots.max() < LARGEST)
        if not is_ordinary:
            _replace_extreme(roots, per_tensor(values, sizes))
            roots[np.isinf(roots)] = np.nan
        return torch.from_numpy(roots).to(values.dtype), is_ordinary
    norms = _joined_norms(values, sizes) if values.device.type == "mps" else _wide(values, sizes)
    scales = torch.tensor([size**-0.5 for size in sizes], dtype=norms.dtype, device=norms.device)
    norms = torch.where(norms.isinf(), torch.nan, norms.mul_(scales))
    return norms.to(values.dtype), False


RUN = 2**15
"""So many squares are added up in float32; after more, small ones are swallowed: 1e-5 is lost in
10^6 entries, 1 % in 10^8."""


@lru_cache(maxsize=64)
def _runs(sizes: tuple[int, ...]) -> tuple[list[int], tuple[int, ...]]:
    """Cut each tensor into runs of up to `RUN` entries: their lengths, and how many each has."""
    lengths = [min(RUN, size - start) for size in sizes for start in range(0, size, RUN)]
    return lengths, tuple(-(-size // RUN) for size in sizes)


def _norms_of_runs(values: Tensor, lengths: Sequence[int]) -> Tensor:
    return torch.stack(torch._foreach_norm(per_tensor(values, lengths)))


SHORT = 2**14
"""Below this mean size of tensors a norm for each takes longer than a vector of all squares."""


def _roots_on_cpu(values: Tensor, sizes: Sequence[int]) -> np.ndarray:
    """Work in NumPy, whose small operations take a third of the time of torch's."""
    with np.errstate(over="ignore"):  # seen by the caller
        if values.numel() < SHORT * len(sizes):
            counts = tuple(sizes)
            squares = np.square(values.numpy())  # added up in pairs: no run is too long for it
        else:
            lengths, counts = _runs(tuple(sizes))
            squares = np.square(_norms_of_runs(values, lengths).numpy(), dtype=np.float64)
        sums = np.add.reduceat(squares, starts_and_counts(counts)[0])
    return np.sqrt(sums.astype(np.float64) / sizes)


def _joined_norms(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Join the runs on a device that has no float64, without waiting for it."""
    lengths, counts = _runs(tuple(sizes))
    squares = _norms_of_runs(values, lengths).square_()
    return torch.stack([own.sum() for own in squares.split(counts)]).sqrt_()


def _wide(values: Tensor, sizes: Sequence[int]) -> Tensor:
    return torch.stack(torch._foreach_norm(per_tensor(values, sizes), dtype=torch.float64))


def _replace_extreme(roots: np.ndarray, pieces: Sequence[Tensor]) -> None:
    """Divide by the largest entry first where squares may have vanished or overflowed."""
    for place, piece in enumerate(pieces):
        largest = piece.abs().amax()
        if not SMALLEST < roots[place] < LARGEST and 0 < largest < inf:
            roots[place] = (piece / largest).square_().mean().sqrt_().mul_(largest)


def _inverse(roots: Tensor) -> Tensor:
    """Return their reciprocals; that of 0 is finite, and multiplies zeros."""
    return roots.clamp(min=torch.finfo(roots.dtype).tiny).reciprocal_()


def squashed_(values: Tensor) -> Tensor:
    """Return ``x / sqrt(1 + x^2)``, in place."""
    root = torch.addcmul(values.new_ones(()), values, values).rsqrt_()
    return values.mul_(root)


def relative(values: Tensor, sizes: Sequence[int], sign: float = 1.0) -> Tensor:
    """Return ``sq(sign * x / rms(x))``."""
    factors = _inverse(rms(values, sizes)).mul_(sign)
    return squashed_(values * spread(factors, sizes))

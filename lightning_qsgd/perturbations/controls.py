"""Classical control arms: what is added in place of the perturbation, of the same norm."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.backends.backend import is_ours
from lightning_qsgd.perturbations.keyed_draws import keyed_draws, normals, signs


@dataclass(frozen=True)
class Replaced:
    """The perturbation of one step that a control replaces, on the perturbed entries.

    Args:
        coefficients: What a modulation of 1 would add, finite, shape (entries,):
            ``-lr * strength * g``, or ``strength * delta`` for a relative injection.
        modulation: The circuits' readouts u, shape (entries,).
        base_step: The base optimizer's own step delta, finite, shape (entries,).
        names: Name of each tensor; part of the noise keys.
        sizes: Number of perturbed entries of each tensor.
        seed_and_step: The seed and the optimizer step, which name the random streams.
    """

    coefficients: Tensor
    modulation: Tensor
    base_step: Tensor
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    seed_and_step: tuple[int, int]

    @cached_property
    def added(self) -> Tensor:
        """What the perturbation would have added, shape (entries,); 0 where u is not finite."""
        return torch.nan_to_num_(self.coefficients * self.modulation, 0.0, 0.0, 0.0)

    def draw(self, draw: Callable[[np.random.Generator, int], np.ndarray]) -> Tensor:
        """Draw numbers from each tensor's own stream, shape (entries,); see `keyed_draws`."""
        drawn = keyed_draws(draw, zip(self.names, self.sizes, strict=True), self.seed_and_step)
        return torch.from_numpy(drawn)

    def matched(self, direction: Tensor) -> Tensor:
        """Rescale a direction, tensor by tensor, to the norm of what would have been added.

        Args:
            direction: Finite, shape (entries,).

        Returns:
            Shape (entries,); 0 in tensors where the direction, or what would have been added, is 0.
        """
        pieces = []
        pairs = zip(direction.split(self.sizes), self.added.split(self.sizes), strict=True)
        for piece, added in pairs:
            # Divided by their largest entries first: squares overflow where entries do not.
            unit, norm = _over_largest(piece)
            _, target = _over_largest(added)
            factor = torch.where(norm > 0, target / norm, 0.0)
            pieces.append(unit * factor * added.abs().amax())
        return torch.nan_to_num_(torch.cat(pieces), 0.0, 0.0, 0.0)


def _over_largest(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Divide a vector by its largest entry, if that is not 0; return it with its norm."""
    largest = vector.abs().amax()
    unit = vector / torch.where(largest > 0, largest, 1.0)
    return unit, torch.linalg.vector_norm(unit)


class Control(ABC):
    """Replaces what a perturbation adds by something classical of the same size.

    In each tensor the norm over the perturbed entries stays what it would have been at this step.
    What helps as much as its control owes nothing to the circuit.
    """

    @abstractmethod
    def replace(self, replaced: Replaced) -> Tensor:
        """Return what is added instead, shape (entries,).

        Args:
            replaced: What would have been added, and what it is made of.
        """


ROUNDING = 1e-3
"""How far a control's norm may be from the perturbation's, in parts of it."""


def check_control(control: Control, values: Tensor, replaced: Replaced, state: str) -> None:
    """Refuse what a user's control returned where its norm is not that of the perturbation.

    A larger or smaller one would be another strength, and what was shown would be owed to that.

    Args:
        control: That returned them.
        values: Shape (entries,).
        replaced: What they replace.
        state: Whether the base has moved, for the message.

    Raises:
        ValueError: If in some tensor the norm is another than the perturbation's, and not 0.
    """
    if is_ours(type(control)):
        return
    wide = torch.float32 if values.device.type == "mps" else torch.float64
    both = (part.to(wide).split(replaced.sizes) for part in (values, replaced.added))
    norms, wanted = (torch.stack(torch._foreach_norm(pieces)) for pieces in both)
    is_equal = (norms - wanted).abs() <= ROUNDING * wanted
    refused = (~(is_equal | (norms == 0))).nonzero()
    if len(refused):
        first = int(refused[0])
        raise ValueError(
            f"{type(control).__name__} returned a norm of {norms[first]:.3g} in tensor "
            f"{replaced.names[first]}, and the perturbation's is {wanted[first]:.3g}: a control is "
            f"as large as what it replaces. {state}; return `replaced.matched(direction)`."
        )


@dataclass(frozen=True)
class GaussianControl(Control):
    """Adds Gaussian noise of the perturbation's norm in each tensor, in a fresh direction per step.

    Entries to which the perturbation would add exactly 0, such as an embedding's rows of tokens
    that do not occur, get nothing, so that both act on the same entries.

    Example:
        >>> import torch
        >>> would_add = torch.tensor([3.0, 0.0, 4.0])
        >>> step = Replaced(would_add, torch.ones(3), torch.zeros(3), ("0",), (3,), (0, 0))
        >>> added = GaussianControl().replace(step)
        >>> round(added.norm().item(), 4), added[1].item()
        (5.0, 0.0)
    """

    def replace(self, replaced: Replaced) -> Tensor:
        """Return noise of the same norm per tensor; see `Control.replace`."""
        noise = replaced.draw(normals).to(replaced.added)
        return replaced.matched(noise * (replaced.added != 0))


@dataclass(frozen=True)
class RandomSignControl(Control):
    """Keeps the size of what the perturbation adds to each entry and draws its sign.

    Example:
        >>> import torch
        >>> would_add = torch.tensor([1.0, -2.0, 3.0])
        >>> step = Replaced(would_add, torch.ones(3), torch.zeros(3), ("0",), (3,), (0, 0))
        >>> RandomSignControl().replace(step).abs()
        tensor([1., 2., 3.])
    """

    def replace(self, replaced: Replaced) -> Tensor:
        """Return the same sizes with drawn signs; see `Control.replace`."""
        return replaced.added * replaced.draw(signs).to(replaced.added)


@dataclass(frozen=True)
class PermutedControl(Control):
    """Gives each entry the readout of another entry of its tensor, then restores the norm.

    The circuits are evaluated, and their readouts are all used, at the same gradients: only what
    ties a readout to its own parameter is lost. The permutation is a single random cycle, so that
    no entry keeps its own readout; a uniform one would leave one entry in place on average, of
    only four. A tensor with one perturbed entry has nothing to permute and is perturbed as usual.

    Example:
        >>> import torch
        >>> u = torch.tensor([0.1, 0.2, 0.3])
        >>> step = Replaced(torch.ones(3), u, torch.zeros(3), ("0",), (3,), (0, 0))
        >>> added = PermutedControl().replace(step)
        >>> bool((added != u).all()), torch.allclose(added.sort().values, u)
        (True, True)
    """

    def replace(self, replaced: Replaced) -> Tensor:
        """Return the sizes of wrong readouts, rescaled; see `Control.replace`."""
        sources = permuted_within(replaced.names, replaced.sizes, replaced.seed_and_step)
        swapped = replaced.modulation[sources.to(replaced.modulation.device)]
        direction = torch.nan_to_num_(replaced.coefficients * swapped, 0.0, 0.0, 0.0)
        return replaced.matched(direction)


def permuted_within(
    names: Sequence[str], sizes: Sequence[int], seed_and_step: tuple[int, int]
) -> Tensor:
    """Return for each entry another entry of its tensor, int64, shape (entries,).

    Args:
        names: Name of each tensor.
        sizes: Number of entries of each.
        seed_and_step: The seed and the step, which name the draw.
    """
    sources = keyed_draws(cycle, zip(names, sizes, strict=True), seed_and_step)
    return torch.from_numpy(sources + np.repeat(np.cumsum([0, *sizes[:-1]]), sizes))


def cycle(generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw a permutation that is one cycle through all of `size` places, int64, shape (size,)."""
    order = generator.permutation(size)
    sources = np.empty(size, dtype=np.int64)
    sources[order] = np.roll(order, 1)
    return sources


@dataclass(frozen=True)
class RescaledStepControl(Control):
    """Adds the base optimizer's own step at the perturbation's norm: a larger learning rate.

    It tells whether the perturbation does more than lengthen the step. A tensor whose perturbed
    entries the base does not move gets nothing.

    Example:
        >>> import torch
        >>> would_add, base_step = torch.tensor([3.0, 4.0]), torch.tensor([-1.0, 0.0])
        >>> step = Replaced(would_add, torch.ones(2), base_step, ("0",), (2,), (0, 0))
        >>> RescaledStepControl().replace(step)
        tensor([-5.,  0.])
    """

    def replace(self, replaced: Replaced) -> Tensor:
        """Return the base step, rescaled per tensor; see `Control.replace`."""
        return replaced.matched(replaced.base_step)

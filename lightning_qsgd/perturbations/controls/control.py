"""The contract of a control: what stands in for the perturbation, at the same size."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.perturbations.keyed_draws import keyed_draws


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
        moment: The seed and the optimizer step, which name the random streams.
    """

    coefficients: Tensor
    modulation: Tensor
    base_step: Tensor
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    moment: tuple[int, int]

    @cached_property
    def added(self) -> Tensor:
        """What the perturbation would have added, shape (entries,); 0 where u is not finite."""
        return torch.nan_to_num_(self.coefficients * self.modulation, 0.0, 0.0, 0.0)

    def draw(self, draw: Callable[[np.random.Generator, int], np.ndarray]) -> Tensor:
        """Draw numbers from each tensor's own stream, shape (entries,); see `keyed_draws`."""
        drawn = keyed_draws(draw, zip(self.names, self.sizes, strict=True), self.moment)
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
            norm, target = torch.linalg.vector_norm(piece), torch.linalg.vector_norm(added)
            pieces.append(piece * torch.where(norm > 0, target / norm, 0.0))
        return torch.cat(pieces)


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

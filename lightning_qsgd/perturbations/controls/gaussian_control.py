"""Gaussian noise in place of the perturbation."""

from dataclasses import dataclass

from torch import Tensor

from lightning_qsgd.perturbations.controls.control import Control, Replaced
from lightning_qsgd.perturbations.keyed_draws import normals


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

"""The perturbation with random signs."""

from dataclasses import dataclass

from torch import Tensor

from lightning_qsgd.perturbations.controls.control import Control, Replaced
from lightning_qsgd.perturbations.keyed_draws import signs


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

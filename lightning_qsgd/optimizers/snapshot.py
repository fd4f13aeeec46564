"""A copy of the parameters, to measure the base optimizer's step over the whole model."""

import torch
from torch import Tensor

from lightning_qsgd.optimizers.rows import ParamGroups, as_real, parameters_of


class Snapshot:
    """Copies all parameters that have a gradient; the others do not move.

    Args:
        groups: The optimizer's parameter groups.
    """

    def __init__(self, groups: ParamGroups) -> None:
        moving = [p for p in parameters_of(groups) if p.grad is not None]
        self._copies = [(p, as_real(p.detach()).clone()) for p in moving]

    def squared_distance(self) -> Tensor:
        """Return the squared norm of the change since the copy was made, 0-dim."""
        norms = [
            torch.linalg.vector_norm(_wide(as_real(p.detach())) - _wide(copy))
            for p, copy in self._copies
        ]
        return torch.stack([norm.to(norms[0].device) for norm in norms]).square().sum()


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()

"""A copy of the parameters, to measure the base optimizer's step over the whole model."""

import torch
from torch import Tensor

from lightning_qsgd.optimizers.rows import ParamGroups, as_real, parameters_of, takes_part
from lightning_qsgd.optimizers.sharding import Meshes, local_of


class Snapshot:
    """Copies all parameters that have a gradient; the others do not move.

    Of sharded parameters each process copies what it holds, and the squares are added up.

    Args:
        groups: The optimizer's parameter groups.
    """

    def __init__(self, groups: ParamGroups) -> None:
        self._moving = [p for p in parameters_of(groups) if takes_part(p)]
        self._copies = [as_real(local_of(p)).clone() for p in self._moving]

    def squared_distance(self) -> Tensor:
        """Return the squared norm of the change since the copy was made, 0-dim."""
        norms = [
            torch.linalg.vector_norm(_wide(as_real(local_of(p))) - _wide(copy))
            for p, copy in zip(self._moving, self._copies, strict=True)
        ]
        squares = torch.stack([norm.to(norms[0].device) for norm in norms]).square()
        meshes = Meshes(self._moving, [1] * len(self._moving))
        own = torch.tensor(meshes.counts, device=squares.device)
        return meshes.complete_(torch.where(own, squares, 0.0)).sum()


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()

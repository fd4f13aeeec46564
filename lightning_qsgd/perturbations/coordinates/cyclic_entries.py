"""A window that moves through each tensor."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_qsgd.perturbations.coordinates.coordinates import (
    CountedCoordinates,
    Moment,
    TensorSpec,
)


@dataclass(frozen=True)
class CyclicEntries(CountedCoordinates):
    """Perturbs a window of each tensor that moves on by its own length at every step.

    Every entry is perturbed equally often in the long run.

    Args:
        count: Length of the window, at least 1; None takes one entry per qubit.

    Raises:
        ValueError: If `count` is below 1.

    Example:
        >>> CyclicEntries().choose(TensorSpec("0", 6, 0), Moment(1, 0, 4), lambda: None)
        tensor([4, 5, 0, 1])
    """

    changes = True

    def choose(
        self, spec: TensorSpec, moment: Moment, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose the window of this step; see `Coordinates.choose`."""
        length = self.num_chosen(spec, moment.num_qubits)
        return (torch.arange(length) + moment.step * length) % max(spec.numel, 1)

"""The entries of each tensor whose gradient is largest."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lightning_qsgd.perturbations.coordinates.coordinates import (
    CountedCoordinates,
    Moment,
    TensorSpec,
)


@dataclass(frozen=True)
class LargestGradient(CountedCoordinates):
    """Perturbs the entries of each tensor with the largest absolute gradient at this step.

    Args:
        count: Entries per tensor, at least 1; None takes one per qubit.

    Raises:
        ValueError: If `count` is below 1.

    Example:
        >>> import torch
        >>> spec, moment = TensorSpec("0", 3, 0), Moment(0, 0, 4)
        >>> LargestGradient(count=2).choose(spec, moment, lambda: torch.tensor([0.1, -3.0, 2.0]))
        tensor([1, 2])
    """

    changes = True

    def choose(
        self, spec: TensorSpec, moment: Moment, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose by size of the gradient, largest first; see `Coordinates.choose`."""
        return gradient().abs().topk(self.num_chosen(spec, moment.num_qubits)).indices

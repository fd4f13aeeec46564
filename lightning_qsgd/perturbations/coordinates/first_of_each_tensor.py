"""The first n entries of each tensor."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lightning_qsgd.perturbations.coordinates.coordinates import (
    CountedCoordinates,
    Moment,
    TensorSpec,
)


@dataclass(frozen=True)
class FirstOfEachTensor(CountedCoordinates):
    """Perturbs the first entries of every parameter tensor.

    A reading of Eq. 2's "i < n_qubits": i runs over the flattened entries of each tensor.

    Args:
        count: Entries per tensor, at least 1; None takes one per qubit.

    Raises:
        ValueError: If `count` is below 1.

    Example:
        >>> FirstOfEachTensor().choose(TensorSpec("0", 9, 0), Moment(0, 0, 4), lambda: None)
        slice(0, 4, None)

    References:
        arXiv:2511.01918, Eq. 2.
    """

    def choose(
        self, spec: TensorSpec, moment: Moment, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose the leading entries; see `Coordinates.choose`."""
        return slice(0, self.num_chosen(spec, moment.num_qubits))

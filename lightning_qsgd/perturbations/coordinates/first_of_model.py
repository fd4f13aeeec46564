"""The first n entries of the whole model."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lightning_qsgd.perturbations.coordinates.coordinates import (
    CountedCoordinates,
    Moment,
    TensorSpec,
)


@dataclass(frozen=True)
class FirstOfModel(CountedCoordinates):
    """Perturbs the first entries of the model's flat parameter vector.

    A reading of Eq. 2's "i < n_qubits": i runs over all parameters in the order in which the
    optimizer holds them. For a model that starts with an embedding these are entries of token 0,
    which as padding never receives a gradient, so the perturbation is exactly zero.

    Args:
        count: Entries of the model, at least 1; None takes one per qubit.

    Raises:
        ValueError: If `count` is below 1.

    Example:
        >>> second = TensorSpec("1", numel=9, offset=3)
        >>> FirstOfModel().choose(second, Moment(0, 0, 4), lambda: None)
        slice(0, 1, None)

    References:
        arXiv:2511.01918, Eq. 2.
    """

    spans_tensors = True

    def choose(
        self, spec: TensorSpec, moment: Moment, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose this tensor's part of the leading entries; see `Coordinates.choose`."""
        return slice(0, self.num_chosen(spec, moment.num_qubits))

    def num_chosen(self, spec: TensorSpec, num_qubits: int) -> int:
        """Return the size of this tensor's part; see `Coordinates.num_chosen`."""
        return min(max((self.count or num_qubits) - spec.offset, 0), spec.numel)

"""Every entry of every tensor."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lightning_qsgd.perturbations.coordinates.coordinates import Coordinates, Moment, TensorSpec


@dataclass(frozen=True)
class AllEntries(Coordinates):
    """Perturbs every entry, in consecutive blocks of one entry per qubit.

    The last block of a tensor is padded with zero angles when its size is no multiple of the
    number of qubits. The paper perturbs n_qubits coordinates only; this generalises it.

    Example:
        >>> AllEntries().choose(TensorSpec("0", 9, 0), Moment(0, 0, 4), lambda: None)
        slice(0, 9, None)
    """

    def choose(
        self, spec: TensorSpec, moment: Moment, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose all entries; see `Coordinates.choose`."""
        return slice(0, spec.numel)

    def num_chosen(self, spec: TensorSpec, num_qubits: int) -> int:
        """Return the tensor's size; see `Coordinates.num_chosen`."""
        return spec.numel

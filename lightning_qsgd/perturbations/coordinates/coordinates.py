"""The contract of a choice of coordinates."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TensorSpec:
    """One parameter tensor as a choice of coordinates sees it.

    Attributes:
        name: Stable name within the optimizer; part of the noise keys.
        numel: Number of real entries (a complex entry counts as two).
        offset: Number of entries of all tensors before it: its place in the model's flat vector.
    """

    name: str
    numel: int
    offset: int


@dataclass(frozen=True)
class Moment:
    """When a choice is made.

    Attributes:
        step: Number of perturbed steps before this one.
        seed: Names the random streams.
        num_qubits: Number of entries in a block.
    """

    step: int
    seed: int
    num_qubits: int


class Coordinates(ABC):
    """Chooses entries of each tensor by their logical (row-major) flat index.

    Logical means independent of strides: a transposed or channels-last tensor has the same
    coordinates as its contiguous copy.
    """

    changes: bool = False
    """Whether the choice differs from step to step."""

    spans_tensors: bool = False
    """Whether a block of qubits may hold entries of several tensors."""

    @abstractmethod
    def choose(
        self, spec: TensorSpec, moment: Moment, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose the perturbed entries of one tensor.

        Args:
            spec: The tensor.
            moment: The step at which the choice is made.
            gradient: Returns the tensor's gradient, flat and dense, shape (numel,).

        Returns:
            A slice with explicit bounds and step 1, or int64 indices, shape (k,), without
            duplicates, on any device. Both may be empty.
        """

    @abstractmethod
    def num_chosen(self, spec: TensorSpec, num_qubits: int) -> int:
        """Return how many entries `choose` will return, to forecast cost before training."""


@dataclass(frozen=True)
class CountedCoordinates(Coordinates):
    """Chooses a fixed number of entries of each tensor; the base of most choices.

    Args:
        count: Entries per tensor, at least 1; None takes one per qubit.

    Raises:
        ValueError: If `count` is below 1.
    """

    count: int | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(
                f"Expected `count` to be at least 1, got {self.count}: no coordinate would be "
                "perturbed. Leave it out to take one per qubit."
            )

    def num_chosen(self, spec: TensorSpec, num_qubits: int) -> int:
        """Return the number of entries, at most all; see `Coordinates.num_chosen`."""
        return min(self.count or num_qubits, spec.numel)

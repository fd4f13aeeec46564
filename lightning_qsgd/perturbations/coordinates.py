"""Coordinates: which entries of which tensors are perturbed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.perturbations.keyed_draws import stream_key


@dataclass(frozen=True)
class TensorSpec:
    """One parameter tensor as a choice of coordinates sees it.

    Attributes:
        name: Stable name within the optimizer; part of the noise keys.
        numel: Number of real entries (a complex entry counts as two).
        offset: Number of entries of all tensors before it: its place in the model's flat vector.
        matrix: Its position among the optimizer's matrices (kernels included), and how many those
            are; None if it is none.
        orthogonalized: Whether the base is Muon and takes this tensor; None if the base is another.
    """

    name: str
    numel: int
    offset: int
    matrix: tuple[int, int] | None = None
    orthogonalized: bool | None = None


@dataclass(frozen=True)
class Occasion:
    """When a choice is made.

    Attributes:
        step: Number of perturbed steps before this one.
        seed: Names the random streams.
        num_qubits: Number of entries in a block.
    """

    step: int
    seed: int
    num_qubits: int


Moment = Occasion
"""Its name of before, for coordinates in users' files."""


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
        self, spec: TensorSpec, occasion: Occasion, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose the perturbed entries of one tensor.

        Args:
            spec: The tensor.
            occasion: The step at which the choice is made.
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


@dataclass(frozen=True)
class FirstOfEachTensor(CountedCoordinates):
    """Perturbs the first entries of every parameter tensor.

    A reading of Eq. 2's "i < n_qubits": i runs over the flattened entries of each tensor.

    Args:
        count: Entries per tensor, at least 1; None takes one per qubit.

    Raises:
        ValueError: If `count` is below 1.

    Example:
        >>> FirstOfEachTensor().choose(TensorSpec("0", 9, 0), Occasion(0, 0, 4), lambda: None)
        slice(0, 4, None)

    References:
        arXiv:2511.01918, Eq. 2.
    """

    def choose(
        self, spec: TensorSpec, occasion: Occasion, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose the leading entries; see `Coordinates.choose`."""
        return slice(0, self.num_chosen(spec, occasion.num_qubits))


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
        >>> FirstOfModel().choose(second, Occasion(0, 0, 4), lambda: None)
        slice(0, 1, None)

    References:
        arXiv:2511.01918, Eq. 2.
    """

    spans_tensors = True

    def choose(
        self, spec: TensorSpec, occasion: Occasion, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose this tensor's part of the leading entries; see `Coordinates.choose`."""
        return slice(0, self.num_chosen(spec, occasion.num_qubits))

    def num_chosen(self, spec: TensorSpec, num_qubits: int) -> int:
        """Return the size of this tensor's part; see `Coordinates.num_chosen`."""
        return min(max((self.count or num_qubits) - spec.offset, 0), spec.numel)


@dataclass(frozen=True)
class AllEntries(Coordinates):
    """Perturbs every entry, in consecutive blocks of one entry per qubit.

    The last block of a tensor is padded with zero angles when its size is no multiple of the
    number of qubits. The paper perturbs n_qubits coordinates only; this generalises it.

    Example:
        >>> AllEntries().choose(TensorSpec("0", 9, 0), Occasion(0, 0, 4), lambda: None)
        slice(0, 9, None)
    """

    def choose(
        self, spec: TensorSpec, occasion: Occasion, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose all entries; see `Coordinates.choose`."""
        return slice(0, spec.numel)

    def num_chosen(self, spec: TensorSpec, num_qubits: int) -> int:
        """Return the tensor's size; see `Coordinates.num_chosen`."""
        return spec.numel


@dataclass(frozen=True)
class CyclicEntries(CountedCoordinates):
    """Perturbs a window of each tensor that moves on by its own length at every step.

    Every entry is perturbed equally often in the long run.

    Args:
        count: Length of the window, at least 1; None takes one entry per qubit.

    Raises:
        ValueError: If `count` is below 1.

    Example:
        >>> CyclicEntries().choose(TensorSpec("0", 6, 0), Occasion(1, 0, 4), lambda: None)
        tensor([4, 5, 0, 1])
    """

    changes = True

    def choose(
        self, spec: TensorSpec, occasion: Occasion, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose the window of this step; see `Coordinates.choose`."""
        length = self.num_chosen(spec, occasion.num_qubits)
        return (torch.arange(length) + occasion.step * length) % max(spec.numel, 1)


@dataclass(frozen=True)
class RandomEntries(CountedCoordinates):
    """Perturbs a random subset of each tensor, drawn anew at every step.

    The draw depends on (seed, step, tensor name) alone: it is the same on every process of a
    distributed run and after a resume, and touches no global generator.

    Args:
        count: Entries per tensor, at least 1; None takes one per qubit.

    Raises:
        ValueError: If `count` is below 1.

    Example:
        >>> len(RandomEntries().choose(TensorSpec("0", 9, 0), Occasion(0, 0, 4), lambda: None))
        4
    """

    changes = True

    def choose(
        self, spec: TensorSpec, occasion: Occasion, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose the subset of this step, in random order; see `Coordinates.choose`."""
        length = self.num_chosen(spec, occasion.num_qubits)
        generator = np.random.default_rng(stream_key(occasion.seed, occasion.step, spec.name))
        return torch.from_numpy(generator.choice(spec.numel, size=length, replace=False))


@dataclass(frozen=True)
class LargestGradient(CountedCoordinates):
    """Perturbs the entries of each tensor with the largest absolute gradient at this step.

    Args:
        count: Entries per tensor, at least 1; None takes one per qubit.

    Raises:
        ValueError: If `count` is below 1.

    Example:
        >>> import torch
        >>> spec, occasion = TensorSpec("0", 3, 0), Occasion(0, 0, 4)
        >>> LargestGradient(count=2).choose(spec, occasion, lambda: torch.tensor([0.1, -3.0, 2.0]))
        tensor([1, 2])
    """

    changes = True

    def choose(
        self, spec: TensorSpec, occasion: Occasion, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose by size of the gradient, largest first; see `Coordinates.choose`."""
        return gradient().abs().topk(self.num_chosen(spec, occasion.num_qubits)).indices


@dataclass(frozen=True)
class HiddenMatrices(Coordinates):
    """Touches the matrices inside a network: no embedding, no head, no vector.

    With Muon as the base these are the matrices that it orthogonalizes. With another base, shapes
    do not tell a hidden matrix from an embedding, so that those are named by their position.

    Args:
        others: Positions of the matrices that are left out, negative ones from the end; without
            effect with Muon. The default is the first and the last: embedding and head.

    Example:
        >>> middle = TensorSpec("1", 12, 20, matrix=(1, 3))
        >>> HiddenMatrices().choose(middle, Occasion(0, 0, 1), lambda: None)
        slice(0, 12, None)
    """

    others: tuple[int, ...] = (0, -1)

    @override
    def choose(
        self, spec: TensorSpec, occasion: Occasion, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        return slice(0, self.num_chosen(spec, occasion.num_qubits))

    @override
    def num_chosen(self, spec: TensorSpec, num_qubits: int) -> int:
        if spec.matrix is None:
            return 0
        position, count = spec.matrix
        if spec.orthogonalized is not None:
            return spec.numel if spec.orthogonalized else 0
        outside = [other for other in self.others if not -count <= other < count]
        if outside:
            raise ValueError(
                f"Expected `others` to name positions among {count} matrices, got {outside[0]}. "
                "Count from 0, or from -1 backwards."
            )
        return 0 if {position, position - count} & set(self.others) else spec.numel

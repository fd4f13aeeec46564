"""What is read from the final state: marginals of qubits, or outcomes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

FOLDED_QUBITS = 14
"""From so many qubits on, marginals are read by folding the state."""


class Readout(ABC):
    """Turns the final state into outputs, and a cotangent of those back into one of the state.

    States have shape (parts, 2^n, B): a real part, and an imaginary part unless all is real.
    """

    needs_phases = False
    """Whether phases that come last matter."""

    count: int
    """Number of outputs of one circuit."""

    @abstractmethod
    def after(self, source: np.ndarray) -> Readout:
        """Return the readout that includes a last permutation ``new[b] = old[source[b]]``."""

    @abstractmethod
    def to(self, dtype: torch.dtype, device: torch.device) -> Readout:
        """Return the readout with its tensors on a device."""

    @abstractmethod
    def read(self, state: Tensor) -> Tensor:
        """Return the outputs, shape (B, outputs), contiguous."""

    @abstractmethod
    def pull(self, cotangent: Tensor, state: Tensor) -> Tensor:
        """Turn a cotangent of the outputs, shape (B, outputs), into one of the state."""


class CellReadout(Readout):
    """Adds the probabilities of all basis states that belong to one cell of the output.

    Full probabilities (each basis state is its own cell) and interpreted outcomes are of this kind.

    Args:
        cells: Cell of each basis state, shape (2^n,).
        count: Number of cells.
    """

    def __init__(self, cells: np.ndarray | Tensor, count: int) -> None:
        self._cells = _as_tensor(cells)
        self._order = _inverse(self._cells, count)
        self.count = count

    @override
    def after(self, source: np.ndarray) -> CellReadout:
        cells = self._cells.clone()
        cells[torch.from_numpy(source)] = self._cells
        return CellReadout(cells, self.count)

    @override
    def to(self, dtype: torch.dtype, device: torch.device) -> CellReadout:
        moved = copy(self)
        moved._cells = self._cells.to(device)
        moved._order = None if self._order is None else self._order.to(device)
        return moved

    @override
    def read(self, state: Tensor) -> Tensor:
        probabilities = probabilities_of(state)
        if self._order is not None:
            return probabilities.index_select(0, self._order).t().contiguous()
        zeros = probabilities.new_zeros(self.count, probabilities.shape[1])
        return zeros.index_add(0, self._cells, probabilities).t().contiguous()

    @override
    def pull(self, cotangent: Tensor, state: Tensor) -> Tensor:
        return state * cotangent.t().index_select(0, self._cells).mul_(2)


def _as_tensor(values: np.ndarray | Tensor) -> Tensor:
    """Return a tensor where it is: `torch.as_tensor` would move one to the default device."""
    return values if isinstance(values, Tensor) else torch.from_numpy(values)


def _inverse(cells: Tensor, count: int) -> Tensor | None:
    """Return which basis state is in each cell, if that is one for each: nothing to add up."""
    order = torch.argsort(cells)
    each = torch.arange(count, device=cells.device)
    return order if len(cells) == count and bool((cells[order] == each).all()) else None


class MarginalReadout(Readout):
    """Reads P(1) - P(0) of some qubits.

    Args:
        signs: +1 where the qubit is 1 and -1 where it is 0, shape (qubits, 2^n).
    """

    def __init__(self, signs: np.ndarray | Tensor) -> None:
        self._signs = _as_tensor(signs)
        self._factors = torch.cat((self._signs, self._signs), dim=1)
        self.count = len(signs)

    @classmethod
    def of_qubits(cls, num_qubits: int, qubits: Sequence[int]) -> Readout:
        """Read some qubits of a circuit."""
        if num_qubits >= FOLDED_QUBITS:
            return FoldedMarginalReadout(num_qubits, qubits)
        basis, places = np.arange(2**num_qubits), np.array(qubits, dtype=int)
        return cls(np.where((basis >> places[:, None]) & 1, 1.0, -1.0))

    @override
    def after(self, source: np.ndarray) -> MarginalReadout:
        signs = torch.empty_like(self._signs)
        signs[:, torch.from_numpy(source)] = self._signs
        return MarginalReadout(signs)

    @override
    def to(self, dtype: torch.dtype, device: torch.device) -> MarginalReadout:
        return MarginalReadout(self._signs.to(device, dtype))

    @override
    def read(self, state: Tensor) -> Tensor:
        squares = state.square().flatten(0, 1)  # of real and of imaginary parts
        return (self._factors[:, : len(squares)] @ squares).t().contiguous()

    @override
    def pull(self, cotangent: Tensor, state: Tensor) -> Tensor:
        return state * (self._signs.t() @ cotangent.t()).mul_(2)


class ObservableReadout(Readout):
    r"""Reads expectation values of sums of Pauli strings, without a matrix of 4^n entries.

    Strings that flip the same qubits share one permutation of the state: the value is
    :math:`\sum_x \sum_a \mathrm{Re}(\psi_a^* d_{x,a} \psi_{a'})`, where a' is a with x flipped.

    Args:
        partners: The basis state a' of each a, for each x, shape (x, 2^n).
        factors: Real and imaginary part of d for each x, shape (x, 2, observables, 2^n).
    """

    def __init__(self, partners: Tensor, factors: Tensor) -> None:
        self._partners = partners
        self._factors = factors
        self.count = factors.shape[2]
        basis = torch.arange(partners.shape[1], device=partners.device)
        self._stays = [] if basis.is_meta else [bool((p == basis).all()) for p in partners]
        self.needs_phases = not all(self._stays)

    @classmethod
    def of_parts(cls, parts: dict[int, np.ndarray]) -> ObservableReadout:
        """Read observables that `flipped_parts` has taken apart."""
        basis = np.arange(next(iter(parts.values())).shape[1])
        factors = np.stack([np.stack((part.real, part.imag)) for part in parts.values()])
        return cls(torch.from_numpy(np.stack([basis ^ x for x in parts])), torch.tensor(factors))

    @override
    def after(self, source: np.ndarray) -> ObservableReadout:
        moved, inverse = torch.from_numpy(source), torch.from_numpy(np.argsort(source))
        partners = moved[self._partners.index_select(1, inverse)]
        return ObservableReadout(partners, self._factors.index_select(3, inverse))

    @override
    def to(self, dtype: torch.dtype, device: torch.device) -> ObservableReadout:
        moved = copy(self)
        moved._partners = self._partners.to(device)
        moved._factors = self._factors.to(device, dtype)
        return moved

    @override
    def read(self, state: Tensor) -> Tensor:
        return reduce(torch.add, self._read_parts(state)).t().contiguous()

    def _read_parts(self, state: Tensor) -> Iterator[Tensor]:
        """Yield what each x adds, shape (observables, B)."""
        for stays, partner, (real, imaginary) in self._each():
            if stays:
                yield in_blocks(real, probabilities_of(state))
            elif len(state) == 1:
                yield in_blocks(real, state[0] * state[0].index_select(0, partner))
            else:
                other = state.index_select(1, partner)
                part = in_blocks(real, (state * other).sum(0))
                turned = state[0] * other[1] - state[1] * other[0]
                yield part - in_blocks(imaginary, turned)

    @override
    def pull(self, cotangent: Tensor, state: Tensor) -> Tensor:
        flow = torch.zeros_like(state)
        for _, partner, (real, imaginary) in self._each():
            other = state.index_select(1, partner)
            of_real = real.t() @ cotangent.t()
            flow.addcmul_(of_real.unsqueeze(0), other, value=2)
            if len(state) == 2:
                of_imaginary = imaginary.t() @ cotangent.t()
                flow[0].addcmul_(of_imaginary, other[1], value=-2)
                flow[1].addcmul_(of_imaginary, other[0], value=2)
        return flow

    def _each(self) -> Iterable[tuple[bool, Tensor, Tensor]]:
        return zip(self._stays, self._partners, self._factors, strict=True)


class FoldedMarginalReadout(Readout):
    """Reads P(1) - P(0) of some qubits of a large state by folding it qubit by qubit.

    A matrix of signs, as in `MarginalReadout`, would hold as many states as there are qubits, and
    one long sum loses digits: 3e-4 in float32 at 20 qubits. Half of a state onto the other half,
    again and again, is a short sum, and all of it costs two passes over the state.

    Args:
        num_qubits: Number of qubits of the circuit.
        qubits: Those that are read.
        source: Permutation that is applied last, shape (2^n,); None for none.
    """

    def __init__(
        self, num_qubits: int, qubits: Sequence[int], source: Tensor | None = None
    ) -> None:
        self._num_qubits = num_qubits
        self._qubits = list(qubits)
        self._source = source
        self._inverse = None if source is None else torch.argsort(source)
        self.count = len(self._qubits)

    @override
    def after(self, source: np.ndarray) -> FoldedMarginalReadout:
        whole = torch.from_numpy(source)
        whole = whole if self._source is None else whole[self._source]
        return FoldedMarginalReadout(self._num_qubits, self._qubits, whole)

    @override
    def to(self, dtype: torch.dtype, device: torch.device) -> FoldedMarginalReadout:
        source = None if self._source is None else self._source.to(device)
        return FoldedMarginalReadout(self._num_qubits, self._qubits, source)

    @override
    def read(self, state: Tensor) -> Tensor:
        folded = probabilities_of(state)
        if self._source is not None:
            folded = folded.index_select(0, self._source)
        of_zero: list[Tensor] = []
        for qubit in reversed(range(self._num_qubits)):
            zeros, ones = folded.view(2, 2**qubit, -1).unbind(0)
            of_zero.append(zeros.sum(0))
            folded = zeros + ones
        found = folded - 2 * torch.stack(of_zero[::-1])  # P(1) - P(0) = P - 2 P(0)
        return found[self._qubits].t().contiguous()

    @override
    def pull(self, cotangent: Tensor, state: Tensor) -> Tensor:
        of_qubits = cotangent.new_zeros(self._num_qubits, len(cotangent))
        of_qubits[self._qubits] = 2 * cotangent.t()
        unfolded = cotangent.new_zeros(1, len(cotangent))
        for each in of_qubits:
            unfolded = torch.cat((unfolded - each, unfolded + each))
        if self._inverse is not None:
            unfolded = unfolded.index_select(0, self._inverse)
        return state * unfolded


class AmplitudeReadout(Readout):
    """Reads the complex amplitudes, global phase included.

    Args:
        num_qubits: Number of qubits.
        source: Permutation that is applied last, shape (2^n,); None for none.
    """

    needs_phases = True

    def __init__(self, num_qubits: int, source: Tensor | None = None) -> None:
        self._num_qubits = num_qubits
        self.count = 2**num_qubits
        self._source = source

    @override
    def after(self, source: np.ndarray) -> AmplitudeReadout:
        return AmplitudeReadout(self._num_qubits, torch.from_numpy(source))

    @override
    def to(self, dtype: torch.dtype, device: torch.device) -> AmplitudeReadout:
        source = None if self._source is None else self._source.to(device)
        return AmplitudeReadout(self._num_qubits, source)

    @override
    def read(self, state: Tensor) -> Tensor:
        moved = state if self._source is None else state.index_select(1, self._source)
        imaginary = moved[1] if len(moved) == 2 else torch.zeros_like(moved[0])
        return torch.complex(moved[0], imaginary).t().contiguous()

    @override
    def pull(self, cotangent: Tensor, state: Tensor) -> Tensor:
        parts = torch.view_as_real(cotangent.t().resolve_conj()).permute(2, 0, 1)[: len(state)]
        if self._source is None:
            return parts.contiguous()
        return torch.zeros_like(parts).index_copy_(1, self._source, parts)


def probabilities_of(state: Tensor) -> Tensor:
    """Return the probability of each basis state, shape (2^n, B)."""
    if len(state) == 1:
        return state[0].square()
    return torch.addcmul(state[0].square(), state[1], state[1])


def in_blocks(factors: Tensor, columns: Tensor) -> Tensor:
    """Multiply matrices in blocks of a long sum: one float32 sum of 2^20 terms loses digits.

    Args:
        factors: Shape (outputs, 2^n).
        columns: Shape (2^n, B).
    """
    size = len(columns)
    if size < 2**FOLDED_QUBITS:
        return factors @ columns
    blocks = size // 2 ** (FOLDED_QUBITS // 2)
    cut = factors.reshape(len(factors), blocks, -1).transpose(0, 1)
    return torch.bmm(cut, columns.reshape(blocks, -1, columns.shape[1])).sum(0)

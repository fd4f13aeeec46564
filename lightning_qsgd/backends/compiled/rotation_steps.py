"""Rotations of qubits on a batch of states."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends.compiled.angles import Row
from lightning_qsgd.backends.compiled.step import GradientTape, Step, Tape, rotate, slope, table_row

DENSE_QUBITS = 4
DENSE_ENTRIES = 2**14
"""A layer of rotations becomes one matrix per circuit where few small ones are evaluated: more
arithmetic, but fewer calls, which is what a small batch costs."""


class RotationStep(Step):
    """Ry on distinct qubits.

    Args:
        num_qubits: Number of qubits of the circuit.
        rows: Row of half the angle of each rotated qubit.
        device: Where the states are.
    """

    def __init__(self, num_qubits: int, rows: dict[int, Row], device: torch.device) -> None:
        self._num_qubits = num_qubits
        self._rows = rows
        self.turns = max(1, len(rows))
        self._factors: Tensor | None = None
        if num_qubits <= DENSE_QUBITS and len(rows) == num_qubits and _all_vary(rows):
            self._factors = _matrix_factors(num_qubits, rows).to(device)
            self._partners, self._signs = (t.to(device) for t in _slopes(num_qubits, rows))

    @override
    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Turn qubit by qubit, or few states by one matrix each."""
        if self._factors is None or not self._is_small(tape):
            return self._turned(state, tape, 1)
        return (self._matrices(self._factors, tape) * state.unsqueeze(1)).sum(2)

    @override
    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Read off all gradients at once, then turn back."""
        self.note_gradients(pair, tape)
        if self._factors is None or not self._is_small(tape):
            return self._turned(pair, tape, -1)
        return (self._matrices(self._factors, tape) * pair.unsqueeze(3)).sum(2)

    def note_gradients(self, pair: Tensor, tape: GradientTape) -> None:
        """Note the gradients; the rotations commute, so one state serves them all."""
        if self._factors is not None and self._is_small(tape):
            tape.note_all(self._rows.values(), self._slopes(*pair))
            return
        for qubit, row in self._rows.items():
            state, cotangent = (self._pairs(half, qubit) for half in pair)
            tape.note(row, slope(state, cotangent))

    def _is_small(self, tape: Tape) -> bool:
        return tape.batch << 2 * self._num_qubits <= DENSE_ENTRIES

    def _matrices(self, factors: Tensor, tape: Tape) -> Tensor:
        """Return the matrix of the layer for each circuit, shape (2^n, 2^n, B)."""
        size = 2**self._num_qubits
        return tape.product(True, factors).view(size, size, -1)

    def _slopes(self, state: Tensor, cotangent: Tensor) -> Tensor:
        """Return the gradients of all qubits' half angles, shape (n, B)."""
        shape = len(state), -1, *state.shape[1:]
        others = state.index_select(1, self._partners).view(shape).mul_(self._signs)
        return others.mul_(cotangent.unsqueeze(1)).sum((0, 2))

    def _turned(self, state: Tensor, tape: Tape, direction: int) -> Tensor:
        shape = state.shape[:-1]
        for qubit, row in self._rows.items():
            state = rotate(self._pairs(state, qubit), *tape.turn(row), direction, tape.plain)
        return state.reshape(*shape, -1)

    def _pairs(self, state: Tensor, qubit: int) -> Tensor:
        return state.reshape(-1, 2, 2**qubit, state.shape[-1])


class ProductStep(RotationStep):
    """Ry on the qubits of |0...0>, whose state is a product: the first step of most circuits.

    Args:
        num_qubits: Number of qubits of the circuit.
        rows: Row of half the angle of each rotated qubit.
        device: Where the states are.
    """

    def __init__(self, num_qubits: int, rows: dict[int, Row], device: torch.device) -> None:
        super().__init__(num_qubits, rows, device)
        basis = torch.arange(2**num_qubits)
        factors: dict[bool, list[Tensor]] = {True: [], False: []}
        for qubit in range(num_qubits):
            row = rows.get(qubit, Row(varies=False, place=-1))  # not rotated: an angle of 0
            factors[row.varies].append(table_row(row) + ((basis >> qubit) & 1))
        self._entries = [(v, torch.stack(each).to(device)) for v, each in factors.items() if each]

    @override
    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Multiply each basis state's cosines and sines."""
        products = [tape.product(varies, factors) for varies, factors in self._entries]
        product = products[0] if len(products) == 1 else products[0] * products[1]
        return product.unsqueeze(0)

    @override
    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Read off the gradients; nothing lies before this step."""
        self.note_gradients(pair, tape)
        return pair


def _all_vary(rows: dict[int, Row]) -> bool:
    return all(row.varies for row in rows.values())


def _matrix_factors(num_qubits: int, rows: dict[int, Row]) -> Tensor:
    """Return table rows of the factors of each entry of the layer's matrix, shape (n, 4^n)."""
    after, before = torch.cartesian_prod(*[torch.arange(2**num_qubits)] * 2).unbind(1)
    return torch.stack(
        [
            # cosine on the diagonal, sine where 0 becomes 1, negative sine where 1 becomes 0
            table_row(row)
            + (after >> qubit & 1 ^ before >> qubit & 1) * (1 + (before >> qubit & 1))
            for qubit, row in rows.items()
        ]
    )


def _slopes(num_qubits: int, rows: dict[int, Row]) -> tuple[Tensor, Tensor]:
    """Return what a turned amplitude's derivative by its half angle is: another one, with a sign.

    Returns:
        That other basis state for each qubit, shape (n * 2^n,), and the sign, shape (n, 2^n, 1).
    """
    basis, bits = torch.arange(2**num_qubits), 2 ** torch.tensor(list(rows))[:, None]
    signs = torch.where(basis & bits != 0, 1, -1)
    return (basis ^ bits).flatten(), signs.unsqueeze(2)


class ControlledRotationStep(Step):
    """Ry on one qubit where controls have given values.

    Args:
        rows: Basis states with the qubit at 0 and at 1 that form the turned pairs, shape (2, M).
        row: Row of half the angle.
    """

    def __init__(self, rows: Tensor, row: Row) -> None:
        self._rows = rows
        self._row = row

    @override
    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        return self._turned(state, tape, 1)

    @override
    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        tape.note(self._row, slope(*(self._pairs(half) for half in pair)))
        return self._turned(pair, tape, -1)

    def _turned(self, state: Tensor, tape: Tape, direction: int) -> Tensor:
        turned = rotate(self._pairs(state), *tape.turn(self._row), direction, tape.plain)
        size, width = state.shape[-2], turned.shape[-1]
        wide = state.expand(*state.shape[:-1], width).reshape(-1, size, width)
        out = wide.index_copy(1, self._rows.flatten(), turned.flatten(1, 2))
        return out.view(*state.shape[:-1], width)

    def _pairs(self, state: Tensor) -> Tensor:
        flat = state.reshape(-1, *state.shape[-2:])
        chosen = flat.index_select(1, self._rows.flatten())
        return chosen.view(len(flat), 2, -1, state.shape[-1])

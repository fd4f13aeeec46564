"""The operations of a program on a batch of states, forwards and backwards.

A batch of states is a real tensor of shape (parts, 2^n, B): real parts, and imaginary parts unless
all is real; B is 1 as long as nothing depends on the inputs. The way back un-does each operation
on the state and on its cotangent, which are stacked to shape (2, parts, 2^n, B), and reads the
gradients of the angles off the two: no intermediate state is ever stored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_qsgd.backends.compiled.angles import Row
from lightning_qsgd.backends.compiled.rotating import rotate, slope
from lightning_qsgd.backends.compiled.tape import GradientTape, Tape, table_row

DENSE_QUBITS = 4
DENSE_ENTRIES = 2**14
"""A layer of rotations becomes one matrix per circuit where few small ones are evaluated: more
arithmetic, but fewer calls, which is what a small batch costs."""


class Step(ABC):
    """One operation on a batch of states."""

    @abstractmethod
    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Apply the operation to a state, shape (parts, 2^n, B)."""

    @abstractmethod
    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Note the angles' gradients on the tape and un-do the operation.

        Args:
            pair: State and cotangent after the operation, shape (2, parts, 2^n, B).
            tape: Receives the gradients.

        Returns:
            State and cotangent before the operation.
        """


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
        self._factors: Tensor | None = None
        if num_qubits <= DENSE_QUBITS and len(rows) == num_qubits and _all_vary(rows):
            self._factors = _matrix_factors(num_qubits, rows).to(device)

    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Turn qubit by qubit, or few states by one matrix each; see `Step.forward`."""
        factors = self._factors
        if factors is None or factors.shape[1] * tape.batch > DENSE_ENTRIES:
            return self._turned(state, tape, 1)
        size = state.shape[1]
        matrix = tape.product(True, factors).view(size, size, -1)
        return (matrix * state.unsqueeze(1)).sum(2)

    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Read off all gradients at once, then turn back; see `Step.backward`."""
        self.note_gradients(pair, tape)
        return self._turned(pair, tape, -1)

    def note_gradients(self, pair: Tensor, tape: GradientTape) -> None:
        """Note the gradients; the rotations commute, so one state serves them all."""
        for qubit, row in self._rows.items():
            state, cotangent = (self._pairs(half, qubit) for half in pair)
            tape.note(row, slope(state, cotangent))

    def _turned(self, state: Tensor, tape: Tape, direction: int) -> Tensor:
        shape = state.shape[:-1]
        for qubit, row in self._rows.items():
            state = rotate(self._pairs(state, qubit), *tape.turn(row), direction)
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

    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Multiply each basis state's cosines and sines; see `Step.forward`."""
        products = [tape.product(varies, factors) for varies, factors in self._entries]
        product = products[0] if len(products) == 1 else products[0] * products[1]
        return product.unsqueeze(0)

    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Read off the gradients; nothing lies before this step; see `Step.backward`."""
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


class ControlledRotationStep(Step):
    """Ry on one qubit where controls have given values.

    Args:
        rows: Basis states with the qubit at 0 and at 1 that form the turned pairs, shape (2, M).
        row: Row of half the angle.
    """

    def __init__(self, rows: Tensor, row: Row) -> None:
        self._rows = rows
        self._row = row

    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Turn the pairs under control; see `Step.forward`."""
        return self._turned(state, tape, 1)

    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Note the gradient and turn back; see `Step.backward`."""
        tape.note(self._row, slope(*(self._pairs(half) for half in pair)))
        return self._turned(pair, tape, -1)

    def _turned(self, state: Tensor, tape: Tape, direction: int) -> Tensor:
        turned = rotate(self._pairs(state), *tape.turn(self._row), direction)
        width = turned.shape[-1]
        out = state.expand(*state.shape[:-1], width).clone()
        out.view(-1, *out.shape[-2:]).index_copy_(1, self._rows.flatten(), turned.flatten(1, 2))
        return out

    def _pairs(self, state: Tensor) -> Tensor:
        flat = state.reshape(-1, *state.shape[-2:])
        chosen = flat.index_select(1, self._rows.flatten())
        return chosen.view(len(flat), 2, -1, state.shape[-1])


class PhaseStep(Step):
    """A diagonal.

    Args:
        constant: Phases that depend on no parameter, in radians, shape (2^n, 1).
        varying: Vectors of the phases that depend on the inputs, shape (2^n, K), and their rows.
        fixed: Vectors of those that depend on weights alone, and their rows.
    """

    def __init__(
        self, constant: Tensor, varying: tuple[Tensor, slice], fixed: tuple[Tensor, slice]
    ) -> None:
        self._constant = constant
        self._varying = varying
        self._fixed = fixed

    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Turn real against imaginary parts; see `Step.forward`."""
        turn = self._turn(tape)
        if len(state) == 1:
            return state * turn
        return rotate(state.unsqueeze(0), turn[0], turn[1], 1).squeeze(0)

    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Note the gradients and turn back; see `Step.backward`."""
        self._note_gradients(pair, tape)
        turn = self._turn(tape)
        return rotate(pair, turn[0], turn[1], -1)

    def _note_gradients(self, pair: Tensor, tape: GradientTape) -> None:
        if not (self._varying[0].shape[1] or self._fixed[0].shape[1]):
            return
        each = slope(pair[:1], pair[1:]).squeeze(0)
        (vectors, rows), (fixed_vectors, fixed_rows) = self._varying, self._fixed
        if vectors.shape[1]:
            tape.of_phases.varying[rows] = vectors.t() @ each
        if fixed_vectors.shape[1]:
            tape.of_phases.fixed[fixed_rows] = fixed_vectors.t() @ each.sum(1, keepdim=True)

    def _turn(self, tape: Tape) -> Tensor:
        """Return cosine and sine of all phases, shape (2, 2^n, B) or (2, 2^n, 1)."""
        vectors, rows = self._varying
        if vectors.shape[1]:
            return _cos_sin(torch.addmm(self._fixed_phases(tape), vectors, tape.phases[rows]))
        turns = tape.fixed.turns
        if id(self) not in turns:
            turns[id(self)] = _cos_sin(self._fixed_phases(tape))
        return turns[id(self)]

    def _fixed_phases(self, tape: Tape) -> Tensor:
        vectors, rows = self._fixed
        if not vectors.shape[1]:
            return self._constant
        return torch.addmm(self._constant, vectors, tape.fixed.phases.fixed[rows])


class FirstPhaseStep(PhaseStep):
    """A diagonal on states that are real so far: what comes back needs no imaginary part."""

    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Note the gradients and return real parts only; see `Step.backward`."""
        self._note_gradients(pair, tape)
        return (pair * self._turn(tape)).sum(1, keepdim=True)


def _cos_sin(phases: Tensor) -> Tensor:
    return torch.stack((phases.cos(), phases.sin()))


class SignStep(Step):
    """A diagonal of +1 and -1, which leaves real states real.

    Args:
        signs: Shape (2^n, 1).
    """

    def __init__(self, signs: Tensor) -> None:
        self._signs = signs

    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Multiply; see `Step.forward`."""
        return state * self._signs

    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Multiply again; see `Step.backward`."""
        return pair * self._signs


class PermutationStep(Step):
    """A permutation of the basis states.

    Args:
        source: Where each amplitude comes from, shape (2^n,).
    """

    def __init__(self, source: Tensor) -> None:
        self._source = source
        self._inverse = torch.argsort(source)

    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Move rows; see `Step.forward`."""
        return state.index_select(1, self._source)

    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Move rows back; see `Step.backward`."""
        return pair.index_select(2, self._inverse)


class MatrixStep(Step):
    """A fixed unitary on some qubits, as a real matrix on stacked real and imaginary parts.

    Args:
        order: Basis states ordered by their value on those qubits, shape (2^n,).
        matrix: Real matrix, shape (parts after * 2^k, parts before * 2^k), of orthonormal columns.
    """

    def __init__(self, order: Tensor, matrix: Tensor) -> None:
        self._order = order
        self._inverse = torch.argsort(order)
        self._matrix = matrix

    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Multiply; see `Step.forward`."""
        return self._multiplied(state, self._matrix)

    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Multiply by the transpose, which un-does it; see `Step.backward`."""
        return torch.stack([self._multiplied(half, self._matrix.t()) for half in pair])

    def _multiplied(self, state: Tensor, matrix: Tensor) -> Tensor:
        _, size, width = state.shape
        columns = state.index_select(1, self._order).view(matrix.shape[1], -1)
        return (matrix @ columns).view(-1, size, width).index_select(1, self._inverse)


def run_forward(steps: Sequence[Step], state: Tensor, tape: Tape) -> Tensor:
    """Apply all steps to the state |0...0>, shape (1, 2^n, 1)."""
    for step in steps:
        state = step.forward(state, tape)
    return state


def run_backward(steps: Sequence[Step], pair: Tensor, tape: GradientTape) -> None:
    """Un-do all steps, leaving the gradients of the angles on the tape."""
    for step in reversed(steps):
        pair = step.backward(pair, tape)

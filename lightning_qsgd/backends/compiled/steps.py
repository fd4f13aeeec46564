"""Phases, signs, permutations and fixed matrices on a batch of states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends.compiled.step import GradientTape, Step, Tape, rotate, slope


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

    @override
    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Turn real against imaginary parts."""
        turn = self._turn(tape)
        if len(state) == 1:
            return state * turn
        return rotate(state.unsqueeze(0), turn[0], turn[1], 1, tape.plain).squeeze(0)

    @override
    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
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

    @override
    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Note the gradients and return real parts only."""
        self._note_gradients(pair, tape)
        # The real part of turning back, as in `rotate`. The imaginary part is 0 for the state, and
        # for the cotangent nothing asks: all that comes before is real.
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

    @override
    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        return state * self._signs

    @override
    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        return pair * self._signs


class PermutationStep(Step):
    """A permutation of the basis states.

    Args:
        source: Where each amplitude comes from, shape (2^n,).
    """

    def __init__(self, source: Tensor) -> None:
        self._source = source
        self._inverse = torch.argsort(source)

    @override
    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        return state.index_select(1, self._source)

    @override
    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
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

    @override
    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        return self._multiplied(state, self._matrix)

    @override
    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Multiply by the transpose, which un-does it."""
        return torch.stack([self._multiplied(half, self._matrix.t()) for half in pair])

    def _multiplied(self, state: Tensor, matrix: Tensor) -> Tensor:
        _, size, width = state.shape
        columns = state.index_select(1, self._order).view(matrix.shape[1], -1)
        return (matrix @ columns).reshape(-1, size, width).index_select(1, self._inverse)


def run_forward(steps: Sequence[Step], state: Tensor, tape: Tape) -> Tensor:
    """Apply all steps to the state |0...0>, shape (1, 2^n, 1)."""
    for step in steps:
        state = step.forward(state, tape)
    return state


def run_backward(steps: Sequence[Step], pair: Tensor, tape: GradientTape) -> None:
    """Un-do all steps, leaving the gradients of the angles on the tape."""
    for step in reversed(steps):
        pair = step.backward(pair, tape)

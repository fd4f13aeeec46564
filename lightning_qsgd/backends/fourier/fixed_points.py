"""A small circuit at inputs that never change, as a function of its weights: in numpy, on a CPU.

A few states of a few qubits cost calls, not arithmetic, and a call of numpy takes a tenth of one
of torch. All that depends on the inputs is evaluated once; what is left is an exponential of all
phases, and a matrix product for each diagonal, forwards and backwards.

The program becomes fixed unitaries and diagonals in turn: few operations, all of one kind. Each
operation with an angle is a diagonal in a fixed basis: Ry(a) is exp(-i a Y / 2), with phases of
-a/2 and +a/2 between the eigenvectors of Y and back; the basis is that of the target for a rotation
under controls. What lies between two diagonals is one fixed unitary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from typing_extensions import override

from lightning_qsgd.backends.compiled.angles import Affine
from lightning_qsgd.backends.compiled.lowering import lower
from lightning_qsgd.backends.compiled.program import (
    ControlledRotation,
    Matrix,
    Operation,
    Permutation,
    Phases,
    Rotations,
)
from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.circuits.measurements import states_as_written, unitary_part

LARGEST = 2**18
"""Of 4^n times points or operations: 6 qubits and the 37 points of 3 layers. Above, torch is
nearly as fast, and many dense matrices take memory."""


class Reading(ABC):
    """A sum over some entries of the state."""

    @abstractmethod
    def rows(self, built: ParametrizedCircuit, count: int) -> np.ndarray:
        """Return the basis states of the first entries that are read."""

    @abstractmethod
    def seen(self, operations: Sequence[Operation]) -> Sequence[Operation]:
        """Return the operations of a program that matter."""

    @abstractmethod
    def read(self, entries: np.ndarray) -> np.ndarray:
        """Add up complex entries, shape (rows, B), to shape (B,)."""

    @abstractmethod
    def pull(self, entries: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """Turn the gradient of the sums, shape (B,), into that of the entries' parts, as a + ib."""


class ProbabilityReading(Reading):
    """Adds up the probabilities of outputs: of outcomes, or of what they are interpreted as."""

    @override
    def rows(self, built: ParametrizedCircuit, count: int) -> np.ndarray:
        return np.flatnonzero(built.output_cells() < count)

    @override
    def seen(self, operations: Sequence[Operation]) -> Sequence[Operation]:
        """Leave out phases that come last."""
        moves = (Phases, Permutation)
        others = [i for i, operation in enumerate(operations) if not isinstance(operation, moves)]
        last = others[-1] if others else -1
        tail = [each for each in operations[last + 1 :] if isinstance(each, Permutation)]
        return [*operations[: last + 1], *tail]

    @override
    def read(self, entries: np.ndarray) -> np.ndarray:
        sums: np.ndarray = (entries.real**2 + entries.imag**2).sum(0)
        return sums

    @override
    def pull(self, entries: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        flow: np.ndarray = entries * (2 * cotangent)
        return flow


class RealPartReading(Reading):
    """Adds up the real parts of amplitudes."""

    @override
    def rows(self, built: ParametrizedCircuit, count: int) -> np.ndarray:
        """Return the first ones of the original qubits."""
        states = states_as_written(built.circuit)
        return np.arange(count) if states is None else states[:count]

    @override
    def seen(self, operations: Sequence[Operation]) -> Sequence[Operation]:
        return operations

    @override
    def read(self, entries: np.ndarray) -> np.ndarray:
        sums: np.ndarray = entries.real.sum(0)
        return sums

    @override
    def pull(self, entries: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """Spread to all entries."""
        return np.broadcast_to(cotangent, entries.shape)


class Way(NamedTuple):
    """The way from weights to sums.

    Attributes:
        turns: The diagonals, shape (L, 2^n, B).
        states: States after each of them, of the same shape.
        entries: What is read, shape (rows, B).
    """

    turns: np.ndarray
    states: np.ndarray
    entries: np.ndarray


def fixed_points_of(
    built: ParametrizedCircuit, inputs: np.ndarray, reading: Reading
) -> FixedPoints | None:
    """Prepare the sum over the first n entries, n qubits as written, unless the circuit is large.

    Args:
        built: The circuit.
        inputs: Shape (B, num_inputs), float64, in the unit of the inputs.
        reading: What is added up.

    Example:
        >>> from lightning_qsgd.circuits import ScoreCircuit
        >>> built = ScoreCircuit(num_qubits=1, reps=1).build()
        >>> points = fixed_points_of(built, np.array([[0.0], [np.pi / 2]]), ProbabilityReading())
        >>> points.values(np.zeros(2))[0].round(6)  # P(0) of Ry(s) H |0>
        array([0.5, 0. ])
    """
    n, parameters = built.num_qubits, [*built.inputs, *built.weights]
    if len(inputs) << 2 * n > LARGEST:
        return None
    index = {parameter: place for place, parameter in enumerate(parameters)}
    program = lower(unitary_part(built.circuit)[0], index, lambda vectors: None)
    operations = reading.seen(program.operations)
    if len(operations) << 2 * n > LARGEST:
        return None
    form = alternation_of(n, operations, len(parameters))
    return FixedPoints(form, inputs, reading.rows(built, built.num_own_qubits), reading)


class FixedPoints:
    r"""Evaluates a sum over entries of the state at fixed inputs, exactly, in double precision.

    With the fixed unitaries U and diagonals D of `Alternation`,
    :math:`\psi_l = D_l U_{l-1} \psi_{l-1}`. The phases of all diagonals are affine in the weights,
    so the phase of entry b has the gradient :math:`\mathrm{Im}(\lambda_b \psi_b^*)`, where lambda
    is the gradient of the real plus i times that of the imaginary part of the entry, and comes back
    through the adjoint of what follows.

    Args:
        form: The circuit; its first parameters are the inputs, the others the weights.
        inputs: Shape (B, num_inputs), in the unit of the inputs.
        rows: Basis states of the entries that are read.
        reading: What is added up.
    """

    def __init__(
        self, form: Alternation, inputs: np.ndarray, rows: np.ndarray, reading: Reading
    ) -> None:
        of_inputs, of_weights = np.split(form.factors, [inputs.shape[1]], axis=2)
        self._reading = reading
        self._turns = np.exp(1j * (of_inputs @ inputs.T + form.constants[:, :, None]))
        self._turns[0] *= form.unitaries[0, :, :1]  # on |0...0>
        self._factors = of_weights.reshape(form.constants.size, of_weights.shape[2])
        self._unitaries = [*form.unitaries[1:-1], form.unitaries[-1][rows]]
        self._adjoints = [unitary.conj().T.copy() for unitary in self._unitaries]

    @np.errstate(invalid="ignore")  # weights that are NaN give NaN, without a word, as in torch
    def values(self, weights: np.ndarray) -> tuple[np.ndarray, Way]:
        """Evaluate.

        Args:
            weights: Shape (num_weights,), in radians, float64.

        Returns:
            The sums, shape (B,), and what `gradient` needs.
        """
        own = np.exp(1j * (self._factors @ weights)).reshape(*self._turns.shape[:2], 1)
        turns = self._turns * own
        states = np.empty_like(turns)
        states[0] = turns[0]
        for place, unitary in enumerate(self._unitaries[:-1]):
            np.multiply(turns[place + 1], unitary @ states[place], out=states[place + 1])
        entries = self._unitaries[-1] @ states[-1]
        return self._reading.read(entries), Way(turns, states, entries)

    @np.errstate(invalid="ignore")
    def gradient(self, way: Way, cotangent: np.ndarray) -> np.ndarray:
        """Return the gradient of the weights, shape (num_weights,).

        Args:
            way: What `values` returned.
            cotangent: Gradient of the loss by the sums, shape (B,).
        """
        flows, back = np.empty_like(way.states), way.turns.conj()
        flow = self._reading.pull(way.entries, cotangent)
        for place in range(len(flows) - 1, -1, -1):
            np.matmul(self._adjoints[place], flow, out=flows[place])
            flow = flows[place] * back[place]
        of_phases = np.einsum("lbp,lbp->lb", flows, way.states.conj()).imag
        gradient: np.ndarray = of_phases.reshape(-1) @ self._factors
        return gradient


EIGENVECTORS = np.array([[1, 1], [1j, -1j]]) / 2**0.5
"""Of Y, to the eigenvalues +1 and -1, as columns."""


@dataclass(frozen=True)
class Alternation:
    r"""The state :math:`U_L D_L U_{L-1} \cdots U_1 D_1 U_0 |0 \cdots 0\rangle`.

    Attributes:
        unitaries: U_0 to U_L, shape (L + 1, 2^n, 2^n), complex.
        factors: Phases of D_1 to D_L per unit of each parameter, shape (L, 2^n, num_parameters).
        constants: Their phases at parameters 0, in radians, shape (L, 2^n).
    """

    unitaries: np.ndarray
    factors: np.ndarray
    constants: np.ndarray


def alternation_of(
    num_qubits: int, operations: Iterable[Operation], num_parameters: int
) -> Alternation:
    """Turn the operations of a program into unitaries and diagonals; there is one at least."""
    builder = _Builder(num_qubits, num_parameters)
    for operation in operations:
        builder.add(operation)
    return builder.build()


class _Builder:
    """Collects unitaries and diagonals, in the order of application."""

    def __init__(self, num_qubits: int, num_parameters: int) -> None:
        self._basis = np.arange(2**num_qubits)
        self._last = np.eye(len(self._basis), dtype=complex)
        self._unitaries: list[np.ndarray] = []
        self._factors = [np.zeros((0, len(self._basis), num_parameters))]
        self._constants = [np.zeros((0, len(self._basis)))]

    def add(self, operation: Operation) -> None:
        """Add an operation."""
        match operation:
            case Permutation(source):
                self._last = self._last[source]
            case Matrix(qubits, unitary):
                self._last = self._on(qubits, unitary) @ self._last
            case Phases(columns, constant):
                self._diagonal(columns, constant)
            case Rotations(angles):
                columns = [(angle, self._bit(qubit) - 0.5) for qubit, angle in angles.items()]
                self._between_eigenvectors(angles, columns)
            case ControlledRotation(qubit, controls, angle):
                active = np.ones(len(self._basis))
                for control, value in controls:
                    active *= self._bit(control) == value
                self._between_eigenvectors([qubit], [(angle, active * (self._bit(qubit) - 0.5))])

    def build(self) -> Alternation:
        """Return what was added."""
        if not self._unitaries:
            self._diagonal([], np.zeros(len(self._basis)))
        unitaries = np.stack([*self._unitaries, self._last])
        return Alternation(
            unitaries, np.concatenate(self._factors), np.concatenate(self._constants)
        )

    def _between_eigenvectors(
        self, qubits: Iterable[int], columns: list[tuple[Affine, np.ndarray]]
    ) -> None:
        basis = np.eye(len(self._basis), dtype=complex)
        for qubit in qubits:
            basis = self._on((qubit,), EIGENVECTORS) @ basis
        self._last = basis.conj().T @ self._last
        self._diagonal(columns, np.zeros(len(self._basis)))
        self._last = basis

    def _diagonal(self, columns: list[tuple[Affine, np.ndarray]], constant: np.ndarray) -> None:
        factors = np.zeros(self._factors[0].shape[1:])
        for angle, vector in columns:
            factors = factors + np.outer(vector, angle.coefficients)
            constant = constant + vector * angle.constant
        self._unitaries.append(self._last)
        self._factors.append(factors[None])
        self._constants.append(constant[None])
        self._last = np.eye(len(self._basis), dtype=complex)

    def _on(self, qubits: tuple[int, ...], unitary: np.ndarray) -> np.ndarray:
        """Return a unitary of some qubits, least significant first, as one of all qubits."""
        value = self._basis * 0
        for place, qubit in enumerate(qubits):
            value |= self._bit(qubit) << place
        others = self._basis & ~sum(1 << qubit for qubit in qubits)
        whole: np.ndarray = unitary[value[:, None], value] * (others[:, None] == others)
        return whole

    def _bit(self, qubit: int) -> np.ndarray:
        return self._basis >> qubit & 1

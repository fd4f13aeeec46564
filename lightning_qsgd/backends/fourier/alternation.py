"""A program as fixed unitaries and diagonals in turn: few operations, all of one kind.

Each operation with an angle is a diagonal in a fixed basis: Ry(a) is exp(-i a Y / 2), with phases
of -a/2 and +a/2 between the eigenvectors of Y and back; the basis is that of the target for a
rotation under controls. What lies between two diagonals is one fixed unitary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lightning_qsgd.backends.compiled.angles import Affine
from lightning_qsgd.backends.compiled.program import (
    ControlledRotation,
    Matrix,
    Operation,
    Permutation,
    Phases,
    Rotations,
)

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

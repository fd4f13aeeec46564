"""A circuit in four kinds of operations, brought into the shortest order.

Every unitary gate is a product of

- `Rotations`: Ry on one or several qubits, real plane rotations of the amplitudes;
- `Phases`: a diagonal, ``exp(i * phase)`` of each basis state;
- `Permutation`: a permutation of the basis states (X, CNOT, swap, Toffoli, ...);
- `Matrix`: any fixed unitary on some qubits;

Ry with controls being `ControlledRotation`. Operations are moved and merged while they are added:
a chain of CNOTs becomes one permutation, all diagonal gates between two layers of rotations become
one vector of phases, rotations of all qubits become one layer, and Hadamard gates on fresh qubits
vanish into the first of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_qsgd.backends.compiled.angles import Affine


@dataclass
class Rotations:
    """Ry on distinct qubits; they commute.

    Attributes:
        angles: Angle of each rotated qubit.
    """

    angles: dict[int, Affine]


@dataclass
class ControlledRotation:
    """Ry on one qubit where the controls have given values.

    Attributes:
        qubit: The rotated qubit.
        controls: Pairs of a qubit and the value that it must have.
        angle: The angle.
    """

    qubit: int
    controls: tuple[tuple[int, int], ...]
    angle: Affine


@dataclass
class Phases:
    """Multiplies basis state b by ``exp(i * (sum_k angle_k * vector_k[b] + constant[b]))``.

    Attributes:
        columns: Pairs of an angle that depends on parameters and its vector, shape (2^n,).
        constant: Phases that depend on no parameter, in radians, shape (2^n,).
    """

    columns: list[tuple[Affine, np.ndarray]]
    constant: np.ndarray


@dataclass
class Permutation:
    """Moves amplitudes: ``new[b] = old[source[b]]``.

    Attributes:
        source: Where each amplitude comes from, shape (2^n,).
    """

    source: np.ndarray


@dataclass
class Matrix:
    """A fixed unitary.

    Attributes:
        qubits: The qubits that it acts on, least significant first.
        unitary: Shape (2^k, 2^k), complex.
    """

    qubits: tuple[int, ...]
    unitary: np.ndarray


Operation = Rotations | ControlledRotation | Phases | Permutation | Matrix


class Program:
    """Operations in the order of application, starting from |0...0>.

    Args:
        num_qubits: Number of qubits.
        global_phase: Phase of all amplitudes before the first gate.
        check_size: Called with `num_vectors` whenever the program grows.
    """

    def __init__(
        self, num_qubits: int, global_phase: Affine, check_size: Callable[[int], None]
    ) -> None:
        self.num_qubits = num_qubits
        self._operations: list[Operation] = []
        self._global_phase = global_phase
        self._check_size = check_size
        self._basis = np.arange(2**num_qubits)
        self._fresh = 2**num_qubits - 1  # bits of the qubits that are certainly |0> so far

    @property
    def operations(self) -> list[Operation]:
        """The operations so far, merged; phases that all amplitudes share come last."""
        uniform = Phases([], np.zeros(len(self._basis)))
        _add_column(uniform, self._global_phase, np.ones(len(self._basis)))
        has_phase = bool(uniform.columns) or uniform.constant.any()
        return [*self._operations, uniform] if has_phase else list(self._operations)

    @property
    def num_vectors(self) -> int:
        """Number of vectors of length 2^n that the operations hold."""
        sizes = (len(o.columns) + 1 if isinstance(o, Phases) else 1 for o in self._operations)
        return sum(sizes)

    def replace_angles(self, of: Callable[[Affine], Affine]) -> None:
        """Replace each angle by what is made of it."""
        self._operations = [_with_angles(operation, of) for operation in self._operations]
        self._global_phase = of(self._global_phase)

    def is_fresh(self, qubit: int) -> bool:
        """Whether a qubit is certainly |0> so far."""
        return bool(self._fresh >> qubit & 1)

    def add_phase(self, angle: Affine, vector: np.ndarray) -> None:
        """Multiply basis state b by ``exp(i * angle * vector[b])``."""
        vector = vector[self._basis & ~self._fresh]  # amplitudes elsewhere are 0
        if (vector == vector[0]).all():
            # All amplitudes share it: kept apart, it costs no step and stands in no one's way.
            self._global_phase = self._global_phase + angle * float(vector[0])
            return
        if not (self._operations and isinstance(self._operations[-1], Phases)):
            self._operations.append(Phases([], np.zeros(len(vector))))
        phases = self._operations[-1]
        if isinstance(phases, Phases):
            _add_column(phases, angle, vector)
        self._check_size(self.num_vectors)

    def add_permutation(self, source: np.ndarray) -> None:
        """Move amplitudes: ``new[b] = old[source[b]]``."""
        reachable = (self._basis & self._fresh) == 0
        if (source[reachable] == self._basis[reachable]).all():
            return
        occupied = np.bitwise_or.reduce(self._basis[reachable[source]])
        self._fresh &= ~int(occupied)
        phases = None
        # P D = D' P with D' permuted likewise: in front of the phases, a permutation meets the one
        # before, and the phases meet those that follow.
        if self._operations and isinstance(self._operations[-1], Phases):
            phases = self._operations.pop()
        self._compose(source)
        if isinstance(phases, Phases):
            columns = [(angle, vector[source]) for angle, vector in phases.columns]
            self._operations.append(Phases(columns, phases.constant[source]))
        self._check_size(self.num_vectors)

    def add_rotation(
        self, qubit: int, angle: Affine, controls: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Apply Ry to a qubit where the controls have given values."""
        fresh = [value for control, value in controls if self._fresh >> control & 1]
        if any(fresh):
            return  # this control is |0> and would have to be |1>
        controls = tuple(pair for pair in controls if not self._fresh >> pair[0] & 1)
        self._fresh &= ~(1 << qubit)
        if controls:
            self._operations.append(ControlledRotation(qubit, controls, angle))
            self._check_size(self.num_vectors)
            return
        # Past all that leaves this qubit as it is, the rotation may join a layer further back.
        for operation in reversed(self._operations):
            if isinstance(operation, Rotations):
                present = operation.angles.get(qubit)
                operation.angles[qubit] = angle if present is None else present + angle
                return
            if not self._ignores(operation, qubit):
                break
        self._operations.append(Rotations({qubit: angle}))

    def add_matrix(self, qubits: Sequence[int], unitary: np.ndarray) -> None:
        """Apply a fixed unitary to some qubits, least significant first."""
        for qubit in qubits:
            self._fresh &= ~(1 << qubit)
        self._operations.append(Matrix(tuple(qubits), unitary))
        self._check_size(self.num_vectors)

    def _compose(self, source: np.ndarray) -> None:
        if self._operations and isinstance(self._operations[-1], Permutation):
            source = self._operations.pop().source[source]  # type: ignore[union-attr]
        if (source != self._basis).any():
            self._operations.append(Permutation(source))

    def _ignores(self, operation: Operation, qubit: int) -> bool:
        """Whether an operation acts as the identity on a qubit, and so commutes with its Ry."""
        flipped = self._basis ^ (1 << qubit)
        match operation:
            case Phases(columns, constant):
                vectors = [constant, *(vector for _, vector in columns)]
                return all((vector == vector[flipped]).all() for vector in vectors)
            case Permutation(source):
                kept = (source ^ self._basis) >> qubit & 1 == 0
                return bool((kept & (source[flipped] == source ^ (1 << qubit))).all())
            case ControlledRotation(target, controls, _):
                return qubit not in (target, *(control for control, _ in controls))
            case Matrix(qubits, _):
                return qubit not in qubits
        return False


def _with_angles(operation: Operation, of: Callable[[Affine], Affine]) -> Operation:
    match operation:
        case Rotations(angles):
            return Rotations({qubit: of(angle) for qubit, angle in angles.items()})
        case ControlledRotation(qubit, controls, angle):
            return ControlledRotation(qubit, controls, of(angle))
        case Phases(columns, constant):
            return Phases([(of(angle), vector) for angle, vector in columns], constant)
    return operation


def _add_column(phases: Phases, angle: Affine, vector: np.ndarray) -> None:
    if angle.is_constant:
        phases.constant = phases.constant + angle.constant * vector
        return
    for position, (present, own) in enumerate(phases.columns):
        if np.array_equal(own, vector):
            phases.columns[position] = (present + angle, own)
            return
    phases.columns.append((angle, vector))

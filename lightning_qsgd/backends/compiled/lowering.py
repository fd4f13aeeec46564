"""Turns the gates of a circuit into the operations of a `Program`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import pi
from typing import Any

import numpy as np
from qiskit.circuit import (
    AnnotatedOperation,
    ControlledGate,
    Gate,
    Parameter,
    ParameterExpression,
    QuantumCircuit,
)
from qiskit.circuit.library import UGate, UnitaryGate, get_standard_gate_name_mapping
from qiskit.quantum_info import Operator

from lightning_qsgd.backends.compiled.affine import Affine, AngleReader
from lightning_qsgd.backends.compiled.program import Program

LARGEST_MATRIX = 8
"""Fixed unitaries on more qubits than this are refused: 2^8 x 2^8 entries are 1 MB."""

IGNORED = {"barrier", "delay", "id"}


def lower(circuit: QuantumCircuit, index: Mapping[Parameter, int]) -> Program:
    """Turn a circuit without measurements into a program.

    Args:
        circuit: Unitary gates only.
        index: Position of each of the circuit's parameters.

    Raises:
        ValueError: If an instruction is not unitary, or an angle is not affine in the parameters.
    """
    angles = AngleReader(index)
    program = Program(circuit.num_qubits, angles.constant(0.0))
    _Lowering(program, angles).circuit(circuit, range(circuit.num_qubits))
    return program


class _Lowering:
    """Adds gates to a program, under controls where they are controlled.

    Args:
        program: Receives the operations.
        angles: Reads the gates' angles.
        controls: Pairs of a qubit and the value that it must have.
    """

    def __init__(
        self, program: Program, angles: AngleReader, controls: tuple[tuple[int, int], ...] = ()
    ) -> None:
        self.program = program
        self.angles = angles
        self.controls = controls
        self.basis = np.arange(2**program.num_qubits)
        self.active = np.ones(len(self.basis), dtype=np.int64)
        for control, value in controls:
            self.active &= self.bit(control) == value

    def bit(self, qubit: int) -> np.ndarray:
        """Return the qubit's value in each basis state, shape (2^n,)."""
        return (self.basis >> qubit) & 1

    def circuit(self, circuit: QuantumCircuit, qubits: Sequence[int]) -> None:
        """Add all gates of a circuit whose qubits are those given."""
        self.phase(self.angles.read(circuit.global_phase, "global_phase"), self.basis * 0 + 1)
        for instruction in circuit.data:
            acted = [qubits[circuit.find_bit(qubit).index] for qubit in instruction.qubits]
            self.gate(instruction.operation, acted)

    def gate(self, gate: Any, qubits: Sequence[int]) -> None:
        """Add one gate, by its name, its base gate, its matrix or its definition."""
        if gate.name in IGNORED:
            return
        if _is_standard(gate):
            angles = [self.angles.read(value, gate.name) for value in gate.params]
            _GATES[gate.name](self, qubits, *angles)
        elif isinstance(gate, ControlledGate):
            self._controlled(gate, qubits)
        elif not isinstance(gate, UnitaryGate) and getattr(gate, "definition", None) is not None:
            self.circuit(gate.definition, qubits)
        else:
            self.matrix(_unitary_of(gate), qubits)

    def phase(self, angle: Affine, vector: np.ndarray) -> None:
        """Multiply basis state b by ``exp(i * angle * vector[b])``."""
        self.program.add_phase(angle, vector * self.active)

    def fixed_phase(self, angle: float, vector: np.ndarray) -> None:
        """Do so with an angle in radians."""
        self.phase(self.angles.constant(angle), vector)

    def rotation(self, qubit: int, angle: Affine) -> None:
        """Apply Ry."""
        self.program.add_rotation(qubit, angle, self.controls)

    def flip(self, mask: np.ndarray) -> None:
        """Exchange basis states b and b ^ mask[b]."""
        self.program.add_permutation(self.basis ^ (mask * self.active))

    def matrix(self, unitary: np.ndarray, qubits: Sequence[int]) -> None:
        """Apply a fixed unitary; controls become qubits of a larger one."""
        for _, value in self.controls:
            identity = np.eye(len(unitary))
            blocks = (identity, unitary) if value else (unitary, identity)
            zero = np.zeros_like(unitary)
            unitary = np.block([[blocks[0], zero], [zero, blocks[1]]])
        self.program.add_matrix([*qubits, *(control for control, _ in self.controls)], unitary)

    def _controlled(self, gate: ControlledGate, qubits: Sequence[int]) -> None:
        count = gate.num_ctrl_qubits
        values = [(gate.ctrl_state >> position) & 1 for position in range(count)]
        controls = (*self.controls, *zip(qubits[:count], values, strict=True))
        inner = _Lowering(self.program, self.angles, controls)
        base = gate.base_gate
        if isinstance(base, UGate) and len(gate.params) == 4:  # CU: the fourth angle is a phase
            inner.phase(self.angles.read(gate.params[3], gate.name), self.basis * 0 + 1)
            base = UGate(*gate.params[:3])
        inner.gate(base, qubits[count:])


def _is_standard(gate: Any) -> bool:
    """Whether a gate is the one that its name says; anyone may call a gate of theirs "h"."""
    return gate.name in _GATES and gate.base_class is _STANDARD[gate.name].base_class


def _unitary_of(gate: Any) -> np.ndarray:
    if not isinstance(gate, Gate | AnnotatedOperation):
        _refuse(gate, "it is not unitary")
    if any(isinstance(value, ParameterExpression) for value in getattr(gate, "params", ())):
        _refuse(gate, "it has no definition in terms of other gates")
    if gate.num_qubits > LARGEST_MATRIX:
        _refuse(gate, f"it acts on more than {LARGEST_MATRIX} qubits")
    return np.asarray(Operator(gate).data, dtype=complex)


def _refuse(gate: Any, reason: str) -> None:
    raise ValueError(
        f"Cannot compile gate `{gate.name}`: {reason}. Evaluate this circuit with SamplerBackend "
        "(engine='sampler'), or decompose the gate."
    )


def _x(to: _Lowering, qubits: Sequence[int]) -> None:
    to.flip(np.full_like(to.basis, 1 << qubits[0]))


def _y(to: _Lowering, qubits: Sequence[int]) -> None:
    _z(to, qubits)  # Y = i X Z
    _x(to, qubits)
    to.fixed_phase(pi / 2, to.basis * 0 + 1)


def _z(to: _Lowering, qubits: Sequence[int]) -> None:
    to.fixed_phase(pi, to.bit(qubits[0]))


def _h(to: _Lowering, qubits: Sequence[int]) -> None:
    _z(to, qubits)  # H = Ry(pi / 2) Z
    to.rotation(qubits[0], to.angles.constant(pi / 2))


def _p(to: _Lowering, qubits: Sequence[int], angle: Affine) -> None:
    to.phase(angle, to.bit(qubits[0]))


def _rz(to: _Lowering, qubits: Sequence[int], angle: Affine) -> None:
    to.phase(angle, to.bit(qubits[0]) - 0.5)


def _ry(to: _Lowering, qubits: Sequence[int], angle: Affine) -> None:
    to.rotation(qubits[0], angle)


def _r(to: _Lowering, qubits: Sequence[int], angle: Affine, axis: Affine) -> None:
    quarter = to.angles.constant(pi / 2)
    _rz(to, qubits, quarter + axis * -1)  # Rz turns the y axis into the axis of rotation
    _ry(to, qubits, angle)
    _rz(to, qubits, axis + quarter * -1)


def _rx(to: _Lowering, qubits: Sequence[int], angle: Affine) -> None:
    _r(to, qubits, angle, to.angles.constant(0.0))


def _u(to: _Lowering, qubits: Sequence[int], theta: Affine, phi: Affine, lam: Affine) -> None:
    _p(to, qubits, lam)
    _ry(to, qubits, theta)
    _p(to, qubits, phi)


def _u2(to: _Lowering, qubits: Sequence[int], phi: Affine, lam: Affine) -> None:
    _u(to, qubits, to.angles.constant(pi / 2), phi, lam)


def _swap(to: _Lowering, qubits: Sequence[int]) -> None:
    first, second = qubits
    differ = to.bit(first) ^ to.bit(second)
    to.flip(differ * ((1 << first) | (1 << second)))


def _rzz(to: _Lowering, qubits: Sequence[int], angle: Affine) -> None:
    to.phase(angle, (to.bit(qubits[0]) ^ to.bit(qubits[1])) - 0.5)


def _rxx(to: _Lowering, qubits: Sequence[int], angle: Affine) -> None:
    _between(to, qubits, _h, _h, lambda: _rzz(to, qubits, angle))


def _ryy(to: _Lowering, qubits: Sequence[int], angle: Affine) -> None:
    turn, back = _fixed_phase_gate(-pi / 2), _fixed_phase_gate(pi / 2)
    _between(to, qubits, turn, back, lambda: _rxx(to, qubits, angle))


def _rzx(to: _Lowering, qubits: Sequence[int], angle: Affine) -> None:
    _between(to, qubits[1:], _h, _h, lambda: _rzz(to, qubits, angle))


def _sx(to: _Lowering, qubits: Sequence[int]) -> None:
    _rx(to, qubits, to.angles.constant(pi / 2))
    to.fixed_phase(pi / 4, to.basis * 0 + 1)


def _sxdg(to: _Lowering, qubits: Sequence[int]) -> None:
    _rx(to, qubits, to.angles.constant(-pi / 2))
    to.fixed_phase(-pi / 4, to.basis * 0 + 1)


def _between(
    to: _Lowering,
    qubits: Sequence[int],
    before: Callable[..., None],
    after: Callable[..., None],
    inner: Callable[[], None],
) -> None:
    for qubit in qubits:
        before(to, [qubit])
    inner()
    for qubit in qubits:
        after(to, [qubit])


def _fixed_phase_gate(angle: float) -> Callable[..., None]:
    return lambda to, qubits: to.fixed_phase(angle, to.bit(qubits[0]))


_GATES: dict[str, Callable[..., None]] = {
    "x": _x,
    "y": _y,
    "z": _z,
    "h": _h,
    "s": _fixed_phase_gate(pi / 2),
    "sdg": _fixed_phase_gate(-pi / 2),
    "t": _fixed_phase_gate(pi / 4),
    "tdg": _fixed_phase_gate(-pi / 4),
    "sx": _sx,
    "sxdg": _sxdg,
    "p": _p,
    "u1": _p,
    "u2": _u2,
    "u3": _u,
    "u": _u,
    "r": _r,
    "rx": _rx,
    "ry": _ry,
    "rz": _rz,
    "swap": _swap,
    "rxx": _rxx,
    "ryy": _ryy,
    "rzz": _rzz,
    "rzx": _rzx,
}

_STANDARD = get_standard_gate_name_mapping()

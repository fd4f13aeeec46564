"""Turns the gates of a circuit into the operations of a `Program`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np
from qiskit.circuit import (
    AnnotatedOperation,
    Barrier,
    ControlFlowOp,
    ControlledGate,
    ControlModifier,
    Delay,
    ForLoopOp,
    Gate,
    Parameter,
    ParameterExpression,
    PowerModifier,
    QuantumCircuit,
    Reset,
    Store,
)
from qiskit.circuit.library import (
    IGate,
    UGate,
    UnitaryGate,
)
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Operator

from lightning_qsgd.backends.compiled.angles import Affine, AngleReader, Bent, CannotCompile
from lightning_qsgd.backends.compiled.program import Program
from lightning_qsgd.backends.compiled.standard_gates import GATES
from lightning_qsgd.circuits.expansion import (
    definition_of,
    is_ambiguous,
    is_standard,
    knows_its_base,
)
from lightning_qsgd.circuits.measurements import MEASURES_ON_THE_WAY

LARGEST_MATRIX = 8
"""Fixed unitaries on more qubits than this are refused: 2^8 x 2^8 entries are 1 MB."""

_IGNORED = Barrier, Delay, IGate


def lower(
    circuit: QuantumCircuit,
    index: Mapping[Parameter, int],
    check_size: Callable[[int], None],
    bent: Bent | None = None,
) -> Program:
    """Turn a circuit without measurements into a program.

    Args:
        circuit: Unitary gates only.
        index: Position of each of the circuit's parameters.
        check_size: Called with the number of vectors of the program whenever it grows.
        bent: Takes in angles that are not affine in the parameters; None refuses them.

    Raises:
        ValueError: If an instruction is not unitary, an angle cannot be read, or `check_size`
            refuses.
    """
    angles = AngleReader(index, bent)
    program = Program(circuit.num_qubits, angles.constant(0.0), check_size)
    _Lowering(program, angles).circuit(circuit, range(circuit.num_qubits))
    return program


def vectors_expected(circuit: QuantumCircuit) -> int:
    """Count the vectors of 2^n entries that a program will hold, without building any.

    Each diagonal gate with a parameter needs one, and those on the same qubits share it unless
    another gate comes in between.
    """
    seen: set[Any] = set()
    turns = [0] * circuit.num_qubits
    for step in circuit.data:
        qubits = tuple(circuit.find_bit(qubit).index for qubit in step.qubits)
        gate = step.operation
        if gate.name not in _DIAGONAL:
            for qubit in qubits:
                turns[qubit] += 1
        elif any(isinstance(value, ParameterExpression) for value in gate.params):
            seen.add((qubits, *(turns[qubit] for qubit in qubits)))
    return len(seen)


_DIAGONAL = {"rz", "p", "u1", "rzz", "cp", "crz", "cu1", "barrier", "delay", "id"}


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
        """Add one gate, by its name, its base gate, its definition or its matrix."""
        if isinstance(gate, _IGNORED) or (isinstance(gate, Reset) and self._is_fresh(qubits[0])):
            return
        if _is_standard(gate):
            angles = [self.angles.read(value, gate.name) for value in gate.params]
            GATES[gate.name](self, qubits, *angles)
        elif isinstance(gate, ControlledGate) and knows_its_base(gate):
            self._controlled(gate, qubits)
        elif isinstance(gate, AnnotatedOperation) and not _has_power(gate):
            self._annotated(gate, qubits)
        elif (definition := _definition_of(gate)) is not None:
            self.circuit(definition, qubits)
        else:
            self.matrix(_unitary_of(gate, len(self.controls)), qubits)

    def _is_fresh(self, qubit: int) -> bool:
        return not self.controls and self.program.is_fresh(qubit)

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

    def under(self, qubits: Sequence[int], state: int) -> _Lowering:
        """Return a lowering whose gates act where these qubits hold an integer as well."""
        values = [(state >> position) & 1 for position in range(len(qubits))]
        controls = (*self.controls, *zip(qubits, values, strict=True))
        return _Lowering(self.program, self.angles, controls)

    def _controlled(self, gate: ControlledGate, qubits: Sequence[int]) -> None:
        count = gate.num_ctrl_qubits
        inner = self.under(qubits[:count], gate.ctrl_state)
        base = gate.base_gate
        if isinstance(base, UGate) and len(gate.params) == 4:  # CU: the fourth angle is a phase
            inner.phase(self.angles.read(gate.params[3], gate.name), self.basis * 0 + 1)
            base = UGate(*gate.params[:3])
        inner.gate(base, qubits[count:])

    def _annotated(self, gate: AnnotatedOperation, qubits: Sequence[int]) -> None:
        inner, base = self, gate.base_op
        definition = _definition_of(base)
        if type(base) is Gate and definition and list(definition.parameters) != list(base.params):
            reason = "parameters of its base were bound later, which qiskit leaves half done"
            _refuse(gate, reason, SAMPLED)
        for modifier in reversed(gate.modifiers):  # the last controls are the first qubits
            if isinstance(modifier, ControlModifier):
                count = modifier.num_ctrl_qubits
                inner, qubits = inner.under(qubits[:count], modifier.ctrl_state), qubits[count:]
            else:
                base = _inverse_of(base)
        inner.gate(base, qubits)


def _inverse_of(gate: Any) -> Any:
    """Return the inverse, by way of the definition where qiskit cannot invert the gate itself."""
    with suppress(QiskitError):
        return gate.inverse()
    definition = _definition_of(gate)
    if definition is not None:
        with suppress(QiskitError):
            return definition.inverse().to_gate()
    return _refuse(gate, "qiskit cannot invert it", DECOMPOSE)


def _is_standard(gate: Any) -> bool:
    """Whether a gate has a rule here, and is the one that its name says."""
    return gate.name in GATES and is_standard(gate)


def _definition_of(gate: Any) -> QuantumCircuit | None:
    """Return an exact definition in terms of other gates, if there is one."""
    if isinstance(gate, UnitaryGate) or is_ambiguous(gate):
        return None
    return definition_of(gate)


def _has_power(gate: AnnotatedOperation) -> bool:
    return any(isinstance(modifier, PowerModifier) for modifier in gate.modifiers)


def _unitary_of(gate: Any, num_controls: int) -> np.ndarray:
    if not isinstance(gate, Gate | AnnotatedOperation):
        _refuse(gate, "it is not a unitary gate", _way_of(gate))
    if any(isinstance(value, ParameterExpression) for value in getattr(gate, "params", ())):
        reason = "it has parameters, but no exact definition in terms of other gates"
        if isinstance(gate, AnnotatedOperation):
            _refuse(gate, reason, SAMPLED)
        _refuse(gate, reason, VALUES if hasattr(gate, "__array__") else DECOMPOSE)
    if gate.num_qubits + num_controls > LARGEST_MATRIX:
        _refuse(gate, f"its matrix acts on more than {LARGEST_MATRIX} qubits", SAMPLED)
    try:
        return np.asarray(Operator(gate).data, dtype=complex)
    except QiskitError:
        _refuse(gate, "it has neither a definition nor a matrix", DECOMPOSE)


def _way_of(operation: Any) -> str:
    """Return how an operation that is no gate can be evaluated."""
    if isinstance(operation, ControlFlowOp) and operation.num_clbits:
        return f"Write the circuit without it; or, for values alone, {MEASURES_ON_THE_WAY}."
    if isinstance(operation, ForLoopOp):
        return "Evaluate this circuit with SamplerBackend on AerSampling, or write the loop out."
    if isinstance(operation, ControlFlowOp | Store):
        return "Write the circuit without classical variables."
    return (
        "Evaluate this circuit with SamplerBackend (engine='sampler'), on AerSampling if it resets "
        "or is a channel; or decompose the gate."
    )


DECOMPOSE = "Decompose the gate."
SAMPLED = "Evaluate this circuit with SamplerBackend (engine='sampler'), or decompose the gate."
VALUES = (
    "Decompose the gate, such as by a PauliEvolutionGate; or evaluate this circuit without "
    "gradients with SamplerBackend (engine='sampler')."
)


def _refuse(gate: Any, reason: str, remedy: str) -> NoReturn:
    raise CannotCompile(f"Cannot compile gate `{gate.name}`: {reason}. {remedy}")

"""What stands for other gates, and is replaced by them, for values and gradients alike.

A `for_loop` of fixed turns is written out: no simulator binds the parameters inside of one.

A `PauliEvolutionGate` of terms that do not commute is a matrix exponential for a state-vector
simulator, and the product formula of its synthesis for gradients, for Aer and for devices. Those
are two circuits under one name. What is simulated here, by every backend, is the product formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qiskit.circuit import (
    AnnotatedOperation,
    ControlModifier,
    Gate,
    Instruction,
    InverseModifier,
    QuantumCircuit,
)
from qiskit.circuit.library import PauliEvolutionGate
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import SparsePauliOp
from qiskit.synthesis import LieTrotter, MatrixExponential, SuzukiTrotter
from qiskit.transpiler import PassManager
from qiskit.transpiler.passes import UnrollForLoops


def expanded(circuit: QuantumCircuit) -> tuple[QuantumCircuit, tuple[str, ...]]:
    """Write out loops, and replace time evolutions by the product formula of their synthesis.

    Args:
        circuit: Any circuit; it is left as it is.

    Returns:
        The circuit, the same object where there is nothing to replace; and which evolutions were
        replaced, with the synthesis that says by what. Loops that break or continue stay.
    """
    if "for_loop" in circuit.count_ops():
        unrolled = PassManager([UnrollForLoops()]).run(circuit)
        unrolled._layout = circuit.layout  # the pass forgets where a transpiler put the qubits
        circuit = unrolled
    if not any(_holds_one(step.operation) for step in circuit.data):
        return circuit, ()
    names: dict[str, None] = {}
    return _expanded(circuit, names), tuple(names)


def is_ambiguous(gate: Any) -> bool:
    """Whether qiskit simulates a gate in one way and differentiates it in another."""
    if not isinstance(gate, PauliEvolutionGate):
        return False
    if isinstance(gate.synthesis, MatrixExponential):
        return False
    operator, formula = gate.operator, type(gate.synthesis)
    commutes = isinstance(operator, SparsePauliOp) and len(operator.group_commuting()) == 1
    return not (commutes and formula in (LieTrotter, SuzukiTrotter))


def _expanded(circuit: QuantumCircuit, names: dict[str, None]) -> QuantumCircuit:
    whole = circuit.copy_empty_like()
    for step in circuit.data:
        operation = step.operation
        if not _holds_one(operation):
            whole.append(step)
        elif isinstance(operation, AnnotatedOperation):
            inner = _expanded(_as_circuit(operation.base_op), names).to_gate()
            whole.append(_modified(inner, operation.modifiers), step.qubits)
        else:
            if is_ambiguous(operation):
                names[_name_of(operation)] = None
            inner = _expanded(operation.definition, names)
            whole.compose(inner, step.qubits, step.clbits, inplace=True)
    return whole


def _modified(gate: Gate, modifiers: Sequence[Any]) -> Any:
    """Carry out controls and inverses, which qiskit does not differentiate as annotations."""
    for modifier in modifiers:
        if isinstance(modifier, ControlModifier):
            count, state = modifier.num_ctrl_qubits, modifier.ctrl_state
            gate = gate.control(count, ctrl_state=state, annotated=False)
        elif isinstance(modifier, InverseModifier):
            gate = gate.inverse()
        else:
            gate = AnnotatedOperation(gate, modifier)
    return gate


def _as_circuit(operation: Any) -> QuantumCircuit:
    circuit = QuantumCircuit(operation.num_qubits)
    circuit.append(operation, circuit.qubits)
    return circuit


def _holds_one(operation: Any) -> bool:
    """Whether an operation is such a gate with a definition, or is made of some."""
    if isinstance(operation, AnnotatedOperation):
        return _holds_one(operation.base_op)
    if is_ambiguous(operation):
        if _definition_of(operation) is None:
            raise ValueError(
                f"Cannot simulate gate `{operation.name}`: its synthesis, "
                f"{type(operation.synthesis).__name__}, needs a time that is a number. Bind the "
                "time, or give it another synthesis, such as LieTrotter()."
            )
        return True
    if type(operation) not in (Gate, Instruction):  # what users make of circuits
        return False
    definition = _definition_of(operation)
    return definition is not None and any(_holds_one(step.operation) for step in definition.data)


def _definition_of(operation: Any) -> QuantumCircuit | None:
    try:
        definition: QuantumCircuit | None = operation.definition
    except (QiskitError, TypeError):  # a matrix exponential of a time that is not bound
        return None
    return definition


def _name_of(gate: PauliEvolutionGate) -> str:
    synthesis = gate.synthesis
    reps = getattr(synthesis, "reps", None)
    steps = "" if reps is None else f", {reps} step{'' if reps == 1 else 's'}"
    return f"{gate.name} by {type(synthesis).__name__}{steps}"

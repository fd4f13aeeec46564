"""What stands for other gates, and is replaced by them, for values and gradients alike.

A `for_loop` of fixed turns is written out: no simulator binds the parameters inside of one.

A `PauliEvolutionGate` of terms that do not commute is a matrix exponential for a state-vector
simulator, and the product formula of its synthesis for gradients, for Aer and for devices. Those
are two circuits under one name. What is simulated here, by every backend, is the product formula.

A gate of the user's may have the name of a known one. Transpilers, gradients and Aer would take it
for that one, so its definition is put in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qiskit.circuit import (
    AnnotatedOperation,
    ControlFlowOp,
    ControlledGate,
    ControlModifier,
    Gate,
    Instruction,
    InverseModifier,
    QuantumCircuit,
)
from qiskit.circuit.library import (
    PauliEvolutionGate,
    UnitaryGate,
    get_standard_gate_name_mapping,
)
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Operator, SparsePauliOp
from qiskit.synthesis import LieTrotter, MatrixExponential, SuzukiTrotter
from qiskit.transpiler import PassManager
from qiskit.transpiler.passes import UnrollForLoops

STANDARD = get_standard_gate_name_mapping()
"""qiskit's gates by their names."""

_OF_AER = """
    break_loop continue_loop cu2 diagonal for_loop if_else initialize kraus mcp mcphase mcr mcrx
    mcry mcrz mcswap mcsx mcu mcu1 mcu2 mcu3 mcx mcx_gray mcy mcz multiplexer pauli qerror_loc
    quantum_channel roerror save_amplitudes save_amplitudes_sq save_clifford save_density_matrix
    save_expval save_expval_var save_matrix_product_state save_probabilities
    save_probabilities_dict save_stabilizer save_state save_statevector save_statevector_dict
    save_superop save_unitary set_density_matrix set_matrix_product_state set_stabilizer
    set_statevector set_superop set_unitary store superop switch_case u0 unitary while_loop
"""
KNOWN_NAMES = frozenset([*STANDARD, *_OF_AER.split()])
"""Names by which transpilers, gradients and Aer know an instruction, whatever its class."""

_MADE_BY_USERS = Gate, Instruction, ControlledGate
"""Classes of what is made of a circuit, under any name."""


def expanded(circuit: QuantumCircuit) -> tuple[QuantumCircuit, tuple[str, ...]]:
    """Write out loops, and replace time evolutions by the product formula of their synthesis.

    Args:
        circuit: Any circuit; it is left as it is.

    Returns:
        The circuit, the same object where there is nothing to replace; and which evolutions were
        replaced, with the synthesis that says by what. Loops that break or continue stay. A gate
        of the user's under a known name is its definition, or its matrix where it has none.
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


def is_standard(gate: Any) -> bool:
    """Whether a gate is the one that its name says; anyone may call a gate of theirs "h"."""
    return gate.name in STANDARD and gate.base_class is STANDARD[gate.name].base_class


def is_of_qiskit(operation: Any) -> bool:
    """Whether the class of an operation is from qiskit's library, and not made by a user."""
    kind = getattr(operation, "base_class", type(operation))
    homes = "qiskit.circuit.", "qiskit.quantum_info.", "qiskit_aer."
    return kind not in _MADE_BY_USERS and kind.__module__.startswith(homes)


def _expanded(circuit: QuantumCircuit, names: dict[str, None]) -> QuantumCircuit:
    whole = circuit.copy_empty_like()
    for step in circuit.data:
        operation = step.operation
        if not _holds_one(operation):
            whole.append(step)
        elif isinstance(operation, AnnotatedOperation):
            inner = _expanded(_as_circuit(operation.base_op), names).to_gate()
            whole.append(_modified(inner, operation.modifiers), step.qubits)
        elif isinstance(operation, ControlFlowOp):
            blocks = [_expanded(block, names) for block in operation.blocks]
            whole.append(operation.replace_blocks(blocks), step.qubits, step.clbits)
        elif (definition := _definition_of(operation)) is None:
            whole.append(UnitaryGate(Operator(operation)), step.qubits)
        else:
            if is_ambiguous(operation):
                names[_name_of(operation)] = None
            inner = _expanded(definition, names)
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
    """Whether an operation is such a gate, or one under a known name, or is made of some."""
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
    if isinstance(operation, ControlFlowOp):
        return any(_holds_one(step.operation) for block in operation.blocks for step in block.data)
    if is_of_qiskit(operation):
        return False
    known, definition = operation.name in KNOWN_NAMES, _definition_of(operation)
    if definition is None:
        return known and hasattr(operation, "__array__")
    if type(operation) is ControlledGate:  # its parts are qiskit's, made from its base
        return known
    return known or any(_holds_one(step.operation) for step in definition.data)


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

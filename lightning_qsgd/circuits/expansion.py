"""What stands for other gates, and is replaced by them, for values and gradients alike.

A `for_loop` of fixed turns is written out: no simulator binds the parameters inside of one. So is
a `box`, which groups gates for a device's timing. Classical variables that nothing reads are left
out.

A `PauliEvolutionGate` of terms that do not commute is a matrix exponential for a state-vector
simulator, and the product formula of its synthesis for gradients, for Aer and for devices. Those
are two circuits under one name. What is simulated here, by every backend, is the product formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from qiskit.circuit import (
    AnnotatedOperation,
    BoxOp,
    ControlFlowOp,
    ControlModifier,
    Gate,
    Instruction,
    InverseModifier,
    ParameterExpression,
    QuantumCircuit,
    Store,
)
from qiskit.circuit.library import (
    GlobalPhaseGate,
    PauliEvolutionGate,
    get_standard_gate_name_mapping,
)
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Clifford, SparsePauliOp
from qiskit.synthesis import LieTrotter, MatrixExponential, SuzukiTrotter
from qiskit.transpiler import PassManager
from qiskit.transpiler.passes import HighLevelSynthesis, UnrollForLoops


def expanded(circuit: QuantumCircuit) -> tuple[QuantumCircuit, tuple[str, ...]]:
    """Write out loops and boxes, and replace time evolutions by the formula of their synthesis.

    Args:
        circuit: Any circuit; it is left as it is.

    Returns:
        The circuit, the same object where there is nothing to replace; and which evolutions were
        replaced, with the synthesis that says by what. Loops that break or continue stay.
    """
    circuit = _without_boxes(_without_variables(circuit))
    if "for_loop" in circuit.count_ops():
        unrolled = PassManager([UnrollForLoops()]).run(circuit)
        unrolled._layout = circuit.layout  # the pass forgets where a transpiler put the qubits
        circuit = unrolled
    if not any(_holds_one(step.operation) for step in circuit.data):
        return circuit, ()
    names: dict[str, None] = {}
    return _expanded(circuit, names), tuple(names)


def _without_variables(circuit: QuantumCircuit) -> QuantumCircuit:
    """Leave out classical variables where no gate can depend on them."""
    flows = any(isinstance(step.operation, ControlFlowOp) for step in circuit.data)
    if not circuit.num_vars or circuit.num_stretches or flows:
        return circuit
    whole = circuit.copy_empty_like(vars_mode="drop")
    for step in circuit.data:
        if not isinstance(step.operation, Store):
            whole.append(step)
    return whole


def _without_boxes(circuit: QuantumCircuit) -> QuantumCircuit:
    """Put what is inside of boxes in their place, also within loops and branches."""
    if not _holds_a_box(circuit):
        return circuit
    whole = circuit.copy_empty_like()
    for step in circuit.data:
        operation = step.operation
        if not isinstance(operation, ControlFlowOp):
            whole.append(step)
            continue
        blocks = [_without_boxes(block) for block in operation.blocks]
        if isinstance(operation, BoxOp) and not blocks[0].num_identifiers:
            whole.compose(blocks[0], step.qubits, step.clbits, inplace=True)
        else:
            whole.append(step.replace(operation=operation.replace_blocks(blocks)))
    return whole


def _holds_a_box(circuit: QuantumCircuit) -> bool:
    flows = [step.operation for step in circuit.data if isinstance(step.operation, ControlFlowOp)]
    return any(isinstance(flow, BoxOp) or any(map(_holds_a_box, flow.blocks)) for flow in flows)


def for_sampling(circuit: QuantumCircuit) -> QuantumCircuit:
    """Rewrite what qiskit-machine-learning does not differentiate, though it samples it.

    Annotated operations and Cliffords become gates. Global phases, which change no probability, are
    left out.

    Args:
        circuit: A circuit of which outcomes are read; it is left as it is.
    """
    if any(_is_abstract(step.operation) for step in circuit.data):
        with suppress(QiskitError, TypeError):  # a matrix exponential of a time that is not bound
            circuit = PassManager([HighLevelSynthesis()]).run(_with_parts_of_gates(circuit))
    phases = any(isinstance(step.operation, GlobalPhaseGate) for step in circuit.data)
    if not phases and not getattr(circuit.global_phase, "parameters", None):
        return circuit
    whole = circuit.copy_empty_like()
    whole.global_phase = 0.0
    kept = [step for step in circuit.data if not isinstance(step.operation, GlobalPhaseGate)]
    for step in kept:
        whole.append(step)
    for parameter in circuit.parameters:
        if parameter not in whole.parameters:  # a network wants all of them
            whole.rz(0 * parameter, 0)
    return whole


def _is_abstract(operation: Any) -> bool:
    """Whether an operation is no instruction of gates yet, or is made of some that are not."""
    if isinstance(operation, AnnotatedOperation | Clifford):
        return True
    if type(operation) not in (Gate, Instruction):
        return False
    definition = _definition_of(operation)
    return definition is not None and any(_is_abstract(step.operation) for step in definition.data)


def _with_parts_of_gates(circuit: QuantumCircuit) -> QuantumCircuit:
    """Put the parts of gates in their place where some of them are abstract."""
    whole = circuit.copy_empty_like()
    for step in circuit.data:
        if type(step.operation) in (Gate, Instruction) and _is_abstract(step.operation):
            inner = _with_parts_of_gates(step.operation.definition)
            whole.compose(inner, step.qubits, step.clbits, inplace=True)
        else:
            whole.append(step)
    return whole


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


def indivisible(circuit: QuantumCircuit) -> str | None:
    """Return the name of a gate with parameters that has no definition; None if there is none."""
    for step in circuit.data:
        operation = step.operation
        if isinstance(operation, ControlFlowOp):  # no parameter inside of it can be shifted
            if any(block.parameters for block in operation.blocks):
                return str(operation.name)
            continue
        params = getattr(operation, "params", ())
        free = any(isinstance(p, ParameterExpression) and p.parameters for p in params)
        if not free or operation.name in _STANDARD:
            continue
        definition = _definition_of(operation)
        name: str | None = operation.name if definition is None else indivisible(definition)
        if name is not None:
            return name
    return None


_STANDARD = get_standard_gate_name_mapping()


def _definition_of(operation: Any) -> QuantumCircuit | None:
    try:
        definition: QuantumCircuit | None = getattr(operation, "definition", None)
    except (QiskitError, TypeError):  # a matrix exponential of a time that is not bound
        return None
    return definition


def _name_of(gate: PauliEvolutionGate) -> str:
    synthesis = gate.synthesis
    reps = getattr(synthesis, "reps", None)
    steps = "" if reps is None else f", {reps} step{'' if reps == 1 else 's'}"
    return f"{gate.name} by {type(synthesis).__name__}{steps}"

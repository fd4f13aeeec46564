"""What gates are made of: which of them are replaced by others, and what a circuit does in all.

Some gates are replaced, for values and gradients alike.

A `for_loop` of fixed turns is written out: no simulator binds the parameters inside of one. So is
a `box`, which groups gates for a device's timing. Classical variables that nothing reads are left
out.

A `PauliEvolutionGate` of terms that do not commute is a matrix exponential for a state-vector
simulator, and the product formula of its synthesis for gradients, for Aer and for devices. Those
are two circuits under one name. What is simulated here, by every backend, is the product formula.

A gate of the user's may have the name of a known one. Transpilers, gradients and Aer would take it
for that one, so its definition is put in its place. So are the gates of a Clifford operation, which
simulators do not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from qiskit.circuit import (
    AnnotatedOperation,
    Barrier,
    BoxOp,
    ControlFlowOp,
    ControlledGate,
    ControlModifier,
    Gate,
    Instruction,
    InverseModifier,
    ParameterExpression,
    QuantumCircuit,
    Store,
)
from qiskit.circuit.library import (
    DiagonalGate,
    GlobalPhaseGate,
    HamiltonianGate,
    IGate,
    Initialize,
    LinearFunction,
    PauliEvolutionGate,
    PauliGate,
    PermutationGate,
    StatePreparation,
    UnitaryGate,
    get_standard_gate_name_mapping,
)
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Clifford, Operator, SparsePauliOp
from qiskit.synthesis import LieTrotter, MatrixExponential, SuzukiTrotter
from qiskit.transpiler import PassManager
from qiskit.transpiler.passes import HighLevelSynthesis, UnrollForLoops

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
    """Write out loops and boxes, and replace time evolutions by the formula of their synthesis.

    Args:
        circuit: Any circuit; it is left as it is.

    Returns:
        The circuit, the same object where there is nothing to replace; and which evolutions were
        replaced, with the synthesis that says by what. Loops that break or continue stay. A gate
        of the user's under a known name is its definition, or its matrix where it has none.
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

    Annotated operations become gates. Global phases, which change no probability, are left out.

    Args:
        circuit: An expanded circuit of which outcomes are read; it is left as it is.
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
    if isinstance(operation, AnnotatedOperation):
        return True
    if type(operation) not in (Gate, Instruction):
        return False
    definition = definition_of(operation)
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


def is_standard(gate: Any) -> bool:
    """Whether a gate is the one that its name says; anyone may call a gate of theirs "h"."""
    known = STANDARD.get(gate.name)
    return known is not None and getattr(gate, "base_class", None) is known.base_class


def is_of_qiskit(operation: Any) -> bool:
    """Whether the class of an operation is from qiskit's library, and not made by a user."""
    kind = getattr(operation, "base_class", type(operation))
    homes = "qiskit.circuit.", "qiskit.quantum_info.", "qiskit_aer."
    return kind not in _MADE_BY_USERS and kind.__module__.startswith(homes)


def knows_its_base(gate: ControlledGate) -> bool:
    """Whether a gate is its base under its controls, and nothing else.

    Some have several targets (`MCMTGate`), and qiskit binds parameters in `definition` only, which
    can leave the base behind.
    """
    base = gate.base_gate
    if gate.num_qubits != gate.num_ctrl_qubits + base.num_qubits:
        return False
    return isinstance(base, UnitaryGate) or is_standard(base) or not base.params


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
        elif (definition := definition_of(operation)) is None:
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
        if definition_of(operation) is None:
            raise ValueError(
                f"Cannot simulate gate `{operation.name}`: its synthesis, "
                f"{type(operation.synthesis).__name__}, needs a time that is a number. Bind the "
                "time, or give it another synthesis, such as LieTrotter()."
            )
        return True
    if isinstance(operation, ControlFlowOp):
        return any(_holds_one(step.operation) for block in operation.blocks for step in block.data)
    if isinstance(operation, Clifford):
        return True
    if is_of_qiskit(operation):
        return False
    known, definition = operation.name in KNOWN_NAMES, definition_of(operation)
    if definition is None:
        return known and hasattr(operation, "__array__")
    if type(operation) is ControlledGate:  # its parts are qiskit's, made from its base
        return known
    return known or any(_holds_one(step.operation) for step in definition.data)


def definition_of(operation: Any) -> QuantumCircuit | None:
    """Return what an operation is made of, if it says so."""
    if isinstance(operation, Clifford):  # which is no instruction
        return operation.to_circuit()
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


def angles_of(circuit: QuantumCircuit) -> Iterator[Any]:
    """Yield the parameters of all standard gates, wherever they are."""
    for step in circuit.data:
        operation = step.operation
        definition = None if is_standard(operation) else definition_of(operation)
        yield from getattr(operation, "params", ()) if definition is None else angles_of(definition)


_SAID_BY_PARAMS = (
    DiagonalGate,
    HamiltonianGate,
    Initialize,
    LinearFunction,
    PauliGate,
    PermutationGate,
    StatePreparation,
    UnitaryGate,
)
"""Gates whose parameters say all. How qiskit makes others of them differs between its versions."""

PLACES = 9
"""Decimal places to which angles and matrices are compared."""


def described(circuit: QuantumCircuit) -> list[Any]:
    """Describe what a circuit does: its phase, and each gate with its wires."""
    steps = [
        (
            _said(step.operation),
            [circuit.find_bit(bit).index for bit in (*step.qubits, *step.clbits)],
        )
        for step in circuit.data
        if not isinstance(step.operation, Barrier | IGate)
    ]
    return [_plain(_factor(circuit.global_phase)), steps]


def _factor(phase: Any) -> Any:
    """Return what a global phase multiplies amplitudes by, which is the same after a full turn."""
    free = isinstance(phase, ParameterExpression) and phase.parameters
    return phase if free else np.exp(1j * float(phase))


def _said(operation: Any) -> list[Any]:
    """Describe a gate by what it does: by its parts, unless its class says what it is."""
    values = [_plain(value) for value in getattr(operation, "params", ())]
    named = [operation.name, getattr(operation, "ctrl_state", None), values]
    known = is_of_qiskit(operation)
    if is_standard(operation) or (known and isinstance(operation, _SAID_BY_PARAMS)):
        return named
    if isinstance(operation, ControlFlowOp):
        asked = [getattr(operation, name, None) for name in ("condition", "target")]
        cases = [[*labels] for labels, _ in getattr(operation, "cases_specifier", list)()]
        return [*named, _plain(asked), _plain(cases)]
    if isinstance(operation, AnnotatedOperation):
        modifiers = [
            [type(m).__name__, *map(_plain, vars(m).values())] for m in operation.modifiers
        ]
        return [modifiers, _said(operation.base_op)]
    if isinstance(operation, ControlledGate) and knows_its_base(operation):
        return [operation.num_ctrl_qubits, operation.ctrl_state, _said(operation.base_gate)]
    if (definition := definition_of(operation)) is not None:
        return described(definition)  # its name may be a running number
    with suppress(QiskitError):  # no unitary
        return [_plain(Operator(operation).data)]
    return named


def _plain(value: Any) -> Any:
    """Return numbers as numbers, a circuit as what it does, and other things as their words."""
    if isinstance(value, QuantumCircuit):
        return described(value)
    if not isinstance(value, str):
        with suppress(TypeError, ValueError):
            rounded = np.round(np.asarray(value, complex), PLACES)
            return (rounded + 0).tolist()  # -0 is 0
    return re.sub(r" at 0x\w+", "", str(value))


def older_lines(circuit: QuantumCircuit) -> Iterator[str]:
    """Describe each gate as version 0.2 did; its checkpoints hold what came of that."""
    for gate in circuit.data:
        operation = gate.operation
        if operation.name in ("barrier", "id"):
            continue
        wires = [circuit.find_bit(bit).index for bit in (*gate.qubits, *gate.clbits)]
        if type(operation) in (Gate, Instruction) and operation.definition is not None:
            yield f"on {wires}"
            yield from older_lines(operation.definition)
            continue
        angles = [np.round(np.asarray(angle, complex), 9).tolist() for angle in operation.params]
        yield f"{operation.name} {getattr(operation, 'ctrl_state', '')} {angles} on {wires}"

"""Every gate and circuit of qiskit's library: equal to the state vector, or refused by name.

Nothing is listed by hand: all public classes and functions are called with arguments made from
the names and annotations of their parameters.
"""

import inspect
import re
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import islice, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.circuit import Operation, Parameter, QuantumCircuit
from qiskit.circuit import library as lib
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Pauli, SparsePauliOp, Statevector

from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.circuits.measurements import unitary_part

pytestmark = pytest.mark.filterwarnings("ignore")  # qiskit's own, of what it will remove

NAMES = sorted(name for name in dir(lib) if not name.startswith("_"))
CALLABLE = [name for name in NAMES if callable(getattr(lib, name))]
MOST_QUBITS = 8
VARIANTS = 8
A, B, C = Parameter("a"), Parameter("b"), Parameter("c")


def small_circuit() -> QuantumCircuit:
    circuit = QuantumCircuit(2, name="inner")
    circuit.ry(A, 0)
    circuit.cx(0, 1)
    return circuit


def bound_circuit() -> QuantumCircuit:
    circuit = QuantumCircuit(2, name="bound")
    circuit.rx(0.3, 0)
    circuit.cz(0, 1)
    return circuit


BY_NAME: dict[str, list[Any]] = {
    "adjacency_matrix": [np.array([[0, 1], [1, 0]])],
    "angle_list": [[0.3, 0.9], [0.3, 0.9, -0.4, 0.1]],
    "diag": [[1, -1, 1j, 1], [1, -1]],
    "entanglement_blocks": ["cx", "crx"],
    "expression": ["a & b"],
    "f": [[1, 0], [0, 1]],
    "f_x": [0.3],
    "feature_dimension": [2, 3],
    "gate": [lib.XGate(), lib.RYGate(A), np.eye(2)],
    "gate_list": [[np.eye(2), np.array([[0, 1], [1, 0]])]],
    "hamiltonian": [SparsePauliOp(["XZ", "ZI"]), SparsePauliOp(["XX", "ZZ"])],
    "interactions": [[[0, 1]], np.array([[1, 1], [1, 1]])],
    "isometry": [np.eye(4)[:, :2], np.eye(2)],
    "linear": [np.array([[1, 1], [0, 1]])],
    "pattern": [[1, 0, 2]],
    "params": ["01", [0.6, 0.8], [0.5, 0.5j, -0.5, 0.5]],
    "rot_axis": ["X", "Z"],
    "rotation_blocks": ["ry", "rx"],
    "scaling": [0.4],
    "slope": [0.4],
    "offset": [0.2],
    "domain": [(0.0, 1.0)],
    "image": [(0.0, 1.0)],
    "coeffs": [[0.3, 0.5]],
    "breakpoints": [[0, 2]],
    "unitary": [bound_circuit()],
    "initial_state": [None],
    "data": [np.eye(2), np.diag([1, 1j, -1, 1])],
    "label": ["XYZ", "label"],
    "state": [[0.6, 0.8]],
    "oracle": [bound_circuit()],
    "g": [[0.5, 0.5]],
    "time": [A, 0.3],
}
BY_ANNOTATION: dict[str, list[Any]] = {
    "BaseOperator": [SparsePauliOp(["XZ", "ZI"])],
    "np.ndarray": [np.diag([1, -1]), np.eye(4)],
    "Pauli": [Pauli("XY"), Pauli("-Z")],
    "SparsePauliOp": [SparsePauliOp(["XZ", "ZI"]), SparsePauliOp(["ZZ", "IZ"])],
    "QuantumCircuit": [bound_circuit(), small_circuit()],
    "ParameterValueType": [A, 2 * B - 0.4, A * B],
    "ParameterExpression": [A, A * B],
    "list[list[float]]": [np.eye(2)],
    "Gate": [lib.XGate(), lib.RXGate(A)],
    "float": [0.7],
    "int": [2, 3, 1],
    "str": ["label"],
}


def arguments_of(parameter: inspect.Parameter, place: int) -> list[Any]:
    if parameter.name in BY_NAME:
        return BY_NAME[parameter.name]
    annotation = str(parameter.annotation)
    for kind, values in BY_ANNOTATION.items():
        if kind in annotation:
            return values[place % len(values) :] + values[: place % len(values)]
    return ["label", 2]


def flatten(made: Any) -> QuantumCircuit | None:
    """Return a circuit of what was made, if it acts on few qubits."""
    if isinstance(made, QuantumCircuit):
        circuit = made.copy()
    elif isinstance(made, Operation) and made.num_qubits and made.num_qubits <= MOST_QUBITS:
        circuit = QuantumCircuit(made.num_qubits, made.num_clbits)
        circuit.append(made, circuit.qubits, circuit.clbits)
    else:
        return None
    return circuit if 0 < circuit.num_qubits <= MOST_QUBITS else None


@cache
def built(name: str) -> tuple[QuantumCircuit, ...]:
    """Call a class or function with all arguments that fit; those that fail are left out."""
    return tuple(islice(attempts(name), VARIANTS))


def attempts(name: str) -> Iterator[QuantumCircuit]:
    function = getattr(lib, name)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return
    required = [p for p in parameters if is_needed(p)]
    sizes = [p for p in parameters if p.default is None and "int" in str(p.annotation)]
    for optional in ([], sizes[:1], sizes):
        wanted = required + optional
        pools = [arguments_of(parameter, place) for place, parameter in enumerate(wanted)]
        for values in islice(product(*pools), 40):
            named = {p.name: v for p, v in zip(wanted, values, strict=True)}
            circuit = called(function, required, named)
            if circuit is not None:
                yield circuit


def is_needed(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    return parameter.default is parameter.empty and not variadic


def called(
    function: Any, required: list[inspect.Parameter], named: dict[str, Any]
) -> QuantumCircuit | None:
    positional = [p.name for p in required if p.kind == p.POSITIONAL_ONLY]
    first = [named.pop(name) for name in positional]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            circuit = flatten(function(*first, **named))
            if circuit is not None:
                circuit.decompose()  # blueprints say only now what they lack
        except Exception:  # arguments that do not fit are no finding
            return None
    return circuit


def after_a_product_state(circuit: QuantumCircuit, seed: int) -> QuantumCircuit:
    whole = QuantumCircuit(*circuit.qregs, *circuit.cregs)
    whole.add_bits([bit for bit in circuit.qubits if bit not in whole.qubits])
    for qubit, angles in enumerate(np.random.default_rng(seed).uniform(0, 3, (99, 3))):
        if qubit < whole.num_qubits:
            whole.u(*angles.tolist(), qubit)
    return whole.compose(circuit, whole.qubits, whole.clbits)


CHANGES: dict[str, Any] = {
    "as it is": lambda circuit: circuit,
    "as a gate": lambda circuit: circuit.to_gate(),
    "inverse": lambda circuit: circuit.inverse(),
    "inverse of a gate": lambda circuit: circuit.to_gate().inverse(),
    "annotated inverse": lambda circuit: circuit.to_gate().inverse(annotated=True),
    "twice": lambda circuit: circuit.repeat(2),
    "controlled": lambda circuit: circuit.control(1, annotated=False),
    "controlled as annotation": lambda circuit: circuit.to_gate().control(1, annotated=True),
    "controlled openly": lambda circuit: circuit.to_gate().control(1, ctrl_state=0, annotated=True),
    "only gate, controlled": lambda c: c.data[0].operation.control(1, annotated=False),
    "only gate, controlled twice": lambda c: c.data[0].operation.control(2, ctrl_state=1),
    "only gate, inverse": lambda circuit: circuit.data[0].operation.inverse(),
    "squared": lambda circuit: circuit.data[0].operation.power(2),
    "renamed": lambda c: c.assign_parameters(
        {p: 2 * Parameter(f"n_{p.name}") for p in c.parameters}
    ),
    "bound as a gate": lambda c: bound_later(c),
}


def bound_later(circuit: QuantumCircuit) -> QuantumCircuit:
    whole = QuantumCircuit(circuit.num_qubits)
    whole.append(circuit.to_gate(), whole.qubits)
    return whole.assign_parameters({p: 0.5 * Parameter(f"n_{p.name}") for p in whole.parameters})


def changed(circuit: QuantumCircuit, change: str) -> QuantumCircuit | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return flatten(CHANGES[change](circuit))
        except Exception:  # qiskit has no such form of it
            return None


def compiled_or_refused(circuit: QuantumCircuit) -> tuple[Any, str | None]:
    try:
        source = ParametrizedCircuit(circuit, list(circuit.parameters))
        CompiledCircuit(source)
    except ValueError as refusal:
        return None, str(refusal)
    return source, None


def check(circuit: QuantumCircuit, seed: int) -> bool:
    """Whether it was compiled; refusals have to name a gate of the circuit, or of its parts."""
    source, refusal = compiled_or_refused(circuit)
    if refusal is not None:
        assert any(f"`{name}`" in refusal for name in names_in(circuit)), refusal
        assert re.search(r"SamplerBackend|Take its|Move|Bind", refusal), refusal
        return False
    compiled = CompiledCircuit(source)
    values = np.random.default_rng(seed).uniform(0.1, 0.9, len(source.inputs))
    bare, _ = unitary_part(source.circuit)
    present = {p: v for p, v in zip(source.inputs, values, strict=True) if p in bare.parameters}
    expected = Statevector(bare.assign_parameters(present)).data
    own = compiled.amplitudes(torch.tensor(values[None]), torch.zeros(0))[0]
    np.testing.assert_allclose(own, expected, rtol=0, atol=1e-8)
    return True


def names_in(circuit: QuantumCircuit) -> set[str]:
    return {name for step in circuit.data for name in names_of(step.operation)}


def names_of(operation: Any) -> set[str]:
    found = {operation.name}
    for part in ("base_op", "base_gate"):
        if getattr(operation, part, None) is not None:
            found |= names_of(getattr(operation, part))
    try:
        definition = getattr(operation, "definition", None)
    except (QiskitError, TypeError):
        definition = None
    return found if definition is None else found | names_in(definition)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(CALLABLE),
    st.integers(0, VARIANTS - 1),
    st.sampled_from(list(CHANGES)),
    st.booleans(),
    st.integers(0, 99),
)
def test_what_the_library_builds_is_simulated_or_refused_by_name(
    name: str, variant: int, change: str, on_fresh_qubits: bool, seed: int
) -> None:
    circuits = built(name)
    circuit = changed(circuits[variant % len(circuits)], change) if circuits else None
    if circuit is not None:
        check(circuit if on_fresh_qubits else after_a_product_state(circuit, seed), seed)


def test_nearly_all_of_the_library_is_reached() -> None:
    unreached = [name for name in CALLABLE if not built(name)]
    assert len(unreached) <= 12, unreached

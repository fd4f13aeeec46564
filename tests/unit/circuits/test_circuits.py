"""Layout of the CNOTs and of the paper's circuit."""

import math
from typing import Any

import pytest
from qiskit.circuit import (
    AnnotatedOperation,
    ControlModifier,
    Gate,
    Parameter,
    ParameterVector,
    PowerModifier,
    QuantumCircuit,
)
from qiskit.circuit.library import (
    HGate,
    Initialize,
    PauliEvolutionGate,
    PauliGate,
    RXGate,
    StatePreparation,
    XGate,
)
from qiskit.quantum_info import Clifford, SparsePauliOp

from lightning_qsgd.circuits import (
    ENTANGLEMENTS,
    CircuitFromFile,
    ParametrizedCircuit,
    ScoreCircuit,
    SignalProcessingCircuit,
    SuperpositionCircuit,
    entangled_pairs,
    superposition,
    superposition_circuit,
)
from tests.reference import cnot_pairs

BY_HAND = {
    ("none", 4): [],
    ("linear", 1): [],
    ("linear", 4): [(0, 1), (1, 2), (2, 3)],
    ("circular", 1): [],
    ("circular", 2): [(0, 1)],
    ("circular", 4): [(0, 1), (1, 2), (2, 3), (3, 0)],
    ("full", 1): [],
    ("full", 3): [(0, 1), (0, 2), (1, 2)],
}


@pytest.mark.parametrize(("layout", "pairs"), BY_HAND.items(), ids=str)
def test_pairs_are_as_written_down_by_hand(
    layout: tuple[Any, int], pairs: list[tuple[int, int]]
) -> None:
    entanglement, num_qubits = layout
    assert entangled_pairs(num_qubits, entanglement) == pairs
    assert cnot_pairs(num_qubits, entanglement) == pairs


@pytest.mark.parametrize("entanglement", ENTANGLEMENTS)
@pytest.mark.parametrize("num_qubits", [1, 2, 5])
def test_no_pair_joins_a_qubit_with_itself_or_twice(num_qubits: int, entanglement: Any) -> None:
    pairs = entangled_pairs(num_qubits, entanglement)
    assert all(0 <= control < num_qubits for control, _ in pairs)
    assert all(0 <= target < num_qubits and target != control for control, target in pairs)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)


def test_unknown_entanglement_is_refused_with_the_choices() -> None:
    unknown: Any = "star"
    with pytest.raises(ValueError, match=r"Unknown entanglement 'star'.*none, linear, circular"):
        entangled_pairs(3, unknown)


@pytest.mark.parametrize("name", ["num_qubits", "reps"])
@pytest.mark.parametrize("value", [0, -1])
def test_empty_circuits_are_refused(name: str, value: int) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"Expected `{name}` to be at least 1, got {value}"):
        superposition_circuit(**settings)


@pytest.mark.parametrize("name", ["num_qubits", "reps"])
@pytest.mark.parametrize("source", [SuperpositionCircuit, ScoreCircuit, superposition_circuit])
def test_circuits_that_would_take_hours_to_build_are_refused_at_once(
    source: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superposition, "QuantumCircuit", None)  # nothing is built before
    with pytest.raises(ValueError, match=rf"Expected `{name}` to be at most 1000, got 1000000"):
        source(**{name: 1_000_000})


def test_circuit_has_one_hadamard_layer_and_the_gates_of_each_layer() -> None:
    built = superposition_circuit(num_qubits=4, reps=2, entanglement="linear")
    assert dict(built.circuit.count_ops()) == {"h": 4, "ry": 8, "rz": 8, "cx": 6}
    assert built.num_qubits == len(built.inputs) == 4
    assert len(built.weights) == 16
    assert set(built.circuit.parameters) == {*built.inputs, *built.weights}
    assert built.circuit.num_clbits == 0


@pytest.mark.parametrize("given", [Parameter("x"), "x", ["x"], [0.5]], ids=repr)
def test_what_is_no_sequence_of_parameters_is_refused(given: Any) -> None:
    circuit = QuantumCircuit(1)
    with pytest.raises(TypeError, match=r"Expected a sequence of Parameters, got .*Pass e\.g\."):
        ParametrizedCircuit(circuit, given)
    with pytest.raises(TypeError, match=r"Expected a sequence of Parameters"):
        ParametrizedCircuit(circuit, [], given)


@pytest.mark.parametrize("kind", [set, frozenset])
def test_what_has_no_order_is_refused_where_places_count(kind: Any) -> None:
    x, w = ParameterVector("x", 2), ParameterVector("w", 2)
    circuit = QuantumCircuit(2)
    for qubit in range(2):
        circuit.ry(x[qubit] + w[qubit], qubit)
    refused = f"in an order, got a {kind.__name__}: .* Give a list or a tuple"
    with pytest.raises(TypeError, match=f"Expected `inputs` {refused}"):
        ParametrizedCircuit(circuit, kind(x), w)
    with pytest.raises(TypeError, match=f"Expected `weights` {refused}"):
        ParametrizedCircuit(circuit, x, kind(w))
    with pytest.raises(TypeError, match=f"Expected `observables` {refused}"):
        ParametrizedCircuit(circuit, x, w, observables=kind(["ZI", "IX"]))
    with pytest.raises(TypeError, match=f"Expected `inputs` {refused}"):
        CircuitFromFile("circuit.qpy", inputs=kind(["x", "y"]))
    with pytest.raises(TypeError, match=f"Expected `phases` {refused}"):
        SignalProcessingCircuit(degree=3, phases=kind([0.1, 0.2]))


def test_what_has_an_order_is_taken_in_it() -> None:
    x, w = ParameterVector("x", 12), Parameter("a")
    inputs = QuantumCircuit(12)
    for qubit in range(12):
        inputs.ry(x[qubit], qubit)
    circuit = inputs.copy()
    circuit.ry(w, 0)
    for given in (list(x), x, inputs.parameters, iter(x)):
        assert ParametrizedCircuit(circuit, given, [w]).inputs == tuple(x)  # type: ignore[arg-type]
    backwards = dict.fromkeys(reversed(x))
    for given in (backwards, backwards.keys()):
        built = ParametrizedCircuit(circuit, given, [w])  # type: ignore[arg-type]
        assert built.inputs == tuple(x)[::-1]


def test_what_is_no_circuit_is_refused() -> None:
    circuit: Any = "circuit.qpy"
    with pytest.raises(TypeError, match=r"Expected a QuantumCircuit, got str.*Pass the circuit"):
        ParametrizedCircuit(circuit, [])


def test_parameters_may_come_from_any_iterable() -> None:
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    assert ParametrizedCircuit(circuit, (each for each in [x])).inputs == (x,)  # type: ignore[arg-type]


def test_a_digest_names_what_a_circuit_does_and_not_how_its_parameters_are_called() -> None:
    def built(name: str, angle: float = 0.5, composite: bool = False) -> ParametrizedCircuit:
        x, w = Parameter(f"{name}x"), Parameter(f"{name}w")
        inner = QuantumCircuit(2)
        inner.ry(x + w, 0)
        inner.cx(0, 1)
        circuit = QuantumCircuit(2)
        circuit.rx(angle, 1)
        if composite:
            circuit.append(inner.to_gate(), [0, 1])
        else:
            circuit.compose(inner, inplace=True)
        return ParametrizedCircuit(circuit, inputs=[x], weights=[w])

    assert built("a").digest == built("b").digest
    assert built("a").digest != built("a", angle=0.25).digest
    assert built("a", composite=True).digest == built("b", composite=True).digest
    swapped = built("a")
    other = ParametrizedCircuit(swapped.circuit, inputs=swapped.weights, weights=swapped.inputs)
    assert len(other.digest) == 16
    by_circuit = {
        SuperpositionCircuit(3, reps=reps, entanglement=entanglement).build().digest  # type: ignore[arg-type]
        for reps in (1, 2)
        for entanglement in ("none", "linear", "full")
    }
    assert len(by_circuit) == 6


class Turn(Gate):
    """A user's gate whose angle is none of its parameters."""

    def __init__(self, angle: float) -> None:
        super().__init__("turn", 1, [])
        self.angle = angle

    def _define(self) -> None:
        self.definition = QuantumCircuit(1)
        self.definition.ry(self.angle, 0)


def made(angle: float, phase: float = 0.0) -> Gate:
    circuit = QuantumCircuit(1, name="made", global_phase=phase)
    circuit.ry(angle, 0)
    return circuit.to_gate()


def evolution(paulis: str) -> PauliEvolutionGate:
    return PauliEvolutionGate(SparsePauliOp(paulis), time=Parameter("w"))


def annotated(gate: Gate, modifier: Any) -> AnnotatedOperation:
    return AnnotatedOperation(gate, modifier)


def around(*gates: Any, phase: float = 0.0) -> ParametrizedCircuit:
    """Return a circuit of two qubits with these gates, each on the first qubits."""
    x = Parameter("x")
    circuit = QuantumCircuit(2, global_phase=phase)
    circuit.ry(x, 0)
    for gate in gates:
        circuit.append(gate, range(gate.num_qubits))
    return ParametrizedCircuit(circuit, [x], [p for p in circuit.parameters if p != x])


TOLD_APART = {
    "evolutions": lambda: (around(evolution("ZZ")), around(evolution("XI"))),
    "controlled gates": lambda: (
        around(made(0.1).control(1)),
        around(made(2.5).control(1)),
    ),
    "phases under a control": lambda: (
        around(made(0.1).control(1)),
        around(made(0.1, phase=1.0).control(1)),
    ),
    "annotated gates": lambda: (
        around(annotated(XGate(), ControlModifier(1))),
        around(annotated(HGate(), ControlModifier(1))),
    ),
    "annotations": lambda: (
        around(annotated(XGate(), ControlModifier(1))),
        around(annotated(XGate(), ControlModifier(1, 0))),
    ),
    "gates of a user's class": lambda: (around(Turn(0.1)), around(Turn(2.5))),
    "global phases": lambda: (around(), around(phase=1.0)),
    "Pauli strings": lambda: (around(PauliGate("XY")), around(PauliGate("YX"))),
    "prepared states": lambda: (around(StatePreparation("+0")), around(StatePreparation("-0"))),
    "initial states": lambda: (around(Initialize("+0")), around(Initialize("-0"))),
    "Clifford operations": lambda: (
        around(Clifford(HGate())),
        around(Clifford(XGate())),
    ),
    "what is inside of a gate": lambda: (
        around(grouped(1), RXGate(0.3)),
        around(grouped(2)),
    ),
    "observables": lambda: (observed("Z"), observed("X")),
}


def grouped(count: int) -> Gate:
    circuit = QuantumCircuit(2)
    for _ in range(count):
        circuit.rx(0.3, 0)
    return circuit.to_gate()


def observed(pauli: str) -> ParametrizedCircuit:
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    return ParametrizedCircuit(circuit, [x], observables=SparsePauliOp(pauli))


@pytest.mark.parametrize("what", TOLD_APART)
def test_a_digest_tells_apart(what: str) -> None:
    make = TOLD_APART[what]
    one, other = make()
    assert one.digest != other.digest
    assert one.digest == make()[0].digest


def test_a_digest_does_not_depend_on_what_was_asked_of_a_gate_before() -> None:
    gate = made(0.1).control(1)
    before = around(gate).digest
    assert gate.definition.count_ops()  # makes what was not yet there
    assert gate.base_gate.definition.count_ops()
    assert around(gate).digest == before == around(made(0.1).control(1)).digest


def test_a_full_turn_of_the_global_phase_is_none() -> None:
    assert around(phase=2 * math.pi - 1e-15).digest == around().digest


def test_angles_of_weights_are_counted_inside_of_gates_too() -> None:
    x, w = Parameter("x"), Parameter("w")
    inner = QuantumCircuit(2)
    inner.ry(w, 0)
    inner.ry(2 * w, 1)
    inner.rx(x, 0)
    circuit = QuantumCircuit(2)
    circuit.append(inner.to_gate(), [0, 1])
    circuit.rz(w, 0)
    assert ParametrizedCircuit(circuit, [x], [w]).num_weight_angles == 3


def test_loops_of_fixed_turns_are_written_out():
    x, w = Parameter("x"), Parameter("w")
    looped, written = QuantumCircuit(2, 1), QuantumCircuit(2, 1)
    looped.ry(x, 0)
    with looped.for_loop(range(1, 3)) as turn:
        looped.rx(turn * w, 0)
        with looped.for_loop((3, 5)):
            looped.cx(0, 1)
            looped.rz(x, 1)
    looped.measure(1, 0)
    written.ry(x, 0)
    for turn in range(1, 3):
        written.rx(turn * w, 0)
        for _ in (3, 5):
            written.cx(0, 1)
            written.rz(x, 1)
    written.measure(1, 0)

    one, other = (ParametrizedCircuit(circuit, [x], [w]) for circuit in (looped, written))

    assert one.circuit == other.circuit
    assert looped.count_ops()["for_loop"] == 1


@pytest.mark.parametrize("angle", ["log(x - 1)", "asin(x + w)", "sqrt(w - x)"])
def test_a_digest_of_angles_that_are_not_defined_everywhere(angle: str) -> None:
    def built(factor: float) -> ParametrizedCircuit:
        x, w = Parameter("x"), Parameter("w")
        shown = {"log(x - 1)": (x - 1).log(), "asin(x + w)": (x + w).arcsin()}.get(angle)
        circuit = QuantumCircuit(1)
        circuit.ry((shown if shown is not None else (w - x) ** 0.5) * factor, 0)
        circuit.rz(w, 0)
        return ParametrizedCircuit(circuit, [x], [w])

    assert built(1.0).digest == built(1.0).digest != built(2.0).digest


def test_angles_that_are_defined_nowhere_have_no_digest() -> None:
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.ry((-1 - x * x).log(), 0)
    with pytest.raises(ValueError, match="its angles have no values at 300 points"):
        _ = ParametrizedCircuit(circuit, [x], []).digest


def test_a_digest_knows_a_power_by_its_value_and_not_by_its_word() -> None:
    def built(power: float) -> ParametrizedCircuit:
        circuit = QuantumCircuit(1)
        circuit.append(AnnotatedOperation(RXGate(0.3), [PowerModifier(power)]), [0])
        return ParametrizedCircuit(circuit, [], [])

    assert built(3).digest == built(3.0).digest != built(2).digest


def test_a_digest_tells_which_case_of_a_switch_does_what() -> None:
    def built(first: int, second: int) -> ParametrizedCircuit:
        circuit = QuantumCircuit(1, 1)
        circuit.h(0)
        circuit.measure(0, 0)
        with circuit.switch(circuit.clbits[0]) as case:
            with case(first):
                circuit.x(0)
            with case(second):
                circuit.z(0)
        return ParametrizedCircuit(circuit, [], [])

    assert built(0, 1).digest != built(1, 0).digest

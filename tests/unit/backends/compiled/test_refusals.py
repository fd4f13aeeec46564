"""What cannot be compiled is refused by name, and what is only named like something else is not."""

from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import ClassicalRegister, Gate, Parameter, QuantumCircuit, QuantumRegister
from qiskit.circuit import library as lib
from qiskit.primitives import StatevectorSampler
from qiskit.quantum_info import SparsePauliOp, Statevector, random_unitary
from qiskit.synthesis import MatrixExponential
from qiskit_machine_learning.circuit.library import raw_feature_vector

from lightning_qsgd.backends import CompiledBackend, SamplerBackend
from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit
from tests.cases import unreadable_power

X, Y = Parameter("x"), Parameter("y")


def with_gate(gate: Any) -> ParametrizedCircuit:
    circuit = QuantumCircuit(gate.num_qubits)
    circuit.append(gate, range(gate.num_qubits))
    return ParametrizedCircuit(circuit, list(circuit.parameters))


def late_binding() -> ParametrizedCircuit:
    inner = QuantumCircuit(1)
    inner.rx(X, 0)
    circuit = QuantumCircuit(2)
    circuit.append(inner.to_gate().control(1, annotated=True), [0, 1])
    return ParametrizedCircuit(circuit.assign_parameters({X: 2 * Y}), [Y])


def reset_on_the_way() -> Any:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.reset(0)
    return circuit.to_instruction()


def many_controls() -> Any:
    return lib.UnitaryGate(random_unitary(4, seed=0)).control(7, annotated=True)


def exponential() -> Any:
    terms = SparsePauliOp(["XZ", "ZI"])
    return lib.PauliEvolutionGate(terms, X, synthesis=MatrixExponential())


REFUSED = {
    "power of a number": (lambda: lib.RYGate(2**X), r"gate `ry` .*2\*\*x: .*SamplerBackend"),
    "never real": (lambda: lib.RYGate((X * X + 4).arccos()), r"`ry` .*no finite real value"),
    "reset": (reset_on_the_way, r"`reset`: it is not a unitary gate\."),
    "opaque": (lambda: Gate("box", 1, []), r"`box`: it has neither a definition nor a matrix\."),
    "opaque with angle": (lambda: Gate("box", 1, [X]), r"`box`: it has parameters, but no exact"),
    "exact exponential": (exponential, r"`hamiltonian`: .*no exact"),
    "generator": (lambda: lib.HamiltonianGate(np.eye(2), X), r"`hamiltonian`: it has parameters"),
    "large matrix": (lambda: lib.UnitaryGate(np.eye(512)), r"`unitary`: its matrix .*more than 8"),
    "many controls": (many_controls, r"`unitary`: its matrix acts on more than 8 qubits"),
    "power": (lambda: lib.U2Gate(X, Y).power(2, annotated=True), r"`annotated`: it has parameters"),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=unreadable_power if name == "power of a number" else ())
        for name in REFUSED
    ],
)
def test_gate_is_refused_by_its_name_with_a_way_out(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        CompiledCircuit(with_gate(build()))


def test_annotated_gate_that_was_bound_by_half_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`annotated`: parameters of its base were bound later"):
        CompiledCircuit(late_binding())


def test_complex_angle_is_refused_and_complex_constants_that_cancel_are_not() -> None:
    with pytest.raises(ValueError, match=r"`rx` .*complex number 1j: angles of gates are real"):
        CompiledCircuit(with_gate(lib.RXGate(1j * X)))
    compiled = CompiledCircuit(with_gate(lib.RXGate(1j * 1j * X)))
    outputs = compiled.outputs(torch.tensor([[0.5]]), torch.zeros(0))
    torch.testing.assert_close(outputs[0, 1], torch.tensor(0.25).sin() ** 2)


@pytest.mark.parametrize("name", ["h", "id", "barrier", "delay", "measure", "cx", "unitary"])
def test_own_gate_may_be_called_like_another_one(name: str) -> None:
    definition = QuantumCircuit(2)
    definition.rx(X, 0)
    definition.cz(0, 1)
    definition.ry(0.3, 1)
    gate = Gate(name, 2, [X])
    gate.definition = definition
    circuit = QuantumCircuit(2)
    circuit.append(gate, [1, 0])
    built = ParametrizedCircuit(circuit, [X])
    amplitudes = CompiledCircuit(built).amplitudes(torch.tensor([[0.4]]).double(), torch.zeros(0))
    plain = QuantumCircuit(2)
    plain.append(definition.assign_parameters([0.4]).to_gate(), [1, 0])
    np.testing.assert_allclose(amplitudes[0], Statevector(plain).data, rtol=0, atol=1e-8)


def test_gate_after_a_measurement_of_its_qubit_is_refused() -> None:
    circuit = QuantumCircuit(2, 2)
    circuit.ry(X, 0)
    circuit.measure(0, 0)
    circuit.h(1)
    circuit.measure(1, 1)
    built = ParametrizedCircuit(circuit, [X])
    outputs = CompiledCircuit(built).outputs(torch.zeros(1, 1), torch.zeros(0))
    torch.testing.assert_close(outputs, torch.tensor([[0.5, 0.0, 0.5, 0.0]]))
    circuit.x(0)
    with pytest.raises(ValueError, match=r"`x` after a measurement of the same qubit\. Move"):
        CompiledCircuit(ParametrizedCircuit(circuit, [X]))


def test_outcomes_of_no_defined_order_are_refused() -> None:
    registers = ClassicalRegister(1, "a"), ClassicalRegister(1, "b")
    circuit = QuantumCircuit(QuantumRegister(2), *registers)
    circuit.measure([0, 1], [0, 1])
    for build in (CompiledBackend, SamplerBackend):
        source = ParametrizedCircuit(circuit, [])
        with pytest.raises(ValueError, match=r"several registers \(a, b\): .*Measure into one reg"):
            build(source).probabilities(torch.zeros(1, 0))


def register_case(bits: int, pairs: list[tuple[int, int]], measure_all: bool) -> QuantumCircuit:
    circuit = QuantumCircuit(2, bits)
    circuit.ry(0.7, 0)
    circuit.ry(1.9, 1)
    for qubit, bit in pairs:
        circuit.measure(qubit, bit)
    if measure_all:
        circuit.measure_all()
    return circuit


@pytest.mark.parametrize(
    ("bits", "pairs", "measure_all"),
    [
        (2, [], False),
        (2, [], True),
        (2, [(0, 0)], False),
        (2, [(0, 1)], False),
        (2, [(1, 0)], False),
        (3, [(0, 0), (1, 2)], False),
        (2, [(0, 1), (1, 0)], False),
        (2, [(0, 0), (1, 0)], False),
    ],
)
def test_outcomes_are_those_that_qiskit_counts(
    bits: int, pairs: list[tuple[int, int]], measure_all: bool
) -> None:
    circuit = register_case(bits, pairs, measure_all)
    read = circuit.copy()
    if not pairs and not measure_all:
        read = circuit.remove_final_measurements(inplace=False)
        read.measure_all()
    result = StatevectorSampler(seed=1).run([read], shots=200_000).result()[0]
    name = "meas" if "meas" in result.data else next(iter(result.data))
    counts = result.data[name].get_int_counts()
    for build in (CompiledBackend, SamplerBackend):
        found = build(ParametrizedCircuit(circuit, [])).probabilities(torch.zeros(1, 0))[0]
        assert len(found) == 2 ** result.data[name].num_bits
        expected = [counts.get(outcome, 0) / 200_000 for outcome in range(len(found))]
        np.testing.assert_allclose(found, expected, rtol=0, atol=6e-3)


def test_interpretation_outside_the_output_is_refused() -> None:
    built = SuperpositionCircuit(2).build()
    parts = built.circuit, built.inputs, built.weights
    with pytest.raises(
        ValueError, match=r"maps outcome 2 to 2, outside the output of shape \(2,\)"
    ):
        CompiledCircuit(ParametrizedCircuit(*parts, lambda outcome: outcome, 2))
    with pytest.raises(ValueError, match=r"Got `interpret` without `output_shape`: .*Give the"):
        ParametrizedCircuit(*parts, lambda outcome: outcome)
    with pytest.raises(ValueError, match=r"outcome 0 to 0\.0, which is no place.*e\.g\. `int"):
        CompiledCircuit(ParametrizedCircuit(*parts, float, 4))  # type: ignore[arg-type]


def test_wrong_shapes_and_complex_values_are_refused() -> None:
    compiled = CompiledCircuit(SuperpositionCircuit(2, reps=1))
    x, w = torch.zeros(3, 2), torch.zeros(4)
    with pytest.raises(ValueError, match=r"`inputs` of shape \(B, 2\), got \(3, 3\): .*Reshape"):
        compiled.outputs(torch.zeros(3, 3), w)
    with pytest.raises(ValueError, match=r"`inputs` of shape \(B, 2\), got \(2,\)"):
        compiled.marginals(x[0], w)
    with pytest.raises(ValueError, match=r"`weights` of shape \(4,\), got \(5,\): .*Pass one"):
        compiled.outputs(x, torch.zeros(5))
    with pytest.raises(TypeError, match=r"Expected real inputs and weights, got torch.complex64"):
        compiled.outputs(x + 0j, w)


def test_amplitudes_that_are_inputs_are_sampled_and_are_not_compiled() -> None:
    circuit = raw_feature_vector(4)
    source = ParametrizedCircuit(circuit, list(circuit.parameters))
    values = torch.tensor([[0.5, 0.5, 0.1, 0.7], [0.6, 0.0, 0.0, 0.8]], dtype=torch.float64)
    values = values / values.norm(dim=1, keepdim=True)
    found = SamplerBackend(source).probabilities(values)
    torch.testing.assert_close(found, values**2, rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match=r"gate `ParameterizedInitialize`: .*SamplerBackend"):
        CompiledBackend(source)

"""A gate is what it is, whatever it is called: for values, gradients, Aer and plain networks."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import Gate, Parameter, QuantumCircuit
from qiskit.circuit.library import CXGate
from qiskit.quantum_info import Clifford, SparsePauliOp, Statevector
from qiskit_aer import AerSimulator
from qiskit_aer.backends import backend_utils
from qiskit_aer.primitives import EstimatorV2, SamplerV2
from qiskit_machine_learning.neural_networks import EstimatorQNN, SamplerQNN

from lightning_qsgd.backends import AerSampling, CompiledBackend, SamplerBackend, ShotSampling
from lightning_qsgd.backends.backend_of import layer_backend_of
from lightning_qsgd.backends.plugins import VectorizedSampler, VectorizedShiftGradient
from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.circuits.expansion import KNOWN_NAMES, expanded
from tests.unit.backends.networks import qnn_of

X, W = Parameter("x"), Parameter("w")
INPUT, WEIGHT = 0.4, 0.2
SHOTS = 40_000
SCATTER = 0.015  # six standard deviations of the shots


class DoubleTurn(Gate):
    """A user's gate that is called "rx" and is Ry(2a)."""

    def __init__(self, angle: Any) -> None:
        super().__init__("rx", 1, [angle])

    def _define(self) -> None:
        self.definition = QuantumCircuit(1)
        self.definition.ry(2 * self.params[0], 0)


def turned() -> ParametrizedCircuit:
    """P(1) is sin^2((0.5 + 2 x + w) / 2)."""
    circuit = QuantumCircuit(1)
    circuit.ry(0.5, 0)
    circuit.append(DoubleTurn(X), [0])
    circuit.ry(W, 0)
    return ParametrizedCircuit(circuit, [X], [W])


def as_written(built: ParametrizedCircuit) -> ParametrizedCircuit:
    """Undo what `ParametrizedCircuit` replaces: a network gets the circuit of the user."""
    circuit = QuantumCircuit(1)
    circuit.ry(0.5, 0)
    circuit.append(DoubleTurn(X), [0])
    circuit.ry(W, 0)
    built.circuit = circuit
    return built


def estimated() -> EstimatorQNN:
    return EstimatorQNN(
        circuit=as_written(turned()).circuit,
        observables=SparsePauliOp("Z"),
        input_params=[X],
        weight_params=[W],
        estimator=EstimatorV2(options={"default_precision": 0.005}),
        input_gradients=True,
    )


def plugged() -> SamplerQNN:
    sampler = VectorizedSampler(shots=SHOTS)
    return qnn_of(as_written(turned()), sampler=sampler, gradient=VectorizedShiftGradient(sampler))


EVALUATED = {
    "compiled": (lambda: CompiledBackend(turned()), 1e-9),
    "exact sampler": (lambda: SamplerBackend(turned()), 1e-9),
    "shots": (lambda: SamplerBackend(turned(), sampling=ShotSampling(SHOTS)), SCATTER),
    "aer": (lambda: SamplerBackend(turned(), sampling=AerSampling(SHOTS)), SCATTER),
    "network with shots": (
        lambda: qnn_of(as_written(turned()), sampler=SamplerV2(default_shots=SHOTS, seed=1)),
        SCATTER,
    ),
    "network with our gradient": (plugged, SCATTER),
}


@pytest.mark.parametrize("name", EVALUATED)
def test_value_and_gradients_are_those_of_the_definition(name: str) -> None:
    make, tolerance = EVALUATED[name]
    inputs = torch.tensor([[INPUT]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([WEIGHT], dtype=torch.float64, requires_grad=True)
    found = layer_backend_of(make()).probabilities(inputs, np.array([7], dtype=np.uint64), weights)
    found[0, 1].backward()
    angle = 0.5 + 2 * INPUT + WEIGHT
    assert found[0, 1].item() == pytest.approx(np.sin(angle / 2) ** 2, abs=tolerance)
    assert inputs.grad is not None
    assert weights.grad is not None
    assert inputs.grad.item() == pytest.approx(np.sin(angle), abs=2 * tolerance)
    assert weights.grad.item() == pytest.approx(np.sin(angle) / 2, abs=tolerance)


def test_expectation_values_have_the_gradients_of_the_definition() -> None:
    inputs = torch.tensor([[INPUT]], dtype=torch.float64, requires_grad=True)
    found = layer_backend_of(estimated()).probabilities(
        inputs, weights=torch.tensor([WEIGHT], dtype=torch.float64)
    )
    found.sum().backward()
    angle = 0.5 + 2 * INPUT + WEIGHT
    assert found.item() == pytest.approx(np.cos(angle), abs=0.05)
    assert inputs.grad is not None
    assert inputs.grad.item() == pytest.approx(-2 * np.sin(angle), abs=0.1)


def test_the_shift_gradient_of_a_plain_network_is_that_of_the_definition() -> None:
    sampler = VectorizedSampler()
    network = qnn_of(
        as_written(turned()), sampler=sampler, gradient=VectorizedShiftGradient(sampler)
    )
    by_input, by_weight = network.backward([[INPUT]], [WEIGHT])
    angle = 0.5 + 2 * INPUT + WEIGHT
    assert by_input[0, 1, 0] == pytest.approx(np.sin(angle), abs=1e-9)
    assert by_weight[0, 1, 0] == pytest.approx(np.sin(angle) / 2, abs=1e-9)


def made(name: str) -> Gate:
    """Return Ry(1) under a name."""
    circuit = QuantumCircuit(1, name=name)
    circuit.ry(1.0, 0)
    return circuit.to_gate()


def nested(name: str) -> Gate:
    circuit = QuantumCircuit(1)
    circuit.append(made(name), [0])
    return circuit.to_gate()


class Matrix(Gate):
    """A user's gate that is called "x" and has a matrix alone, that of Ry(1)."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 1, [])

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        half = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
        return half.astype(dtype or complex)


# In a process of its own: Aer ended Python where a gate was called "diagonal".
SEEN_BY_AER = """
import numpy as np, torch
from qiskit.circuit import Parameter, QuantumCircuit
from lightning_qsgd.backends import AerSampling, SamplerBackend
from lightning_qsgd.circuits import ParametrizedCircuit
from tests.unit.backends.test_gate_names import made
for name in ("diagonal", "initialize", "pauli", "unitary", "multiplexer"):
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    circuit.append(made(name), [0])
    backend = SamplerBackend(ParametrizedCircuit(circuit, [x]), sampling=AerSampling(40_000))
    found = backend.probabilities(torch.tensor([[0.5]]), np.array([1], dtype=np.uint64))
    assert abs(found[0, 1].item() - np.sin(0.75) ** 2) < 0.015, (name, found)
"""


@pytest.mark.parametrize("kind", [made, nested, Matrix])
@pytest.mark.parametrize("name", ["h", "x", "id", "sx", "rx", "measure"])
def test_a_gate_under_the_name_of_another_is_not_that(name: str, kind: Any) -> None:
    circuit = QuantumCircuit(1)
    circuit.ry(X, 0)
    circuit.append(kind(name), [0])
    source = ParametrizedCircuit(circuit, [X])
    inputs = torch.tensor([[0.5]], dtype=torch.float64)
    key = np.array([1], dtype=np.uint64)
    for backend, tolerance in (
        (CompiledBackend(source), 1e-9),
        (SamplerBackend(source), 1e-9),
        (SamplerBackend(source, sampling=AerSampling(SHOTS)), SCATTER),
    ):
        found = backend.probabilities(inputs, key)[0, 1].item()
        assert found == pytest.approx(np.sin(0.75) ** 2, abs=tolerance)


def test_a_gate_under_a_name_of_aers_does_not_end_python() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SEEN_BY_AER], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_swap_of_ones_own_that_turns_is_not_the_swap() -> None:
    own = QuantumCircuit(2, name="swap")
    own.swap(0, 1)
    own.ry(0.8, 0)
    circuit = QuantumCircuit(2)
    circuit.ry(X, 0)
    circuit.append(own.to_gate(), [0, 1])
    built = ParametrizedCircuit(circuit, [X])
    backend = SamplerBackend(built, sampling=AerSampling(SHOTS))
    found = backend.probabilities(torch.tensor([[0.5]]), np.array([1], dtype=np.uint64))[0]
    expected = Statevector(circuit.assign_parameters([0.5])).probabilities()
    np.testing.assert_allclose(found, expected, atol=SCATTER)


def test_a_clifford_operation_is_its_gates() -> None:
    circuit = QuantumCircuit(2)
    circuit.ry(X, 0)
    circuit.append(Clifford(CXGate()), [0, 1])
    source = ParametrizedCircuit(circuit, [X])
    inputs = torch.tensor([[0.5]], dtype=torch.float64)
    for backend in (CompiledBackend(source), SamplerBackend(source)):
        found = backend.probabilities(inputs)[0, 3].item()
        assert found == pytest.approx(np.sin(0.25) ** 2, abs=1e-9)


def test_blocks_of_conditions_are_searched_too() -> None:
    circuit = QuantumCircuit(1, 2)
    circuit.ry(X, 0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.append(made("h"), [0])
    whole, _ = expanded(circuit)
    (inner,) = whole.data[2].operation.blocks
    assert inner.count_ops() == {"ry": 1}


def test_gates_of_the_library_stay_as_they_are() -> None:
    circuit = QuantumCircuit(3)
    circuit.h(0)
    circuit.mcx([0, 1], 2)
    circuit.unitary(np.eye(2), [0])
    circuit.initialize([1, 0], 1)
    circuit.append(made("mine"), [0])
    circuit.measure_all()
    whole, replaced = expanded(circuit)
    assert whole is circuit
    assert replaced == ()


def test_all_names_that_aer_knows_are_known() -> None:
    simulators = [AerSimulator(method=method) for method in AerSimulator().available_methods()]
    names = {name for each in simulators for name in each.target.operation_names}
    names |= {name for each in backend_utils.BASIS_GATES.values() for name in each or ()}
    assert names <= KNOWN_NAMES

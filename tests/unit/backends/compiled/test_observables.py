"""Expectation values of Pauli sums against EstimatorQNN and qiskit's own state vector."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.primitives import StatevectorEstimator
from qiskit.quantum_info import Operator, Pauli, SparsePauliOp, Statevector
from qiskit_aer.primitives import EstimatorV2
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import EstimatorQNN
from torch import Tensor

from lightning_qsgd.backends import CompiledBackend, SamplerBackend
from lightning_qsgd.backends.backend_of import NetworkBackend
from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.circuits import (
    ObservedCircuit,
    ParametrizedCircuit,
    SuperpositionCircuit,
    superposition_circuit,
)
from lightning_qsgd.nn import CircuitLayer
from tests.unit.backends.random_circuits import bound, random_circuit


def random_sums(seed: int, num_qubits: int, count: int) -> list[SparsePauliOp]:
    generator = np.random.default_rng(seed)
    return [
        SparsePauliOp.from_list(
            [
                ("".join(generator.choice(list("IXYZ"), num_qubits)), generator.normal())
                for _ in range(generator.integers(1, 6))
            ]
        )
        for _ in range(count)
    ]


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), qubits=st.integers(1, 4), gates=st.integers(0, 12))
def test_random_sums_on_random_circuits_are_those_of_the_state_vector(
    seed: int, qubits: int, gates: int
) -> None:
    plain, sums = random_circuit(seed, qubits, gates), random_sums(seed, qubits, 3)
    built = ParametrizedCircuit(plain.circuit, plain.inputs, plain.weights, observables=sums)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True)
    compiled = CompiledCircuit(built)
    states = [Statevector(bound(plain, row, w.tolist())) for row in x.tolist()]
    expected = [[state.expectation_value(each).real for each in sums] for state in states]
    torch.testing.assert_close(
        compiled.outputs(x, w).detach(), torch.tensor(expected), rtol=0, atol=1e-12
    )
    assert torch.autograd.gradcheck(compiled.outputs, (x, w), atol=1e-6)


def test_second_derivatives_and_transforms_pass_through_observables() -> None:
    plain = random_circuit(1, 2, 6)
    sums = random_sums(1, 2, 2)
    built = ParametrizedCircuit(plain.circuit, plain.inputs, plain.weights, observables=sums)
    x = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, dtype=torch.float64, requires_grad=True)
    outputs = CompiledCircuit(built).outputs
    assert torch.autograd.gradgradcheck(outputs, (x, w), atol=1e-6)
    rows = torch.func.vmap(lambda row: outputs(row[None], w)[0])(x.detach().repeat(3, 1))
    torch.testing.assert_close(rows, outputs(x, w).repeat(3, 1))


def network(observables: Any, **extra: Any) -> EstimatorQNN:
    built = superposition_circuit(num_qubits=2, reps=2)
    return EstimatorQNN(
        circuit=built.circuit,
        observables=observables,
        input_params=built.inputs,
        weight_params=built.weights,
        input_gradients=True,
        **extra,
    )


SUMS = [
    SparsePauliOp.from_list([("ZI", 0.5), ("XY", -1.5), ("II", 0.25)]),
    SparsePauliOp(["YY", "YY"], [1.0, 2.0]),
]


@pytest.mark.parametrize("observables", [None, SUMS[0], SUMS, Pauli("XZ")], ids=str)
def test_layer_is_the_torch_connector_of_an_estimator(observables: Any) -> None:
    qnn = network(observables)
    layer = CircuitLayer(qnn)
    assert isinstance(layer.backend, CompiledBackend)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    w = torch.randn(8, dtype=torch.float64)
    layer.weight = torch.nn.Parameter(w)
    outputs = layer(x)
    expected = qnn.forward(x.detach().numpy(), w.numpy())
    torch.testing.assert_close(outputs.detach(), torch.tensor(expected), rtol=0, atol=1e-10)
    flow = torch.randn_like(outputs)
    found = torch.autograd.grad(outputs, (x, layer.weight), flow)
    by_input, by_weight = (torch.tensor(j) for j in qnn.backward(x.detach().numpy(), w.numpy()))
    torch.testing.assert_close(found[0], (flow[..., None] * by_input).sum(1), rtol=0, atol=1e-10)
    torch.testing.assert_close(
        found[1], (flow[..., None] * by_weight).sum((0, 1)), rtol=0, atol=1e-10
    )
    connector = TorchConnector(qnn, initial_weights=w.numpy())
    torch.testing.assert_close(layer(x.float()).float(), connector(x.float()), rtol=0, atol=2e-6)
    layer.load_state_dict(connector.state_dict())


def test_both_engines_agree_and_second_derivatives_pass_through_both() -> None:
    x, w = torch.randn(2, 2, dtype=torch.float64), torch.randn(8).double()
    layers = [CircuitLayer(network(SUMS), w, engine) for engine in ("compiled", "sampler")]
    assert isinstance(layers[1].backend, NetworkBackend)
    torch.testing.assert_close(layers[0](x), layers[1](x), rtol=0, atol=1e-10)
    hessians = [
        torch.autograd.functional.hessian(lambda v, f=layer: f(v).square().sum(), x)
        for layer in layers
    ]
    torch.testing.assert_close(*hessians, rtol=0, atol=1e-9)


@pytest.mark.parametrize("estimator", [EstimatorV2(), StatevectorEstimator(seed=1)], ids=type)
def test_estimators_with_shots_stay_with_their_own(estimator: Any) -> None:
    exact = CircuitLayer(network(SUMS))
    layer = CircuitLayer(network(SUMS, estimator=estimator, default_precision=0.02), exact.weight)
    assert isinstance(layer.backend, NetworkBackend)
    x = torch.rand(3, 2)
    outputs = layer(x)
    assert 0 < (outputs - exact(x)).abs().max() < 0.5
    outputs.square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().max() > 0
    with pytest.raises(NotImplementedError, match="shifted circuits"):
        torch.autograd.functional.hessian(lambda v: layer(v).square().sum(), x)


def test_float32_and_large_circuits_keep_their_digits_and_build_no_matrix() -> None:
    labels = {"X" * 12: 0.25, "Z" * 12: 0.25, "IIIYIIIIIIXI": 0.25, "I" * 11 + "Z": 0.25}
    built = ObservedCircuit(SuperpositionCircuit(12), [labels]).build()
    compiled = CompiledCircuit(built, memory_limit_gib=0.5)
    x, w = torch.randn(2, 12), torch.randn(48)
    exact = compiled.outputs(x.double(), w.double())
    torch.testing.assert_close(compiled.outputs(x, w).double(), exact, rtol=0, atol=2e-6)


def test_perturbation_reads_one_observable_per_input() -> None:
    labels = [{"IZ": -1.0}, {"ZI": -1.0}]  # P(1) - P(0) of each qubit
    plain, x = CompiledBackend(SuperpositionCircuit(2)), torch.randn(5, 2)
    observed = CompiledBackend(ObservedCircuit(SuperpositionCircuit(2), labels))
    observed.check_blocks()
    torch.testing.assert_close(observed.readout(x), plain.readout(x), rtol=0, atol=1e-6)
    for wrong, message in (
        ([{"IZ": 1.0}], r"1 observables of a circuit with 2 inputs.*one observable per input"),
        ([{"IZ": 1.0}, {"ZI": 1.0, "XX": 0.5}], r"add up to 1\.5.*Divide its weights"),
    ):
        backend = CompiledBackend(ObservedCircuit(SuperpositionCircuit(2), wrong))
        with pytest.raises(ValueError, match=message):
            backend.check_blocks()


def test_operators_of_other_kinds_are_written_as_pauli_sums() -> None:
    x, readings = torch.randn(2, 2), []
    for kind in (SUMS[0], Operator(SUMS[0]), {"ZI": 0.5, "XY": -1.5, "II": 0.25}):
        built = superposition_circuit(2, reps=2)
        built = ParametrizedCircuit(built.circuit, built.inputs, built.weights, observables=kind)
        readings.append(CompiledBackend(built).probabilities(x))
    for reading in readings[1:]:
        torch.testing.assert_close(reading, readings[0], rtol=0, atol=1e-6)


def test_what_is_no_observable_of_the_circuit_is_refused() -> None:
    circuit, x = QuantumCircuit(2), Parameter("x")
    circuit.ry(x, 0)
    for wrong, error, message in (
        ([], ValueError, "no observable.*one or more"),
        ([3.0], TypeError, r"observable, got float.*SparsePauliOp"),
        ({"Z": 1.0}, ValueError, r"of 1 qubits and a circuit of 2.*Fill up with I"),
        (SparsePauliOp("ZZ", 1j), ValueError, r"not real.*two observables"),
        (SparsePauliOp("ZZ", np.array([Parameter("a")])), ValueError, "have parameters.*Bind"),
    ):
        with pytest.raises(error, match=message):
            ParametrizedCircuit(circuit, [x], observables=wrong)
    with pytest.raises(ValueError, match=r"`observables` and `interpret`.*one of the two"):
        ParametrizedCircuit(circuit, [x], (), abs, 4, {"ZZ": 1.0})
    observed = ParametrizedCircuit(circuit, [x], observables={"ZZ": 1.0})
    with pytest.raises(ValueError, match=r"Cannot sample observables.*EstimatorQNN"):
        SamplerBackend(observed)


def test_transpiled_last_permutations_are_part_of_the_readout() -> None:
    x = Parameter("x")
    circuit = QuantumCircuit(3)
    circuit.ry(x, 0)
    circuit.rx(0.4, 1)
    circuit.cx(0, 2)
    circuit.swap(1, 2)
    sums = random_sums(4, 3, 3)
    compiled = CompiledCircuit(ParametrizedCircuit(circuit, [x], observables=sums))
    at: Tensor = torch.tensor([[0.7]], dtype=torch.float64)
    state = Statevector(circuit.assign_parameters([0.7]))
    expected = torch.tensor([[state.expectation_value(each).real for each in sums]])
    found = compiled.outputs(at, torch.zeros(0, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)

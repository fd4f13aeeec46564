"""Compiled networks against `SamplerQNN.forward` and `SamplerQNN.backward`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.circuit import ClassicalRegister, ParameterVector, QuantumCircuit
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import generate_preset_pass_manager
from qiskit_machine_learning.neural_networks import SamplerQNN

from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.circuits import ParametrizedCircuit, superposition_circuit
from tests.unit.backends.networks import qnn_of
from tests.unit.backends.random_circuits import random_circuit


def check(qnn: SamplerQNN, rows: int = 2) -> None:
    """Outputs and all of both Jacobians agree to 1e-10."""
    generator = np.random.default_rng(5)
    x = generator.uniform(-3, 3, (rows, qnn.num_inputs))
    w = generator.uniform(-3, 3, qnn.num_weights)
    compiled = CompiledCircuit(ParametrizedCircuit.of_network(qnn))
    arguments = torch.from_numpy(x), torch.from_numpy(w)
    near = {"rtol": 0, "atol": 1e-10}
    outputs = compiled.outputs(*arguments)
    np.testing.assert_allclose(outputs, np.reshape(qnn.forward(x, w), outputs.shape), **near)
    by_input, by_weight = qnn.backward(x, w)
    of_x, of_w = torch.autograd.functional.jacobian(compiled.outputs, arguments)
    places = torch.arange(rows)
    own = of_x.movedim(-2, 1)[places, places]
    np.testing.assert_allclose(own, np.reshape(by_input, own.shape), **near)
    np.testing.assert_allclose(of_w, np.reshape(by_weight, of_w.shape), **near)


def parity(outcome: int) -> int:
    return outcome.bit_count() % 2


def corner(outcome: int) -> tuple[int, int]:
    return outcome % 2, outcome // 2


def register(measured: Sequence[int], barrier: bool = False) -> ParametrizedCircuit:
    """Measure some qubits of the paper's circuit into a register, in an order."""
    built = superposition_circuit(num_qubits=3, reps=1)
    circuit = built.circuit.copy()
    circuit.add_register(ClassicalRegister(len(measured), "meas"))
    for place, qubit in enumerate(measured):
        circuit.measure(qubit, place)
    if barrier:
        circuit.barrier()
    return ParametrizedCircuit(circuit, built.inputs, built.weights)


@settings(max_examples=16)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 8))
def test_random_circuits(seed: int, qubits: int, gates: int) -> None:
    check(qnn_of(random_circuit(seed, qubits, gates)))


@pytest.mark.parametrize(
    "extra",
    [{}, {"interpret": parity, "output_shape": 2}, {"interpret": corner, "output_shape": (2, 2)}],
    ids=["outcomes", "parity", "corner"],
)
def test_interpreted_outcomes(extra: dict[str, Any]) -> None:
    check(qnn_of(superposition_circuit(num_qubits=2, reps=2), **extra))


@pytest.mark.parametrize("measured", [[0, 1, 2], [2, 0, 1], [1], [2, 0]])
@pytest.mark.parametrize("barrier", [False, True])
def test_measured_circuits(measured: list[int], barrier: bool) -> None:
    check(qnn_of(register(measured, barrier)))


def test_circuit_that_measures_all_its_qubits() -> None:
    built = superposition_circuit(num_qubits=2, reps=1)
    circuit = built.circuit.copy()
    circuit.measure_all()
    check(qnn_of(ParametrizedCircuit(circuit, built.inputs, built.weights)))


def test_transpiled_circuit_whose_qubits_have_moved() -> None:
    """`SamplerQNN.backward` (0.9) forgets the layout: gradients are those of the plain circuit."""
    device = GenericBackendV2(4, coupling_map=[[0, 1], [1, 2], [2, 3]], seed=1)
    manager = generate_preset_pass_manager(
        2, backend=device, initial_layout=[3, 0, 2], seed_transpiler=1
    )
    built = superposition_circuit(num_qubits=3, reps=1, entanglement="circular")
    circuit = manager.run(built.circuit)
    assert circuit.num_qubits == 4
    assert circuit.layout.final_index_layout(filter_ancillas=True) != [0, 1, 2]
    moved = ParametrizedCircuit(circuit, built.inputs, built.weights)
    x, w = torch.rand(2, 3).double(), torch.rand(6).double().requires_grad_()
    for extra in ({}, {"interpret": parity, "output_shape": 2}):
        qnn = qnn_of(moved, **extra)
        outputs = CompiledCircuit(ParametrizedCircuit.of_network(qnn)).outputs(x, w)
        expected = torch.from_numpy(qnn.forward(x.numpy(), w.detach().numpy()))
        torch.testing.assert_close(outputs.detach(), expected, rtol=0, atol=1e-10)
        plain = CompiledCircuit(ParametrizedCircuit.of_network(qnn_of(built, **extra))).outputs(
            x, w
        )
        gradients = [torch.autograd.grad((each**3).sum(), w)[0] for each in (outputs, plain)]
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)
    expected = CompiledCircuit(built).marginals(x, w)
    marginals = CompiledCircuit(moved).marginals(x, w)
    torch.testing.assert_close(marginals, expected, rtol=0, atol=1e-12)


def test_network_with_a_pass_manager() -> None:
    device = GenericBackendV2(3, coupling_map=[[0, 1], [1, 2]], seed=1)
    manager = generate_preset_pass_manager(1, backend=device, seed_transpiler=3)
    built = superposition_circuit(num_qubits=2, reps=1)
    check(qnn_of(built, pass_manager=manager))


@pytest.mark.parametrize("of_inputs", [True, False])
def test_one_kind_of_parameters_alone(of_inputs: bool) -> None:
    angles = ParameterVector("a", 2)
    circuit = QuantumCircuit(2)
    circuit.ry(angles[0], 0)
    circuit.rxx(angles[1], 0, 1)
    built = ParametrizedCircuit(circuit, *((angles, ()) if of_inputs else ((), angles)))
    qnn = qnn_of(built)
    compiled = CompiledCircuit(ParametrizedCircuit.of_network(qnn))
    values = np.array([0.3, -1.1])
    x, w = (values[None], np.zeros(0)) if of_inputs else (np.zeros((1, 0)), values)
    outputs = compiled.outputs(torch.from_numpy(x), torch.from_numpy(w))
    expected = qnn.forward(x if of_inputs else None, w)
    np.testing.assert_allclose(outputs[0], np.ravel(expected), rtol=0, atol=1e-10)

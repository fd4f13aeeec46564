"""The compiled backend against the reference backend and the matrix oracle, also in training."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import ParameterVector, QuantumCircuit

from lightning_qsgd.backends import CompiledBackend, SamplerBackend
from lightning_qsgd.circuits import ENTANGLEMENTS, ParametrizedCircuit, SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import AllEntries, Perturbation
from tests.cases import COORDINATES, dense_problem
from tests.reference import circuit_readout


def inputs(rows: int, num_qubits: int) -> torch.Tensor:
    drawn = np.random.default_rng(0).uniform(-2.0, 2.0, (rows, num_qubits))
    return torch.from_numpy(drawn)


@pytest.mark.parametrize("weight_seed", [None, 3])
@pytest.mark.parametrize("entanglement", ENTANGLEMENTS)
@pytest.mark.parametrize("num_qubits", [1, 2, 4])
def test_readout_agrees_with_the_reference_and_the_oracle(
    num_qubits: int, entanglement: Any, weight_seed: int | None
) -> None:
    circuit = SuperpositionCircuit(num_qubits, 2, entanglement)
    backend = CompiledBackend(circuit, weight_seed)
    values = inputs(3, num_qubits)
    readout = backend.readout(values)
    reference = SamplerBackend(circuit, weight_seed)
    weights = reference.initial_weights().tolist()
    expected = [circuit_readout(row, 2, entanglement, weights) for row in values.tolist()]
    near = {"rtol": 0, "atol": 1e-10}
    torch.testing.assert_close(readout, reference.readout(values), **near)
    torch.testing.assert_close(readout, torch.tensor(expected, dtype=torch.float64), **near)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_readout_has_shape_and_dtype_of_the_inputs(dtype: torch.dtype) -> None:
    values = inputs(5, 3).to(dtype)
    backend = CompiledBackend(SuperpositionCircuit(3), weight_seed=1)
    readout = backend.readout(values)
    assert (readout.shape, readout.dtype) == ((5, 3), dtype)
    exact = backend.readout(values.double())
    tolerance = max(torch.finfo(dtype).eps, 2e-6)  # computed in float32 at least, rounded once
    torch.testing.assert_close(readout.double(), exact, rtol=0, atol=tolerance)


def test_gradient_by_the_weights_is_that_of_the_reference() -> None:
    gradients = []
    for kind in (CompiledBackend, SamplerBackend):
        backend = kind(SuperpositionCircuit(2), weight_seed=4)
        weights = backend.initial_weights().requires_grad_()
        (backend.readout(inputs(3, 2), weights=weights) ** 3).sum().backward()
        gradients.append(weights.grad)
    assert gradients[0].abs().max() > 0.1
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def ancillary() -> ParametrizedCircuit:
    x, w = ParameterVector("x", 2), ParameterVector("w", 1)
    circuit = QuantumCircuit(4)
    for qubit in range(4):
        circuit.ry(x[qubit % 2] * (qubit + 1) + w[0], qubit)
    circuit.cx(3, 0)
    circuit.ccx(2, 0, 1)
    return ParametrizedCircuit(circuit, x, w)


def test_qubits_beyond_the_inputs_take_part_and_are_not_read() -> None:
    built = ancillary()
    backend = CompiledBackend(built, weight_seed=2)
    assert (backend.num_qubits, backend.describe()) == (2, built)
    readout = backend.readout(inputs(3, 2))
    assert readout.shape == (3, 2)
    expected = SamplerBackend(built, weight_seed=2).readout(inputs(3, 2))
    torch.testing.assert_close(readout, expected, rtol=0, atol=1e-10)


def test_steps_that_exceed_the_memory_limit_are_refused() -> None:
    backend = CompiledBackend(SuperpositionCircuit(4), memory_limit_gib=0.001)
    backend.check_capacity(100)
    with pytest.raises(ValueError, match=r"100000 circuit\(s\) of 4 qubits .* limit of 1\.02 MiB"):
        backend.check_capacity(100_000)
    with pytest.raises(ValueError, match=r"1 circuit\(s\) of 40 qubits"):
        CompiledBackend(SuperpositionCircuit(40))


def test_backends_are_values() -> None:
    backend = CompiledBackend(SuperpositionCircuit(2), weight_seed=1)
    other = CompiledBackend(SuperpositionCircuit(2), weight_seed=1)
    assert backend == other
    assert hash(backend) == hash(other)
    assert backend != CompiledBackend(SuperpositionCircuit(2), weight_seed=2)
    for copied in (pickle.loads(pickle.dumps(backend)), copy.deepcopy(backend)):
        assert copied == backend
        assert torch.equal(copied.readout(inputs(3, 2)), backend.readout(inputs(3, 2)))


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_training_equals_that_with_the_reference(coordinates: str) -> None:
    flat = []
    for kind in (CompiledBackend, SamplerBackend):
        problem = dense_problem(shapes=((2,), (7,), ()))
        backend = kind(SuperpositionCircuit(3), weight_seed=7)
        perturbation = Perturbation(backend, COORDINATES[coordinates])
        optimizer = PerturbedOptimizer(torch.optim.AdamW(problem.parameters, lr=1e-2), perturbation)
        for _ in range(4):
            problem.backward()
            optimizer.step()
        flat.append(problem.flat())
    torch.testing.assert_close(*flat, rtol=0, atol=1e-7)


def test_all_entries_of_a_large_model_are_perturbed() -> None:
    problem = dense_problem(torch.float32, shapes=((400, 300), (13,)))
    before = problem.flat()
    perturbation = Perturbation(CompiledBackend(weight_seed=0), AllEntries())
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=1e-3), perturbation)
    plain = dense_problem(torch.float32, shapes=((400, 300), (13,)))
    base = torch.optim.SGD(plain.parameters, lr=1e-3)
    for each, stepper in ((problem, optimizer), (plain, base)):
        each.backward()
        stepper.step()
    assert ((problem.flat() - plain.flat()) != 0).float().mean() > 0.99
    assert not torch.equal(problem.flat(), before)

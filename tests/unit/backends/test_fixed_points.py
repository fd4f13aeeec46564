"""Small circuits at fixed inputs, in numpy, against the compiled circuit and its adjoint."""

import numpy as np
import pytest
import torch
from qiskit import transpile
from qiskit.circuit import ParameterVector, QuantumCircuit
from torch import Tensor

from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.backends.fourier.fixed_points import (
    FixedPoints,
    ProbabilityReading,
    Reading,
    RealPartReading,
    fixed_points_of,
)
from lightning_qsgd.circuits import ParametrizedCircuit, ScoreCircuit
from tests.unit.backends.random_circuits import random_circuit

READINGS = pytest.mark.parametrize("reading", [ProbabilityReading(), RealPartReading()])
ENTANGLEMENTS = ["none", "linear", "circular", "full"]


def points_of(built: ParametrizedCircuit, inputs: np.ndarray, reading: Reading) -> FixedPoints:
    points = fixed_points_of(built, inputs, reading)
    assert points is not None
    return points


def in_torch(built: ParametrizedCircuit, reading: Reading, inputs: Tensor, w: Tensor) -> Tensor:
    """Return the sum over the first n entries, shape (B,)."""
    compiled, n = CompiledCircuit(built), built.num_qubits
    if isinstance(reading, ProbabilityReading):
        return compiled.outputs(inputs, w)[:, :n].sum(1)
    return compiled.amplitudes(inputs, w)[:, :n].real.sum(1)


def check(built: ParametrizedCircuit, reading: Reading, seed: int, rows: int = 5) -> None:
    """Values and gradients agree to 1e-12."""
    generator = np.random.default_rng(seed)
    inputs = generator.uniform(-4, 4, (rows, len(built.inputs)))
    weights, flow = generator.uniform(-4, 4, len(built.weights)), generator.normal(size=rows)
    points = points_of(built, inputs, reading)
    values, way = points.values(weights)
    w = torch.from_numpy(weights).requires_grad_()
    expected = in_torch(built, reading, torch.from_numpy(inputs), w)
    (gradient,) = torch.autograd.grad(expected, w, torch.from_numpy(flow))
    np.testing.assert_allclose(values, expected.detach(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(points.gradient(way, flow), gradient, rtol=0, atol=1e-12)


@READINGS
@pytest.mark.parametrize("seed", range(40))
def test_random_circuits_agree_with_the_compiled_circuit(seed: int, reading: Reading) -> None:
    check(random_circuit(seed, 1 + seed % 5, 3 + seed), reading, seed)


@READINGS
@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("reps", [1, 2, 3])
def test_papers_circuit_agrees_with_the_compiled_circuit(
    n: int, reps: int, reading: Reading
) -> None:
    for entanglement in ENTANGLEMENTS:
        check(ScoreCircuit(n, reps, entanglement).build(), reading, n + reps, rows=2 * n * reps + 1)


@pytest.mark.parametrize("seed", range(5))
def test_outcomes_are_those_measured_and_those_of_a_transpiled_circuit(seed: int) -> None:
    plain = random_circuit(seed, 3, 8)
    shuffled = plain.circuit.copy()
    shuffled.add_register(*QuantumCircuit(0, 3).cregs)
    shuffled.measure(range(3), np.random.default_rng(seed).permutation(3).tolist())
    moved = transpile(
        plain.circuit,
        basis_gates=["u", "cx"],
        coupling_map=[[0, 1], [1, 2]],
        initial_layout=[2, 0, 1],
        seed_transpiler=seed,
    )
    for circuit in (shuffled, moved):
        check(ParametrizedCircuit(circuit, plain.inputs, plain.weights), ProbabilityReading(), seed)


def test_last_phases_have_no_gradient_at_all() -> None:
    built = ScoreCircuit(3, 2).build()
    points = points_of(built, np.linspace(0, 6, 13)[:, None], ProbabilityReading())
    _, way = points.values(np.linspace(-3, 3, 12))
    gradient = points.gradient(way, np.arange(13.0))
    assert np.flatnonzero(gradient == 0).tolist() == [9, 10, 11]


def test_circuits_without_weights_or_without_angles_have_values() -> None:
    x = ParameterVector("x", 1)
    circuit = QuantumCircuit(1)
    circuit.rz(x[0], 0)
    circuit.rz(-1 * x[0], 0)
    points = points_of(ParametrizedCircuit(circuit, x), np.zeros((2, 1)), ProbabilityReading())
    values, way = points.values(np.zeros(0))
    assert values.tolist() == [1, 1]
    assert points.gradient(way, np.ones(2)).shape == (0,)


def test_weights_that_are_no_numbers_give_values_that_are_none() -> None:
    points = points_of(ScoreCircuit(2, 1).build(), np.zeros((3, 1)), ProbabilityReading())
    for wrong in (np.nan, np.inf):
        values, way = points.values(np.full(4, wrong))
        assert np.isnan(values).all()
        assert np.isnan(points.gradient(way, np.ones(3))).any()


@READINGS
def test_large_circuits_are_left_to_torch(reading: Reading) -> None:
    large = ScoreCircuit(6, 2).build()
    assert fixed_points_of(large, np.zeros((25, 1)), reading)
    assert fixed_points_of(large, np.zeros((65, 1)), reading) is None
    long = random_circuit(0, 6, 200)
    assert fixed_points_of(long, np.zeros((1, 3)), reading) is None

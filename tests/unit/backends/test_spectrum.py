"""Frequencies found from gates against those of the outputs themselves."""

import numpy as np
import pytest
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import Statevector

from lightning_qsgd.backends.fourier.spectrum import Spectrum, spectra_of
from lightning_qsgd.circuits import ParametrizedCircuit, ScoreCircuit, SuperpositionCircuit

S = Parameter("s")


@pytest.mark.parametrize(("n", "reps"), [(1, 1), (3, 1), (4, 2), (6, 3)])
def test_papers_circuit_has_degree_qubits_times_layers(n: int, reps: int) -> None:
    probabilities, amplitudes = spectra_of(ScoreCircuit(n, reps).build())
    assert probabilities == Spectrum(1.0, n * reps)
    assert amplitudes.frequency * amplitudes.degree == n * reps / 2


def test_factor_of_the_input_is_the_frequency() -> None:
    assert spectra_of(SuperpositionCircuit(4, 2).build())[0] == Spectrum(np.pi, 8)
    assert spectra_of(ScoreCircuit(2, 1, factor=-0.25).build())[0] == Spectrum(0.25, 2)


def brought(seed: int) -> ParametrizedCircuit:
    """Draw gates of all kinds with angles that are multiples of s / 2."""
    generator = np.random.default_rng(seed)
    circuit = QuantumCircuit(3)
    circuit.h(range(3))
    for _ in range(5):
        angle = float(generator.choice([0.5, 1.0, -1.5])) * S + float(generator.uniform(-3, 3))
        first, second, third = (int(q) for q in generator.permutation(3))
        match int(generator.integers(6)):
            case 0:
                circuit.rx(angle, first)
            case 1:
                circuit.rzz(angle, first, second)
            case 2:
                circuit.cry(angle, first, second)
            case 3:
                circuit.cp(angle, first, second)
            case 4:
                circuit.ccx(first, second, third)
            case 5:
                circuit.u(angle, 0.2, -angle, first)
    circuit.ry(S, 0)
    return ParametrizedCircuit(circuit, [S])


@pytest.mark.parametrize("seed", range(12))
def test_outputs_are_polynomials_of_the_spectrum_that_is_found(seed: int) -> None:
    built = brought(seed)
    state = [
        Statevector(built.circuit.assign_parameters({S: value})).data
        for value in np.random.default_rng(seed).uniform(-20, 20, 120)
    ]
    points = np.random.default_rng(seed).uniform(-20, 20, 120)
    outputs = abs(np.array(state)) ** 2, np.array(state).real
    for values, spectrum in zip(outputs, spectra_of(built), strict=True):
        phases = points[:, None] * spectrum.frequency * np.arange(spectrum.degree + 1)
        basis = np.hstack([np.cos(phases), np.sin(phases)])
        fitted = basis @ np.linalg.lstsq(basis, values, rcond=None)[0]
        assert basis.shape[1] < len(points)
        np.testing.assert_allclose(fitted, values, atol=1e-9)


def test_circuit_that_does_not_see_the_score_has_degree_zero() -> None:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.rz(S, 0)
    circuit.rz(-1 * S, 0)
    assert spectra_of(ParametrizedCircuit(circuit, [S]))[0].degree == 0

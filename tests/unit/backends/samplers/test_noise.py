"""Noise against what theory says of one qubit, and devices against their layouts."""

import sys
from math import exp
from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, QuantumCircuit

from lightning_qsgd.backends import (
    AerSampling,
    DepolarizingNoise,
    DeviceNoise,
    GenericDeviceNoise,
    Noise,
    SamplerBackend,
    ThermalNoise,
)
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit

SHOTS = 40_000
SIGMAS = 5.0 / SHOTS**0.5


def rotation(gates: int) -> ParametrizedCircuit:
    """A qubit that is turned by x in as many gates."""
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    for _ in range(gates):
        circuit.ry(x / gates, 0)
    return ParametrizedCircuit(circuit, [x])


def readout(circuit: Any, noise: Noise | None, angle: list[float]) -> torch.Tensor:
    backend = SamplerBackend(circuit, None, AerSampling(SHOTS, noise=noise))
    keys = np.array([7], dtype=np.uint64)
    return backend.readout(torch.tensor([angle], dtype=torch.float64), keys)[0]


@pytest.mark.parametrize("gates", [1, 3])
def test_depolarizing_shrinks_the_readout_with_every_gate(gates: int) -> None:
    p = 0.1
    damped = readout(rotation(gates), DepolarizingNoise(one_qubit=p), [2.0])
    assert damped.item() == pytest.approx(-np.cos(2.0) * (1 - p) ** gates, abs=SIGMAS)


def test_depolarizing_of_pairs_shrinks_both_readouts() -> None:
    x, y = Parameter("x"), Parameter("y")
    circuit = QuantumCircuit(2)
    circuit.ry(x, 0)
    circuit.ry(y, 1)
    circuit.cz(0, 1)
    noise = DepolarizingNoise(one_qubit=0.0, two_qubit=0.2)
    damped = readout(ParametrizedCircuit(circuit, [x, y]), noise, [0.4, 2.5])
    expected = -np.cos([0.4, 2.5]) * (1 - 0.2)
    np.testing.assert_allclose(damped.numpy(), expected, rtol=0, atol=SIGMAS)


def test_flips_at_the_readout_shrink_it_by_twice_their_probability() -> None:
    damped = readout(rotation(1), DepolarizingNoise(0.0, 0.0, readout=0.15), [2.5])
    assert damped.item() == pytest.approx(-np.cos(2.5) * (1 - 2 * 0.15), abs=SIGMAS)


def test_gates_on_more_qubits_are_decomposed_and_not_free_of_noise() -> None:
    x = [Parameter(name) for name in "xyz"]
    circuit = QuantumCircuit(3)
    for qubit, parameter in enumerate(x):
        circuit.ry(parameter, qubit)
    circuit.ccx(0, 1, 2)
    circuit = ParametrizedCircuit(circuit, x)
    angle = [float(np.pi), float(np.pi), 0.0]
    clean = readout(circuit, DepolarizingNoise(0.0, 0.0), angle)
    assert clean.tolist() == [1.0, 1.0, 1.0]
    assert readout(circuit, DepolarizingNoise(0.0, two_qubit=0.2), angle)[2] < 0.8


def test_relaxation_pulls_the_readout_towards_zero_state() -> None:
    noise = ThermalNoise(t1=10.0, t2=10.0, one_qubit_nanoseconds=5000.0)
    relaxed = readout(rotation(1), noise, [float(np.pi)])
    assert relaxed.item() == pytest.approx(2 * exp(-5.0 / 10.0) - 1, abs=SIGMAS)


def test_relaxation_acts_on_both_qubits_of_a_gate() -> None:
    x, y = Parameter("x"), Parameter("y")
    circuit = QuantumCircuit(2)
    circuit.ry(x, 0)
    circuit.ry(y, 1)
    circuit.cz(0, 1)
    noise = ThermalNoise(10.0, 10.0, one_qubit_nanoseconds=0.0, two_qubit_nanoseconds=4000.0)
    relaxed = readout(ParametrizedCircuit(circuit, [x, y]), noise, [float(np.pi)] * 2)
    np.testing.assert_allclose(relaxed.numpy(), 2 * exp(-0.4) - 1, rtol=0, atol=SIGMAS)


def test_device_that_is_made_up_reads_out_the_circuits_own_qubits() -> None:
    circuit = SuperpositionCircuit(3, reps=1)
    exact = SamplerBackend(circuit).readout(torch.tensor([[0.5, -0.5, 0.1]], dtype=torch.float64))
    noisy = readout(circuit, GenericDeviceNoise(6, seed=3), [0.5, -0.5, 0.1])
    assert not torch.equal(noisy, exact[0])
    torch.testing.assert_close(noisy, exact[0], rtol=0, atol=SIGMAS + 0.1)


def of_device(name: str, circuit: Any = None, shots: int = SHOTS) -> SamplerBackend:
    """A backend with the noise of a real snapshot; skips where its library is not installed."""
    pytest.importorskip("qiskit_ibm_runtime")
    circuit = SuperpositionCircuit(3, reps=1) if circuit is None else circuit
    return SamplerBackend(circuit, 3, AerSampling(shots, noise=DeviceNoise(name)))


def drawn(backend: SamplerBackend, rows: int = 2) -> torch.Tensor:
    values = np.random.default_rng(0).uniform(-1.0, 1.0, (rows, 3))
    return backend.readout(torch.from_numpy(values), np.arange(rows, dtype=np.uint64) + 7)


@pytest.mark.parametrize("name", ["FakeManilaV2", "FakeLimaV2"])
def test_snapshot_of_a_real_device_is_noisy_and_reads_out_the_circuits_own_qubits(
    name: str,
) -> None:
    noisy = drawn(of_device(name))
    exact = drawn(SamplerBackend(SuperpositionCircuit(3, reps=1), 3))
    assert (noisy - exact).abs().max() > SIGMAS  # readout errors of these devices: 2 to 4 %
    torch.testing.assert_close(noisy, exact, rtol=0, atol=SIGMAS + 0.15)


def test_large_device_reads_out_the_circuits_own_qubits_and_can_be_differentiated() -> None:
    backend = of_device("FakeSherbrooke", SuperpositionCircuit(2, reps=1), shots=2000)
    weights = backend.initial_weights().requires_grad_()
    values = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    readout = backend.readout(values, np.array([3], dtype=np.uint64), weights)
    (readout * torch.tensor([1.0, -2.0])).sum().backward()
    exact = SamplerBackend(SuperpositionCircuit(2, reps=1), 3)
    own = exact.initial_weights().requires_grad_()
    expected = exact.readout(values, None, own)
    (expected * torch.tensor([1.0, -2.0])).sum().backward()
    five_sigma = 5 / 2000**0.5
    torch.testing.assert_close(readout, expected, rtol=0, atol=five_sigma + 0.1)
    torch.testing.assert_close(weights.grad, own.grad, rtol=0, atol=3 * five_sigma + 0.2)


def test_noise_of_a_circuits_own_qubits_is_all_that_it_meets() -> None:
    """The noise of the whole device gives the same shots, and costs seconds for each circuit."""
    backend = of_device("FakeManilaV2", shots=500)
    sampler = backend.recipe.sampler()
    circuit = backend.describe().circuit.measure_all(inplace=False)
    values = np.linspace(-1, 1, circuit.num_parameters)
    physical = sampler.pass_manager.run(circuit).assign_parameters(values)
    own = sampler.sampler
    part = own._draw(physical, 500, key=11)
    noise = own._noise_of(physical)
    count = sum(len(errors) for errors in noise._local_quantum_errors.values())
    assert count < sum(len(errors) for errors in own.noise._local_quantum_errors.values())
    assert len(noise._local_readout_errors) == 3 < len(own.noise._local_readout_errors)
    whole = own.simulator.run(physical, shots=500, seed_simulator=11 >> 1).result()
    assert part == {int(key, 16): n for key, n in whole.data(0)["counts"].items()}


def test_circuit_that_the_snapshot_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"circuit of 6 qubits on a device of 5: .*larger device"):
        of_device("FakeManilaV2", SuperpositionCircuit(6)).check_ready()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FakeManila", r"Unknown device 'FakeManila'.*Did you mean FakeManilaV2 or"),
        ("os", r"Unknown device 'os'.*It has FakeAachen, .*FakeManilaV2"),
        ("FakeProviderForBackendV2", r"Unknown device 'FakeProviderForBackendV2'"),
    ],
)
def test_unknown_snapshot_names_those_that_exist(name: str, message: str) -> None:
    pytest.importorskip("qiskit_ibm_runtime")
    with pytest.raises(ValueError, match=message):
        DeviceNoise(name).build()


def test_snapshot_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qiskit_ibm_runtime", None)
    with pytest.raises(ModuleNotFoundError, match=r"FakeGone: .*\[hardware\].*GenericDeviceNoise"):
        DeviceNoise("FakeGone").build()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DepolarizingNoise(one_qubit=-0.1), r"`one_qubit` to be a probability.*got -0.1"),
        (lambda: DepolarizingNoise(two_qubit=1.5), r"`two_qubit` to be a probability.*got 1.5"),
        (lambda: DepolarizingNoise(readout=float("nan")), r"`readout` to be a probability.*nan"),
        (lambda: ThermalNoise(t1=10.0, t2=30.0), r"0 < t2 <= 2 \* t1, got 10.0 and 30.0.*micros"),
        (lambda: ThermalNoise(t1=-1.0, t2=-3.0), r"0 < t2 <= 2 \* t1, got -1.0 and -3.0"),
        (lambda: ThermalNoise(t1=float("inf")), r"got inf and 100.0"),
        (
            lambda: ThermalNoise(one_qubit_nanoseconds=-5.0),
            r"`one_qubit_nanoseconds` to be non-negative and finite, got -5.0.*Give nanoseconds",
        ),
        (lambda: GenericDeviceNoise(1), r"at least 2 qubits and a non-negative seed, got 1 and 0"),
        (lambda: GenericDeviceNoise(4, seed=-1), r"non-negative seed, got 4 and -1.*seed=0"),
    ],
)
def test_noise_out_of_range_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

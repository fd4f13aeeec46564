"""Noise against what theory says of one qubit, and devices against their layouts."""

import sys
from math import exp
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.providers.fake_provider import GenericBackendV2

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


@pytest.fixture
def snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the snapshots of qiskit-ibm-runtime."""
    module, provider = ModuleType("qiskit_ibm_runtime"), ModuleType("fake_provider")
    provider.FakeLine = lambda: GenericBackendV2(4, seed=3)  # type: ignore[attr-defined]
    provider.FakeOther = object  # type: ignore[attr-defined]
    module.fake_provider = provider  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "qiskit_ibm_runtime", module)
    monkeypatch.setitem(sys.modules, "qiskit_ibm_runtime.fake_provider", provider)


@pytest.mark.usefixtures("snapshots")
def test_snapshot_of_a_device_is_found_by_its_name() -> None:
    noisy = readout(SuperpositionCircuit(2, reps=1), DeviceNoise("FakeLine"), [0.5, -0.5])
    exact = SamplerBackend(SuperpositionCircuit(2, reps=1)).readout(
        torch.tensor([[0.5, -0.5]], dtype=torch.float64)
    )
    torch.testing.assert_close(noisy, exact[0], rtol=0, atol=SIGMAS + 0.1)


@pytest.mark.usefixtures("snapshots")
@pytest.mark.parametrize("name", ["FakeNowhere", "os"])
def test_unknown_snapshot_lists_the_known_ones(name: str) -> None:
    message = rf"Unknown device '{name}'.*Choose one of FakeLine, FakeOther"
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

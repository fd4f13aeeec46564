"""The gradient in an unmodified SamplerQNN, against the network with its own gradient."""

import copy
import pickle
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.primitives import BaseSamplerV2, StatevectorSampler
from qiskit.transpiler import generate_preset_pass_manager
from qiskit_aer.primitives import SamplerV2
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.gradients import ParamShiftSamplerGradient
from qiskit_machine_learning.primitives import QMLSampler

from lightning_qsgd.backends.plugins import VectorizedSampler, VectorizedShiftGradient
from lightning_qsgd.circuits import ParametrizedCircuit
from tests.unit.backends.plugins.networks import INTERPRETATIONS, data, plain, plugged, small
from tests.unit.backends.random_circuits import random_circuit


def check_equal(found: tuple[Any, ...], expected: tuple[Any, ...], atol: float = 1e-10) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=0, atol=atol)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), num_qubits=st.integers(1, 4), num_gates=st.integers(0, 8))
def test_random_circuits_have_the_gradients_of_parameter_shift(
    seed: int, num_qubits: int, num_gates: int
) -> None:
    built = random_circuit(seed, num_qubits, num_gates)
    sampler = VectorizedSampler()
    oracle = plain(built, sampler=sampler, gradient=ParamShiftSamplerGradient(sampler))
    inputs, weights = data(built, seed=seed)
    check_equal(plugged(built).backward(inputs, weights), oracle.backward(inputs, weights))


@pytest.mark.parametrize("seed", range(4))
def test_random_circuits_have_the_gradients_of_an_unmodified_network(seed: int) -> None:
    built = random_circuit(seed, 3, 4)
    inputs, weights = data(built, batch=2)
    check_equal(plugged(built).backward(inputs, weights), plain(built).backward(inputs, weights))


@pytest.mark.parametrize("input_gradients", [True, False])
@pytest.mark.parametrize("interpretation", INTERPRETATIONS.values(), ids=INTERPRETATIONS)
def test_interpretations_agree(interpretation: dict[str, Any], input_gradients: bool) -> None:
    options = interpretation | {"input_gradients": input_gradients}
    inputs, weights = data(small())
    found = plugged(small(), **options).backward(inputs, weights)
    check_equal(found, plain(small(), **options).backward(inputs, weights))


def test_gradients_pass_through_the_torch_connector() -> None:
    inputs, weights = data(small())
    gradients = []
    for network in (plain(small()), plugged(small())):
        module = TorchConnector(network, initial_weights=weights)
        rows = torch.tensor(inputs, requires_grad=True)
        (module(rows) ** 2).sum().backward()
        gradients.append((rows.grad, module.weight.grad))
    check_equal(gradients[1], gradients[0], atol=1e-6)  # the connector computes in float32


SAMPLERS = {
    "exact": QMLSampler,
    "shots": lambda: StatevectorSampler(default_shots=100, seed=0),
    "aer": lambda: SamplerV2(default_shots=100, seed=0),
    "vectorized shots": lambda: VectorizedSampler(shots=100),
}


class Recorded(BaseSamplerV2):  # type: ignore[misc]
    """Hands out what it has drawn once again, as a batch or one by one."""

    def __init__(self, sampler: BaseSamplerV2) -> None:
        self.sampler = sampler
        self.rows: list[dict[str, float]] = []
        self.calls = 0

    def run(self, pubs: Any, *, shots: int | None = None) -> Any:
        self.calls += 1
        job = self.sampler.run(list(pubs), shots=shots)
        for result in job.result():
            shape = result.data.shape
            self.rows += [result.data.meas.get_counts(row) for row in range(*shape)]
        return job


@pytest.mark.parametrize("name", SAMPLERS)
def test_any_sampler_serves(name: str) -> None:
    built = small()
    sampler = Recorded(SAMPLERS[name]())
    inputs, weights = data(built)
    network = plain(built, sampler=sampler, gradient=VectorizedShiftGradient(sampler))
    by_inputs, by_weights = network.backward(inputs, weights)
    assert sampler.calls == 1
    # The obvious way through the same counts: 4 gates, shifted up and down, for each row.
    drawn = np.array(
        [[row.get(f"{k:02b}", 0) / sum(row.values()) for k in range(4)] for row in sampler.rows]
    ).reshape(3, 2, 4, 4)
    by_gate = (drawn[:, 0] - drawn[:, 1]) / 2  # ry, rz of qubit 0, then of qubit 1
    expected = by_gate.swapaxes(1, 2)
    np.testing.assert_allclose(by_inputs, np.pi * expected[:, :, [0, 2]], rtol=0, atol=1e-10)
    np.testing.assert_allclose(by_weights, expected[:, :, [0, 2, 1, 3]], rtol=0, atol=1e-10)


@pytest.mark.parametrize("num_bits", [9, 13])
def test_shots_of_wide_registers_are_counted(num_bits: int) -> None:
    # More than one byte per shot, and more outcomes than get a column each.
    circuit = QuantumCircuit(num_bits)
    angle = Parameter("a")
    circuit.ry(angle, num_bits - 1)
    circuit.x(0)
    circuit.measure_all()
    sampler = SamplerV2(default_shots=2000, seed=0)
    result = VectorizedShiftGradient(sampler).run([circuit], [[0.4]]).result()
    (((gradient,),)) = result.gradients
    assert gradient.keys() == {1, 1 + 2 ** (num_bits - 1)}
    assert gradient[1] == pytest.approx(-np.sin(0.4) / 2, abs=0.1)
    assert sum(gradient.values()) == pytest.approx(0)


@pytest.mark.parametrize("expression", [lambda a, b: a * b, lambda a, b: (a**2).sin() + 3 * b])
def test_angles_may_be_any_expression(expression: Any) -> None:
    a, b, weight = Parameter("a"), Parameter("b"), Parameter("w")
    circuit = QuantumCircuit(2)
    circuit.ry(expression(a, b), 0)
    circuit.rx(weight - a / 2, 1)
    circuit.cx(0, 1)
    built = ParametrizedCircuit(circuit, (a, b), (weight,))
    inputs, weights = data(built)
    network = plain(built, gradient=VectorizedShiftGradient(QMLSampler()))
    check_equal(network.backward(inputs, weights), plain(built).backward(inputs, weights))


@pytest.mark.parametrize("level", [0, 1, 3])
def test_pass_managers_transpile_the_shifted_circuit_once(level: int) -> None:
    calls: list[Any] = []
    manager = generate_preset_pass_manager(
        level,
        coupling_map=[[0, 1], [1, 0], [1, 2], [2, 1]],
        basis_gates=["rz", "sx", "x", "cx"],
        seed_transpiler=1,
    )
    original = manager.run
    manager.run = lambda circuit: calls.append(circuit) or original(circuit)
    built = small()
    bare = built.circuit.copy()
    bare.measure_all()
    samples, values = [bare] * 3, np.random.default_rng(0).normal(size=(3, 6))
    sampler = VectorizedSampler()
    gradient = VectorizedShiftGradient(sampler, pass_manager=manager)
    found = [gradient.run(samples, values).result().gradients for _ in range(2)]
    expected = ParamShiftSamplerGradient(sampler).run(samples, values).result().gradients
    assert len(calls) == 1
    assert found[0] == found[1]
    for one, other in zip(chain(*found[0]), chain(*expected), strict=True):
        assert one == pytest.approx({k: v for k, v in other.items() if k in one}, abs=1e-10)
        assert all(abs(v) < 1e-10 for k, v in other.items() if k not in one)


def test_transpiled_networks_agree() -> None:
    manager = generate_preset_pass_manager(
        1, coupling_map=[[0, 1], [1, 0]], basis_gates=["rz", "sx", "x", "cx"], seed_transpiler=0
    )
    inputs, weights = data(small(), batch=2)
    expected = plain(small(), pass_manager=manager).backward(inputs, weights)
    check_equal(plugged(small(), pass_manager=manager).backward(inputs, weights), expected)


@pytest.mark.parametrize("register", ["meas", "c"])
def test_partly_measured_circuits_agree(register: str) -> None:
    x = ParameterVector("x", 3)
    circuit = QuantumCircuit(3)
    circuit.add_register(ClassicalRegister(2, register))
    for qubit, angle in enumerate(x):
        circuit.ry(angle * 2, qubit)
    circuit.cx(0, 2)
    circuit.measure([2, 1], [0, 1])
    built = ParametrizedCircuit(circuit, tuple(x))
    inputs, weights = data(built)
    check_equal(plugged(built).backward(inputs, weights), plain(built).backward(inputs, weights))


def test_circuits_of_one_run_may_differ() -> None:
    circuits = [random_circuit(seed, 2, 3).circuit for seed in range(2)]
    for circuit in circuits:
        circuit.measure_all()
    order = [circuits[0], circuits[1], circuits[0]]
    values = np.random.default_rng(0).normal(size=(3, 7))
    wanted = [None, list(circuits[1].parameters)[2:4], list(circuits[0].parameters)[:1]]
    sampler = Recorded(VectorizedSampler())
    result = VectorizedShiftGradient(sampler).run(order, values, wanted).result()
    expected = ParamShiftSamplerGradient(VectorizedSampler()).run(order, values, wanted).result()
    assert sampler.calls == 1
    assert [len(each) for each in result.gradients] == [7, 2, 1]
    assert result.metadata == expected.metadata
    for one, other in zip(chain(*result.gradients), chain(*expected.gradients), strict=True):
        assert one == pytest.approx({k: other[k] for k in one}, abs=1e-10)


def test_parameters_of_the_global_phase_alone_have_no_gradient() -> None:
    phase, angle = Parameter("p"), Parameter("a")
    circuit = QuantumCircuit(1, global_phase=phase)
    circuit.ry(angle, 0)
    circuit.measure_all()
    gradient = VectorizedShiftGradient(VectorizedSampler())
    ((by_angle, by_phase),) = gradient.run([circuit], [[0.3, 0.2]]).result().gradients
    assert by_phase == {}
    assert by_angle == pytest.approx({0: -np.sin(0.3) / 2, 1: np.sin(0.3) / 2})
    assert gradient.run([circuit], [[0.3, 0.2]], [[phase]]).result().gradients == [[{}]]


def test_plans_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_qsgd.backends.plugins import shift_gradient as vectorized_shift_gradient

    made: list[Any] = []
    original = vectorized_shift_gradient.ShiftPlan
    monkeypatch.setattr(
        vectorized_shift_gradient, "ShiftPlan", lambda *a: made.append(a) or original(*a)
    )
    network, (inputs, weights) = plugged(small()), data(small())
    for _ in range(3):
        network.backward(inputs, weights)
    assert len(made) == 1


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_copies_return_the_same(twin: Any) -> None:
    circuit = small().circuit.copy()
    circuit.measure_all()
    gradient = VectorizedShiftGradient(VectorizedSampler())
    values = [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]
    expected = gradient.run([circuit], values).result().gradients
    assert twin(gradient).run([circuit], values).result().gradients == expected


def test_circuits_without_parameters_are_refused_by_the_base_class() -> None:
    circuit = QuantumCircuit(1)
    circuit.measure_all()
    with pytest.raises(ValueError, match="not parameterised"):
        VectorizedShiftGradient(VectorizedSampler()).run([circuit], [[]])


def test_circuits_without_parameters_have_no_gradient_in_a_network() -> None:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    assert plugged(ParametrizedCircuit(circuit, ())).backward(None, None) == (None, None)

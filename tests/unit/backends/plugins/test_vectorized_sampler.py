"""The sampler in an unmodified SamplerQNN, against the network with its own sampler."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Clbit, Parameter, ParameterVector, Qubit
from qiskit.primitives import StatevectorSampler
from qiskit.transpiler import generate_preset_pass_manager
from qiskit_machine_learning.exceptions import QiskitMachineLearningError
from qiskit_machine_learning.neural_networks import SamplerQNN
from scipy import stats

from lightning_qsgd.backends.plugins import VectorizedSampler, VectorizedShiftGradient
from lightning_qsgd.circuits import ParametrizedCircuit
from tests.unit.backends.plugins.networks import INTERPRETATIONS, data, plain, plugged, small
from tests.unit.backends.random_circuits import random_circuit


def measured(num_qubits: int = 2, parameter: str = "a") -> QuantumCircuit:
    circuit = QuantumCircuit(num_qubits)
    for qubit, angle in enumerate(ParameterVector(parameter, num_qubits)):
        circuit.ry(angle, qubit)
    circuit.measure_all()
    return circuit


def counts(sampler: VectorizedSampler, *pubs: Any, **options: Any) -> list[Any]:
    return [result.data.meas.get_counts() for result in sampler.run(pubs, **options).result()]


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), num_qubits=st.integers(1, 5), num_gates=st.integers(0, 12))
def test_network_returns_its_own_numbers_on_random_circuits(
    seed: int, num_qubits: int, num_gates: int
) -> None:
    built = random_circuit(seed, num_qubits, num_gates)
    inputs, weights = data(built, seed=seed)
    expected = plain(built).forward(inputs, weights)
    np.testing.assert_allclose(
        plugged(built).forward(inputs, weights), expected, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("interpretation", INTERPRETATIONS.values(), ids=INTERPRETATIONS)
def test_interpretations_agree(interpretation: dict[str, Any]) -> None:
    inputs, weights = data(small())
    expected = plain(small(), **interpretation).forward(inputs, weights)
    found = plugged(small(), **interpretation).forward(inputs, weights)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_transpiled_networks_agree(seed: int) -> None:
    line = [[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 2]]
    manager = generate_preset_pass_manager(
        2, coupling_map=line, basis_gates=["rz", "sx", "x", "cx"], seed_transpiler=seed
    )
    built = random_circuit(seed, 3, 6)
    transpiled = ParametrizedCircuit(manager.run(built.circuit), built.inputs, built.weights)
    inputs, weights = data(built)
    expected = plain(transpiled).forward(inputs, weights)
    np.testing.assert_allclose(
        plugged(transpiled).forward(inputs, weights), expected, rtol=0, atol=1e-10
    )
    np.testing.assert_allclose(expected, plain(built).forward(inputs, weights), atol=1e-10)


@pytest.mark.parametrize("register", ["meas", "c"])
def test_partly_measured_circuits_agree_row_by_row(register: str) -> None:
    # A network adds up the batch if the register has another name than "meas": rows one by one.
    x = ParameterVector("x", 3)
    circuit = QuantumCircuit(3)
    circuit.add_register(ClassicalRegister(2, register))
    for qubit, angle in enumerate(x):
        circuit.ry(angle, qubit)
    circuit.cx(0, 2)
    circuit.measure([2, 1], [0, 1])
    built = ParametrizedCircuit(circuit, tuple(x))
    inputs, weights = data(built)
    found = plugged(built).forward(inputs, weights)
    for row, each in enumerate(inputs):
        expected = plain(built).forward(each[None], weights)
        np.testing.assert_allclose(found[row : row + 1], expected, rtol=0, atol=1e-10)


def test_circuit_without_parameters_is_evaluated_once() -> None:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    output = plugged(ParametrizedCircuit(circuit, ())).forward(None, None)
    np.testing.assert_allclose(output, [[0.5, 0.5, 0, 0]], atol=1e-15)


def test_circuit_without_inputs_takes_its_weights() -> None:
    built = ParametrizedCircuit(*_one_rotation())
    np.testing.assert_allclose(
        plugged(built).forward(None, [0.3]), plain(built).forward(None, [0.3]), atol=1e-10
    )


def _one_rotation() -> tuple[QuantumCircuit, tuple[Parameter, ...], tuple[Parameter, ...]]:
    weight = Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.rx(weight, 0)
    return circuit, (), (weight,)


def test_pubs_of_different_circuits_keep_their_order() -> None:
    one, two = measured(1, "a"), measured(2, "b")
    pubs = (two, [np.pi, 0.0]), (one, [0.0]), (two, [0.0, np.pi]), (one, [np.pi])
    found = [max(each, key=each.get) for each in counts(VectorizedSampler(), *pubs)]
    assert found == ["01", "0", "10", "1"]


def test_arrays_of_parameters_keep_their_shape() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 2))
    table = VectorizedSampler().run([(measured(), values)]).result()[0].data.meas
    assert table.shape == (2, 3)
    alone = counts(VectorizedSampler(), (measured(), values[1, 2]))[0]
    assert table.get_counts((1, 2)) == pytest.approx(alone)


def test_parameters_bound_by_name_find_their_place() -> None:
    pub = measured(), {"a[1]": [0.0], "a[0]": [np.pi]}
    table = VectorizedSampler().run([pub]).result()[0].data.meas
    np.testing.assert_allclose(table.probabilities, [0, 1, 0, 0], atol=1e-12)


def test_shots_follow_the_exact_probabilities() -> None:
    angles = np.random.default_rng(1).normal(size=(4, 2))
    exact = VectorizedSampler().run([(measured(), angles)]).result()[0].data.meas
    drawn = VectorizedSampler(shots=20_000, seed=3).run([(measured(), angles)]).result()
    table = drawn[0].data.meas
    assert (table.num_shots, drawn[0].metadata) == (20_000, {"shots": 20_000})
    for row in range(4):
        frequencies = table.values[row]
        assert frequencies.sum() == 20_000
        expected = exact.probabilities[row] * 20_000
        assert stats.chisquare(frequencies, expected).pvalue > 1e-3


def test_shots_differ_from_call_to_call_and_between_rows() -> None:
    sampler = VectorizedSampler(shots=1000)
    rows = np.full((2, 2), 1.0)
    first, second = (sampler.run([(measured(), rows)]).result()[0].data.meas for _ in range(2))
    assert first.get_counts(0) != second.get_counts(0)
    assert first.get_counts(0) != first.get_counts(1)


def test_a_seed_names_the_shots_of_all_calls() -> None:
    pub = measured(), [1.0, 2.0]
    runs = []
    for seed in (0, 0, 1):
        sampler = VectorizedSampler(shots=1000, seed=seed)
        runs.append([counts(sampler, pub) for _ in range(3)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_go_on_with_the_same_shots(twin: Any) -> None:
    sampler, pub = VectorizedSampler(shots=1000, seed=5), (measured(), [1.0, 2.0])
    counts(sampler, pub)
    assert counts(twin(sampler), pub) == counts(sampler, pub)


@pytest.mark.parametrize(
    ("sampler", "pub", "options", "expected"),
    [
        (None, (), {"shots": 10}, 10),
        (20, (), {}, 20),
        (20, (), {"shots": 10}, 10),
        (20, (30,), {"shots": 10}, 30),
    ],
    ids=["of the call", "of the sampler", "call over sampler", "pub over call"],
)
def test_the_closest_number_of_shots_counts(
    sampler: int | None, pub: tuple[int, ...], options: dict[str, int], expected: int
) -> None:
    full = (measured(), [1.0, 2.0], *pub)
    (found,) = counts(VectorizedSampler(shots=sampler), full, **options)
    assert sum(found.values()) == expected


def test_circuits_changed_in_place_are_compiled_again() -> None:
    sampler, circuit = VectorizedSampler(), QuantumCircuit(1)
    circuit.measure_all()
    before = counts(sampler, (circuit,))
    circuit.data.insert(0, measured(1).data[0].replace(params=[np.pi]))
    assert before == [{"0": 1.0}]
    assert counts(sampler, (circuit,))[0]["1"] == pytest.approx(1.0)


def test_circuits_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_qsgd.backends.plugins import vectorized_sampler

    compiled: list[Any] = []
    original = vectorized_sampler.CompiledCircuit

    def counting(*arguments: Any, **options: Any) -> Any:
        compiled.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(vectorized_sampler, "CompiledCircuit", counting)
    network, (inputs, weights) = plugged(small()), data(small())
    for _ in range(3):
        network.forward(inputs, weights)
    assert len(compiled) == 1


def test_circuit_that_measures_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="measures nothing: it has no outcomes"):
        VectorizedSampler().run([QuantumCircuit(1)])


def test_operations_that_cannot_be_compiled_are_named() -> None:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.reset(0)
    circuit.measure_all()
    with pytest.raises(ValueError, match="Cannot compile gate `reset`"):
        VectorizedSampler().run([circuit])


@pytest.mark.parametrize("shots", [0, -1])
def test_shots_must_be_positive(shots: int) -> None:
    with pytest.raises(ValueError, match=f"`shots` to be at least 1, got {shots}"):
        VectorizedSampler(shots=shots)
    with pytest.raises(ValueError, match=f"`shots` to be at least 1, got {shots}"):
        VectorizedSampler().run([measured(1).assign_parameters([0.0])], shots=shots)


def test_batches_beyond_the_memory_limit_are_refused() -> None:
    network = plain(small(), sampler=VectorizedSampler(memory_limit_gib=1e-5))
    with pytest.raises(QiskitMachineLearningError, match=r"over the limit of 0\.01 MiB"):
        network.forward(np.zeros((1000, 2)), np.zeros(4))


def test_missing_values_are_refused_by_qiskit() -> None:
    with pytest.raises(ValueError, match="inconsistent with last dimension"):
        VectorizedSampler().run([(measured(), [1.0])])


def _unused_first() -> QuantumCircuit:
    circuit = QuantumCircuit(2, 2)
    circuit.ry(1.1, 0)
    circuit.cx(0, 1)
    circuit.ry(0.4, 1)
    circuit.measure_all()
    return circuit


def _unused_around(places: list[int], qubits: list[int]) -> QuantumCircuit:
    registers = ClassicalRegister(3, "a"), ClassicalRegister(4, "b"), ClassicalRegister(1, "z")
    circuit = QuantumCircuit(QuantumRegister(3), *registers)
    circuit.ry(1.1, 0)
    circuit.cx(0, 1)
    circuit.ry(0.4, 1)
    circuit.x(2)
    circuit.measure(qubits, [registers[1][place] for place in places])
    return circuit


REGISTERS = {
    "measure_all beside another": _unused_first(),
    "between others": _unused_around([0, 1, 2], [0, 1, 2]),
    "in part": _unused_around([1, 3], [0, 2]),
    "out of order": _unused_around([3, 0, 2], [1, 2, 0]),
    "one qubit twice": _unused_around([0, 3], [1, 1]),
    "one bit twice": _unused_around([2, 2], [0, 1]),
}


@pytest.mark.parametrize("circuit", REGISTERS.values(), ids=REGISTERS)
def test_every_register_holds_what_qiskit_files_there(circuit: QuantumCircuit) -> None:
    pub = circuit, None, 20_000
    theirs = StatevectorSampler(seed=1).run([pub]).result()[0].data
    ours = VectorizedSampler().run([(circuit,)]).result()[0].data
    drawn = VectorizedSampler(shots=20_000).run([(circuit,)]).result()[0].data
    assert list(ours) == list(drawn) == list(theirs)
    for name in theirs:
        expected = {key: count / 20_000 for key, count in theirs[name].get_counts().items()}
        shots = {key: count / 20_000 for key, count in drawn[name].get_counts().items()}
        assert ours[name].get_counts() == pytest.approx(expected, abs=0.015)
        assert shots == pytest.approx(expected, abs=0.02)
        assert ours[name].num_bits == theirs[name].num_bits


def test_registers_without_measurements_hold_zeros_for_each_row() -> None:
    circuit = QuantumCircuit(2, 2)
    circuit.rx(Parameter("a"), 0)
    circuit.measure_all()
    pub = circuit, np.linspace(0, 1, 6).reshape(2, 3, 1)
    data = VectorizedSampler(shots=50).run([pub]).result()[0].data
    assert data.c.shape == data.meas.shape == (2, 3)
    assert data.c.get_counts((1, 2)) == {"00": 50}
    assert data.c.get_counts() == {"00": 300}


@pytest.mark.parametrize("name", ["meas", "b"])
def test_networks_read_the_register_that_is_measured(name: str) -> None:
    circuit, x = QuantumCircuit(2, 2), Parameter("x")
    circuit.ry(x, 0)
    circuit.add_register(ClassicalRegister(2, name))
    circuit.measure([0, 1], [2, 3])
    sampler = VectorizedSampler()
    network = SamplerQNN(
        circuit=circuit,
        input_params=[x],
        sampler=sampler,
        gradient=VectorizedShiftGradient(sampler),
        input_gradients=True,
    )
    rows = np.array([[0.3], [1.2]])
    cosines, sines = np.cos(rows[:, 0]), np.sin(rows[:, 0])
    zeros = np.zeros(2)
    expected = np.stack([(1 + cosines) / 2, (1 - cosines) / 2, zeros, zeros], axis=1)
    np.testing.assert_allclose(network.forward(rows, []), expected, atol=1e-12)
    by_inputs, _ = network.backward(rows, [])
    slopes = np.stack([-sines / 2, sines / 2, zeros, zeros], axis=1)
    np.testing.assert_allclose(by_inputs[:, :, 0], slopes, atol=1e-12)


def test_bits_of_no_register_are_refused() -> None:
    circuit = QuantumCircuit([Qubit()], [Clbit()])
    circuit.measure(0, 0)
    with pytest.raises(ValueError, match=r"classical bits of no register.*named by registers"):
        VectorizedSampler().run([circuit])


def test_several_measured_registers_are_refused() -> None:
    circuit = QuantumCircuit(
        QuantumRegister(2), ClassicalRegister(1, "y"), ClassicalRegister(1, "z")
    )
    circuit.measure([0, 1], [0, 1])
    with pytest.raises(ValueError, match=r"several registers \(y, z\).*Measure into one register"):
        VectorizedSampler().run([circuit])


@pytest.mark.parametrize(
    ("size", "message"),
    [(45, "over the limit of 4.00 GiB"), (70, "outcomes of 70 bits: .*at most 63 bits")],
)
def test_outcomes_too_large_for_memory_are_refused(size: int, message: str) -> None:
    circuit = QuantumCircuit(1, size)
    circuit.measure(0, size - 1)
    with pytest.raises(ValueError, match=message):
        VectorizedSampler().run([circuit]).result()

"""The reference backend against the matrix oracle, and its shots against statistics."""

import copy
import pickle
import random
import sys
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import generate_preset_pass_manager
from qiskit.circuit import ClassicalRegister, Parameter, QuantumCircuit, QuantumRegister
from qiskit.primitives import StatevectorSampler
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import Statevector
from qiskit_machine_learning.neural_networks import SamplerQNN
from scipy.stats import chisquare

from lightning_qsgd.backends import (
    AerSampling,
    CompiledBackend,
    ExactSampling,
    GenericDeviceNoise,
    GivenSampling,
    HardwareSampling,
    SamplerBackend,
    ShotSampling,
    SineBackend,
    SkipOnFailure,
)
from lightning_qsgd.backends.evaluation import Evaluation, serving
from lightning_qsgd.backends.keyed_sampler import KeyedSampler
from lightning_qsgd.circuits import ENTANGLEMENTS, ParametrizedCircuit, SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import AllEntries, Perturbation
from tests.cases import dense_problem
from tests.reference import circuit_readout


def inputs(rows: int, num_qubits: int, seed: int = 0) -> torch.Tensor:
    drawn = np.random.default_rng(seed).uniform(-2.0, 2.0, (rows, num_qubits))
    return torch.from_numpy(drawn)


def keys(count: int, first: int = 0) -> np.ndarray:
    return np.arange(first, first + count, dtype=np.uint64)


def test_unentangled_single_layer_is_the_sine() -> None:
    values = inputs(64, 4)
    readout = SamplerBackend(SuperpositionCircuit(4, reps=1, entanglement="none")).readout(values)
    torch.testing.assert_close(readout, torch.sin(torch.pi * values), rtol=0, atol=1e-10)
    torch.testing.assert_close(readout, SineBackend(4).readout(values), rtol=0, atol=1e-10)


@pytest.mark.parametrize("weight_seed", [None, 3])
@pytest.mark.parametrize(
    ("num_qubits", "reps", "entanglement"), list(product([1, 2, 3, 4], [1, 2], ENTANGLEMENTS))
)
def test_exact_readout_agrees_with_the_matrix_oracle(
    num_qubits: int, reps: int, entanglement: Any, weight_seed: int | None
) -> None:
    backend = SamplerBackend(
        SuperpositionCircuit(num_qubits, reps, entanglement), weight_seed=weight_seed
    )
    values = inputs(3, num_qubits)
    weights = backend.initial_weights().tolist()
    expected = [circuit_readout(row, reps, entanglement, weights) for row in values.tolist()]
    torch.testing.assert_close(
        backend.readout(values), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10
    )


def test_weights_are_zero_without_a_seed_and_reproducible_with_one() -> None:
    assert not SamplerBackend(SuperpositionCircuit(3, reps=2)).initial_weights().any()
    drawn = SamplerBackend(SuperpositionCircuit(3, reps=2), weight_seed=5).initial_weights()
    assert drawn.shape == (12,)
    assert (drawn.abs() <= np.pi).all()
    assert (
        drawn == SamplerBackend(SuperpositionCircuit(3, reps=2), weight_seed=5).initial_weights()
    ).all()
    assert (
        drawn != SamplerBackend(SuperpositionCircuit(3, reps=2), weight_seed=6).initial_weights()
    ).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_readout_keeps_shape_and_dtype_and_lies_in_the_unit_interval(dtype: torch.dtype) -> None:
    values = inputs(7, 3).to(dtype)
    readout = SamplerBackend(SuperpositionCircuit(3)).readout(values)
    assert (readout.shape, readout.dtype) == ((7, 3), dtype)
    assert readout.abs().max() <= 1.0


def test_describe_returns_the_circuit_that_is_evaluated() -> None:
    built = SamplerBackend(SuperpositionCircuit(3, reps=2)).describe()
    assert (built.num_qubits, len(built.inputs), len(built.weights)) == (3, 3, 12)


def test_shots_are_a_function_of_the_key_alone() -> None:
    backend = SamplerBackend(SuperpositionCircuit(2), sampling=50)
    values = inputs(6, 2)
    first = backend.readout(values, keys(6))
    assert torch.equal(first, backend.readout(values, keys(6)))
    assert not torch.equal(first, backend.readout(values, keys(6, first=100)))
    reordered = backend.readout(values.flip(0), keys(6)[::-1].copy())
    assert torch.equal(first, reordered.flip(0))
    alone = backend.readout(values[2:3], keys(1, first=2))
    torch.testing.assert_close(alone, first[2:3], rtol=0, atol=1e-14)  # BLAS sums in its own order


def test_equal_inputs_with_different_keys_draw_different_shots() -> None:
    readout = SamplerBackend(SuperpositionCircuit(4), sampling=30).readout(
        torch.full((8, 4), 0.1), keys(8)
    )
    assert len({tuple(row) for row in readout.tolist()}) == 8


def test_mean_over_keys_lies_within_five_sigma_of_the_exact_readout() -> None:
    shots, rows = 100, 200
    values = inputs(1, 2).expand(rows, 2).contiguous()
    exact = SamplerBackend(SuperpositionCircuit(2), weight_seed=1).readout(values[:1])[0]
    drawn = SamplerBackend(SuperpositionCircuit(2), weight_seed=1, sampling=shots).readout(
        values, keys(rows)
    )
    sigma = torch.sqrt((1 - exact**2) / (shots * rows))
    assert ((drawn.mean(0) - exact).abs() < 5 * sigma).all()
    spread = torch.sqrt((1 - exact**2) / shots)
    torch.testing.assert_close(drawn.std(0), spread, rtol=0.2, atol=0)


def test_outcomes_follow_the_exact_distribution() -> None:
    backend = SamplerBackend(SuperpositionCircuit(3), weight_seed=2)
    circuit = backend.describe()
    bound = circuit.circuit.assign_parameters(
        dict(
            zip(
                [*circuit.inputs, *circuit.weights],
                [0.1, 0.2, 0.3, *backend.initial_weights()],
                strict=True,
            )
        )
    )
    probabilities = Statevector(bound).probabilities()
    sampler = KeyedSampler(shots=200)
    measured = bound.measure_all(inplace=False)
    total = np.zeros(8)
    for key in range(100):
        with serving(Evaluation(keys(1, first=key))):
            counts = sampler.run([measured]).result()[0].data.meas.get_int_counts()
        for outcome, count in counts.items():
            total[outcome] += count
    assert total.sum() == 200 * 100
    assert chisquare(total, probabilities * total.sum()).pvalue > 1e-3


@pytest.mark.parametrize("sampling", [ShotSampling(4000), AerSampling(4000)])
def test_keyed_samplers_file_counts_under_each_register(sampling: Any) -> None:
    registers = ClassicalRegister(3, "a"), ClassicalRegister(3, "b"), ClassicalRegister(1, "z")
    circuit = QuantumCircuit(QuantumRegister(3), *registers)
    circuit.ry(1.1, 0)
    circuit.cx(0, 2)
    circuit.x(1)
    circuit.measure([0, 1, 2, 0], [5, 4, 1, 6])
    expected = StatevectorSampler(seed=1).run([(circuit, None, 4000)]).result()[0].data
    with serving(Evaluation(keys(1))):
        found = sampling.sampler().run([circuit]).result()[0].data
    assert list(found) == list(expected) == ["a", "b", "z"]
    for name in expected:
        counts = expected[name].get_counts()
        assert found[name].get_counts() == pytest.approx(counts, abs=150)  # 5 standard deviations


def test_one_step_makes_one_batched_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    forward = SamplerQNN.forward

    def counted(self: SamplerQNN, values: Any, weights: Any) -> Any:
        calls.append(len(values))
        return forward(self, values, weights)

    monkeypatch.setattr(SamplerQNN, "forward", counted)
    problem = dense_problem(shapes=((5,), (4,), (1,)))
    perturbation = Perturbation(
        backend=SamplerBackend(SuperpositionCircuit(2)), coordinates=AllEntries()
    )
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=1e-2), perturbation)
    for _ in range(2):
        problem.backward()
        optimizer.step()
    assert calls == [6, 6]
    assert optimizer.report is not None
    assert optimizer.report.circuits == 6


def test_shots_leave_every_global_generator_alone() -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    SamplerBackend(SuperpositionCircuit(2), sampling=10).readout(inputs(3, 2), keys(3))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert before[2] == random.getstate()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_qubits": 0}, r"Expected `num_qubits` to be at least 1, got 0: .* paper uses"),
        ({"num_qubits": -3}, r"Expected `num_qubits` to be at least 1, got -3"),
        ({"num_qubits": 40}, r"Cannot evaluate 1 circuit\(s\) of 40 qubits: .*Use fewer qubits"),
        ({"reps": 0}, r"Expected `reps` to be at least 1, got 0"),
        ({"sampling": 0}, r"Expected `shots` to be at least 1, got 0: .*Use ExactSampling"),
        ({"sampling": -5}, r"Expected `shots` to be at least 1, got -5"),
        ({"weight_seed": -1}, r"Expected `weight_seed` to be non-negative, got -1"),
        ({"entanglement": "ring"}, r"Unknown entanglement 'ring': .*none, linear, circular, full"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    settings = dict(settings)
    own = {name: settings.pop(name) for name in ("sampling", "weight_seed") if name in settings}
    with pytest.raises(ValueError, match=message):
        SamplerBackend(SuperpositionCircuit(**settings), **own)


def test_shots_without_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Got no `keys`, and ShotSampling draws.*one uint64 per"):
        SamplerBackend(SuperpositionCircuit(2), sampling=10).readout(inputs(3, 2))


@pytest.mark.parametrize("count", [0, 2, 4])
def test_keys_of_another_number_are_refused(count: int) -> None:
    backend = SamplerBackend(SuperpositionCircuit(2), sampling=10)
    with pytest.raises(ValueError, match=rf"Got 3 circuits and {count} keys.*one uint64 per"):
        backend.readout(inputs(3, 2), keys(count))


def test_sampler_that_serves_nobody_asks_for_keys() -> None:
    circuit = SuperpositionCircuit(2).build().circuit.measure_all(inplace=False)
    with pytest.raises(ValueError, match=r"Got no `keys`, and the sampler draws shots"):
        KeyedSampler(shots=5).run([(circuit, np.zeros(10))])


@pytest.mark.parametrize("kind", [SamplerBackend, CompiledBackend])
def test_arguments_that_do_not_fit_are_refused(kind: Any) -> None:
    backend = kind(SuperpositionCircuit(2))
    for wrong in (torch.zeros(2), torch.zeros(3, 5), torch.zeros(1, 3, 2)):
        with pytest.raises(ValueError, match=r"`inputs` of shape \(B, 2\), got .*Reshape"):
            backend.readout(wrong)
    with pytest.raises(ValueError, match=r"`weights` of shape \(8,\), got \(3,\).*one value per"):
        backend.readout(torch.zeros(3, 2), weights=torch.zeros(3))
    for dtype in (torch.int64, torch.complex64):
        with pytest.raises(TypeError, match=r"floating-point numbers, got torch\..*\.float\(\)"):
            backend.readout(torch.zeros(3, 2, dtype=dtype))


def entangled_reset() -> ParametrizedCircuit:
    x = Parameter("x")
    circuit = QuantumCircuit(2)
    circuit.ry(x, 0)
    circuit.cx(0, 1)
    circuit.reset(0)
    return ParametrizedCircuit(circuit, [x])


def loop() -> ParametrizedCircuit:
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    with circuit.for_loop(range(2)):
        circuit.ry(0.5, 0)
        circuit.break_loop()
    circuit.ry(x, 0)
    return ParametrizedCircuit(circuit, [x])


@pytest.mark.parametrize("sampling", [ExactSampling(), 10], ids=["exact", "shots"])
@pytest.mark.parametrize("circuit", [entangled_reset(), loop()], ids=["reset", "for_loop"])
def test_circuit_that_ends_in_no_single_state_is_left_to_aer(circuit: Any, sampling: Any) -> None:
    with pytest.raises(ValueError, match=r"with `(reset|for_loop)` from one state.*AerSampling"):
        SamplerBackend(circuit, sampling=sampling)
    aer = SamplerBackend(circuit, sampling=AerSampling(50))
    assert aer.readout(torch.full((2, 1), 0.5), keys(2)).shape == (2, 1)


def test_resets_of_untouched_qubits_change_nothing() -> None:
    x = Parameter("x")
    circuit = QuantumCircuit(2)
    circuit.initialize([0.6, 0.8], 1)
    circuit.reset(0)
    circuit.ry(x, 0)
    circuit.cx(0, 1)
    values = inputs(3, 1)
    readouts = [
        kind(ParametrizedCircuit(circuit, [x])).readout(values)
        for kind in (SamplerBackend, CompiledBackend)
    ]
    torch.testing.assert_close(*readouts, rtol=0, atol=1e-10)


def test_memory_does_not_grow_with_the_number_of_shots() -> None:
    many = SamplerBackend(SuperpositionCircuit(2), 1, sampling=10**15)  # petabytes, one by one
    exact = SamplerBackend(SuperpositionCircuit(2), 1).readout(inputs(3, 2))
    torch.testing.assert_close(many.readout(inputs(3, 2), keys(3)), exact, rtol=0, atol=5e-7)
    with pytest.raises(ValueError, match=r"1,000,000,000 shots with AerSampling.* 223 GiB.*fewer"):
        SamplerBackend(sampling=AerSampling(10**9))


def test_gradients_of_weights_and_inputs_agree_with_finite_differences() -> None:
    backend = SamplerBackend(SuperpositionCircuit(2, reps=1), weight_seed=1)
    values = inputs(2, 2).requires_grad_()
    weights = backend.initial_weights().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: backend.readout(x, None, w), (values, weights))


def test_gradient_of_weights_alone_is_the_same() -> None:
    backend = SamplerBackend(SuperpositionCircuit(2), weight_seed=1)
    gradients = []
    for values in (inputs(3, 2), inputs(3, 2).requires_grad_()):
        weights = backend.initial_weights().requires_grad_()
        backend.readout(values, None, weights).sum().backward()
        gradients.append(weights.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-14)


def test_given_weights_take_the_place_of_the_seeded_ones() -> None:
    drawn = SamplerBackend(SuperpositionCircuit(2), weight_seed=4)
    zero = SamplerBackend(SuperpositionCircuit(2))
    values = inputs(3, 2)
    assert torch.equal(drawn.readout(values), zero.readout(values, None, drawn.initial_weights()))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])
@pytest.mark.parametrize("sampling", [ExactSampling(), ShotSampling(20), AerSampling(20)], ids=str)
def test_copied_backend_is_equal_and_reads_out_the_same(sampling: Any, copied: Any) -> None:
    backend = SamplerBackend(SuperpositionCircuit(2), 1, sampling, SkipOnFailure(3))
    values = inputs(3, 2)
    readout = backend.readout(values, keys(3))  # a network exists by now
    assert copied(backend) == backend
    assert hash(copied(backend)) == hash(backend)
    assert torch.equal(copied(backend).readout(values, keys(3)), readout)


def test_measurements_at_the_end_of_a_circuit_make_no_difference() -> None:
    built = SuperpositionCircuit(2).build()
    measured = built.circuit.copy()
    measured.add_register(ClassicalRegister(2, "mine"))
    measured.measure([1, 0], [0, 1])
    backend = SamplerBackend(ParametrizedCircuit(measured, built.inputs, built.weights))
    values = inputs(4, 2)
    expected = SamplerBackend(SuperpositionCircuit(2)).readout(values)
    torch.testing.assert_close(backend.readout(values), expected, rtol=0, atol=1e-12)


def test_circuit_that_measures_on_its_way_is_refused() -> None:
    x = Parameter("x")
    circuit = QuantumCircuit(1, 1)
    circuit.ry(x, 0)
    circuit.measure(0, 0)
    circuit.h(0)
    with pytest.raises(ValueError, match=r"`h` after a measurement of the same qubit.*to the end"):
        SamplerBackend(ParametrizedCircuit(circuit, [x]))


def test_transpiled_circuit_is_refused() -> None:
    built = SuperpositionCircuit(2).build()
    passes = generate_preset_pass_manager(1, backend=GenericBackendV2(3, seed=1))
    circuit = ParametrizedCircuit(passes.run(built.circuit), built.inputs, built.weights)
    with pytest.raises(ValueError, match=r"transpiled already.*pass manager to GivenSampling"):
        SamplerBackend(circuit)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling": True}, r"`shots` to be an integer, got True.*Use e.g. 1024"),
        ({"sampling": "exact"}, r"`sampling` to be a Sampling, got str.*ExactSampling\(\)"),
        ({"on_failure": "skip"}, r"`on_failure` to be a FailurePolicy, got str.*RaiseOnFailure"),
    ],
)
def test_parts_of_another_kind_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        SamplerBackend(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout_seconds": 0.0}, r"`timeout_seconds` to be above 0 and finite, got 0.0.*None to"),
        ({"timeout_seconds": float("nan")}, r"`timeout_seconds` to be above 0 and finite, got nan"),
        ({"max_circuits": 0}, r"`max_circuits` to be at least 1, got 0.*None for no limit"),
        (
            {"sampling": HardwareSampling("ibm_torino", 100)},
            r"Cannot use HardwareSampling without a limit: .*Give `max_circuits`",
        ),
        (
            {"sampling": GivenSampling(StatevectorSampler(), paid=True)},
            r"Cannot use GivenSampling without a limit: .*cost money",
        ),
    ],
)
def test_limits_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplerBackend(**settings)


def test_a_step_whose_circuits_exceed_memory_is_refused_before_training() -> None:
    problem = dense_problem(shapes=((100, 100),))
    perturbation = Perturbation(
        backend=SamplerBackend(SuperpositionCircuit(12)), coordinates=AllEntries()
    )
    base = torch.optim.SGD(problem.parameters, lr=1e-2)
    with pytest.raises(ValueError, match=r"Cannot evaluate 834 circuit\(s\) of 12 qubits"):
        PerturbedOptimizer(base, perturbation)


def test_sine_backend_refuses_no_qubits() -> None:
    with pytest.raises(ValueError, match=r"Expected `num_qubits` to be at least 1, got 0"):
        SineBackend(num_qubits=0)


def test_sine_backend_evaluates_no_circuit_and_needs_no_blocks() -> None:
    backend = SineBackend()
    assert backend.separable
    assert not backend.stochastic
    assert backend.circuits_for(10) == 0
    assert backend.readout(torch.zeros(5)).shape == (5,)


def test_a_circuit_that_does_not_fit_its_device_is_refused_before_training() -> None:
    sampling = AerSampling(shots=8, noise=GenericDeviceNoise(num_qubits=3))
    backend = SamplerBackend(SuperpositionCircuit(4), sampling=sampling)
    base = torch.optim.SGD(dense_problem().parameters, lr=1e-2)
    with pytest.raises(ValueError, match=r"circuit of 4 qubits on a device of 3: .*larger device"):
        PerturbedOptimizer(base, Perturbation(backend))


def test_a_missing_library_is_reported_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qiskit_ibm_runtime", None)
    sampling = HardwareSampling("ibm_nowhere", shots=8)
    backend = SamplerBackend(SuperpositionCircuit(2), sampling=sampling, max_circuits=10)
    base = torch.optim.SGD(dense_problem().parameters, lr=1e-2)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lightning-qsgd\[hardware\]'"):
        PerturbedOptimizer(base, Perturbation(backend))

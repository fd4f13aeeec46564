"""What every way of drawing shots must hold, and what each one adds."""

import pickle
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import generate_preset_pass_manager
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.primitives import BackendSamplerV2, StatevectorSampler
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import PassManager
from qiskit.transpiler.passes import RemoveBarriers, RemoveDiagonalGatesBeforeMeasure
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import SamplerV2
from qiskit_machine_learning.neural_networks import SamplerQNN
from qiskit_machine_learning.primitives import QMLSampler
from scipy.stats import chisquare

from lightning_qsgd.backends import (
    AerSampling,
    DepolarizingNoise,
    ExactSampling,
    GenericDeviceNoise,
    GivenSampling,
    HardwareSampling,
    SamplerBackend,
    Sampling,
    SamplingFromFunction,
    ShotSampling,
)
from lightning_qsgd.backends.evaluation import Evaluation, serving
from lightning_qsgd.backends.samplers.aer import TranspilingSampler
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit

CIRCUIT = SuperpositionCircuit(3, reps=2)
KEYED: dict[str, Sampling] = {
    "shots": ShotSampling(40),
    "aer": AerSampling(40),
    "aer product state": AerSampling(40, method="matrix_product_state"),
    "aer noise": AerSampling(40, noise=DepolarizingNoise(0.01, 0.02, 0.03)),
    "aer density matrix": AerSampling(40, "density_matrix", noise=DepolarizingNoise(0.01, 0.02)),
    "aer device": AerSampling(40, noise=GenericDeviceNoise(5, seed=1)),
}
each_keyed = pytest.mark.parametrize("sampling", KEYED.values(), ids=KEYED)


def inputs(rows: int, num_qubits: int = 3) -> torch.Tensor:
    drawn = np.random.default_rng(0).uniform(-1.0, 1.0, (rows, num_qubits))
    return torch.from_numpy(drawn)


def keys(count: int, first: int = 0) -> np.ndarray:
    # Keys as they are: spread over all 64 bits.
    return np.random.default_rng(first).integers(0, 2**64, count, dtype=np.uint64)


def readout(sampling: Sampling, values: torch.Tensor, of: np.ndarray | None) -> torch.Tensor:
    return SamplerBackend(CIRCUIT, 3, sampling).readout(values, of)


@each_keyed
def test_shots_are_reproducible_and_differ_between_keys(sampling: Sampling) -> None:
    values = inputs(4)
    first = readout(sampling, values, keys(4))
    assert torch.equal(first, readout(sampling, values, keys(4)))
    assert not torch.equal(first, readout(sampling, values, keys(4, first=1)))


@each_keyed
def test_shots_do_not_depend_on_the_position_or_on_other_circuits(sampling: Sampling) -> None:
    values, of = inputs(4), keys(4)
    together = readout(sampling, values, of)
    reordered = readout(sampling, values.flip(0), of[::-1].copy())
    # BLAS sums in its own order; one shot more or less would be 1 / 20
    torch.testing.assert_close(reordered.flip(0), together, rtol=0, atol=1e-14)
    alone = readout(sampling, values[2:3], of[2:3])
    torch.testing.assert_close(alone, together[2:3], rtol=0, atol=1e-14)


@each_keyed
def test_equal_circuits_with_different_keys_draw_different_shots(sampling: Sampling) -> None:
    rows = readout(sampling, torch.full((6, 3), 0.1, dtype=torch.float64), keys(6))
    assert len({tuple(row) for row in rows.tolist()}) > 3


@each_keyed
def test_shots_leave_the_global_generators_alone(sampling: Sampling) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    readout(sampling, inputs(2), keys(2))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002


@pytest.mark.parametrize("sampling", [ShotSampling(40), AerSampling(40)], ids=["shots", "aer"])
def test_shifted_circuits_of_a_gradient_draw_streams_of_their_own(sampling: Sampling) -> None:
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    backend = SamplerBackend(ParametrizedCircuit(circuit, [x]), sampling=sampling)

    def gradient() -> torch.Tensor:
        values = torch.zeros((40, 1), dtype=torch.float64, requires_grad=True)
        backend.readout(values, keys(40)).sum().backward()
        assert values.grad is not None
        return values.grad

    drawn = gradient()
    assert torch.equal(drawn, gradient())
    # Both shifted circuits measure 1 with probability 1/2: equal streams would cancel to 0, where
    # the difference of two shares of 40 shots has the variance 2 / (4 * 40).
    assert abs(drawn.std().item() - (1 / 80) ** 0.5) < 0.4 * (1 / 80) ** 0.5


@pytest.mark.parametrize("sampling", [ShotSampling(4000), AerSampling(4000)], ids=["shots", "aer"])
def test_gradient_with_shots_is_unbiased(sampling: Sampling) -> None:
    gradients = []
    circuit = SuperpositionCircuit(2, reps=1)
    for each in (sampling, ExactSampling()):
        backend = SamplerBackend(circuit, 3, each)
        weights = backend.initial_weights().requires_grad_()
        backend.readout(inputs(4, 2), keys(4), weights).mean(0).sum().backward()
        gradients.append(weights.grad)
    # Five times the most that the sum of 2 readouts can spread over 4 * 4000 shots.
    torch.testing.assert_close(*gradients, rtol=0, atol=5 * 2 / (4 * 4000) ** 0.5)


@pytest.mark.parametrize(
    "sampling",
    [
        ShotSampling(200),
        AerSampling(200),
        AerSampling(200, method="matrix_product_state"),
        AerSampling(200, method="density_matrix"),
    ],
    ids=["shots", "aer", "product state", "density matrix"],
)
def test_outcomes_follow_the_exact_distribution(sampling: Sampling) -> None:
    built = CIRCUIT.build()
    weights = SamplerBackend(CIRCUIT, 3).initial_weights().numpy()
    bound = built.circuit.assign_parameters(
        dict(zip([*built.inputs, *built.weights], [*inputs(1)[0].tolist(), *weights], strict=True))
    ).measure_all(inplace=False)
    exact = QMLSampler().run([bound]).result()[0].data.meas.get_probabilities()
    total: dict[str, int] = dict.fromkeys(exact, 0)
    sampler = sampling.sampler()
    for key in keys(60):
        with serving(Evaluation(np.array([key]))):
            data = sampler.run([bound]).result()[0].data
        for outcome, count in data.meas.get_counts().items():
            total[outcome] += count
    assert sum(total.values()) == 200 * 60
    expected = [exact[outcome] * 200 * 60 for outcome in total]
    assert chisquare(list(total.values()), expected).pvalue > 1e-3


def test_batch_of_aer_itself_would_depend_on_the_position() -> None:
    """The reason why each circuit is a run of its own: a change in Aer would show here."""
    circuit = QuantumCircuit(2)
    circuit.h([0, 1])
    circuit.measure_all()
    simulator = AerSimulator()
    batch = simulator.run([circuit] * 2, shots=50, seed_simulator=5).result()
    assert batch.get_counts(0) != batch.get_counts(1)


def test_aer_draws_what_its_sampler_draws_with_that_seed() -> None:
    circuit = CIRCUIT.build().circuit.measure_all(inplace=False)
    values = np.linspace(0, 1, circuit.num_parameters)
    key = int(keys(1)[0])
    with serving(Evaluation(keys(1))):
        own = AerSampling(300).sampler().run([(circuit, values)]).result()[0].data.meas
    # The pass manager that belongs to Aer leaves every gate as it is.
    theirs = SamplerV2.from_backend(AerSimulator(), default_shots=300, seed=key >> 1)
    assert own.get_counts() == theirs.run([(circuit, values)]).result()[0].data.meas.get_counts()


def test_failure_of_aer_says_what_it_was() -> None:
    backend = SamplerBackend(CIRCUIT, 3, AerSampling(10, method="stabilizer"))
    with pytest.raises(Exception, match=r"Aer failed.*Choose a method that knows the gates"):
        backend.readout(inputs(1), keys(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": 0}, r"`shots` to be at least 1, got 0.*Use ExactSampling"),
        ({"shots": 5, "method": "exact"}, r"Unknown method 'exact'.*automatic, statevector, dens"),
        ({"shots": 5, "method": "unitary"}, r"Unknown method 'unitary'"),
        ({"shots": 5, "device": "TPU"}, r"Cannot simulate on 'TPU'.*Use device='CPU', or install"),
    ],
)
def test_settings_that_aer_lacks_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AerSampling(**settings)


@pytest.mark.skipif("GPU" in AerSimulator().available_devices(), reason="Aer has a GPU here")
def test_gpu_is_refused_where_aer_has_none() -> None:
    with pytest.raises(ValueError, match=r"Cannot simulate on 'GPU': Aer was built for CPU alone"):
        AerSampling(5, device="GPU")


def device_and_passes() -> tuple[GenericBackendV2, Any]:
    """A line of 5 qubits, onto which the circuit's qubits are laid in a twisted order."""
    line = [[i, i + 1] for i in range(4)] + [[i + 1, i] for i in range(4)]
    device = GenericBackendV2(5, coupling_map=line, seed=2)
    layout = [3, 0, 4]
    return device, generate_preset_pass_manager(2, backend=device, initial_layout=layout)


class Exact(QMLSampler):  # type: ignore[misc]
    """Exact probabilities for circuits of a device, as a sampler that a user brings."""


def test_layout_of_the_pass_manager_is_undone_for_each_qubit() -> None:
    _, passes = device_and_passes()
    circuit = CIRCUIT.build().circuit
    assert passes.run(circuit).layout.final_index_layout() != [0, 1, 2]
    given = SamplerBackend(CIRCUIT, 3, GivenSampling(Exact(), passes))
    exact = SamplerBackend(CIRCUIT, 3)
    values = inputs(3)
    torch.testing.assert_close(given.readout(values), exact.readout(values), rtol=0, atol=1e-10)


def test_layout_of_the_pass_manager_is_undone_in_gradients() -> None:
    _, passes = device_and_passes()
    gradients = []
    for sampling in (GivenSampling(Exact(), passes), GivenSampling(Exact())):
        circuit = SuperpositionCircuit(3, reps=1)
        weights = SamplerBackend(circuit, 3).initial_weights().requires_grad_()
        readout = SamplerBackend(circuit, 3, sampling).readout(inputs(1), None, weights)
        (readout * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
        gradients.append(weights.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_gradient_of_a_network_with_a_pass_manager_is_wrong_without_us() -> None:
    """The reason why circuits are transpiled in front of the sampler; a fix would show here."""
    device, _ = device_and_passes()
    passes = generate_preset_pass_manager(2, backend=device, seed_transpiler=7)
    built = SuperpositionCircuit(3, reps=1).build()
    settings: dict[str, Any] = {"input_params": built.inputs, "weight_params": built.weights}
    theirs = SamplerQNN(circuit=built.circuit, sampler=Exact(), pass_manager=passes, **settings)
    right = SamplerQNN(circuit=built.circuit, sampler=Exact(), **settings)
    values, weights = inputs(1).numpy(), np.linspace(0.1, 1.0, 6)
    np.testing.assert_allclose(theirs.forward(values, weights), right.forward(values, weights))
    with pytest.raises(IndexError, match="out of bounds"):
        theirs.backward(values, weights)


def test_parameters_that_a_pass_manager_removes_are_left_out() -> None:
    passes = PassManager([RemoveBarriers(), RemoveDiagonalGatesBeforeMeasure()])
    circuit = SuperpositionCircuit(2, reps=1, entanglement="none")
    measured = circuit.build().circuit.measure_all(inplace=False)
    assert passes.run(measured).num_parameters < measured.num_parameters  # the last Rz
    given = SamplerBackend(circuit, 3, GivenSampling(Exact(), passes))
    values = inputs(3, 2)
    expected = SamplerBackend(circuit, 3).readout(values)
    torch.testing.assert_close(given.readout(values), expected, rtol=0, atol=1e-10)


def test_sampler_of_a_device_reads_out_within_its_shots() -> None:
    device, passes = device_and_passes()
    sampler = BackendSamplerV2(backend=device, options={"default_shots": 2000, "seed_simulator": 1})
    given = SamplerBackend(CIRCUIT, 3, GivenSampling(sampler, passes)).readout(inputs(2))
    exact = SamplerBackend(CIRCUIT, 3).readout(inputs(2))
    # Five sigma of the shots, and the few per cent of a good device's errors.
    torch.testing.assert_close(given, exact, rtol=0, atol=5 / 2000**0.5 + 0.05)


def test_each_circuit_is_transpiled_once() -> None:
    runs = []
    passes = SimpleNamespace(run=lambda circuit: runs.append(circuit) or circuit)
    backend = SamplerBackend(CIRCUIT, 3, GivenSampling(Exact(), passes))
    for _ in range(3):
        backend.readout(inputs(2))
    assert len(runs) == 1


def test_transpiled_circuits_that_are_kept_are_few() -> None:
    sampler = TranspilingSampler(Exact(), SimpleNamespace(run=lambda circuit: circuit))
    for _ in range(70):
        circuit = QuantumCircuit(1)
        circuit.measure_all()
        sampler.run([circuit]).result()
    assert len(sampler._kept) <= 64


def test_given_sampler_needs_no_keys_and_is_not_trusted_to_repeat_itself() -> None:
    sampling = GivenSampling(StatevectorSampler(default_shots=50, seed=1))
    assert (sampling.stochastic, sampling.reproducible, sampling.local) == (False, False, False)
    assert SamplerBackend(CIRCUIT, 3, sampling).readout(inputs(2)).abs().max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sampler",), r"Expected a BaseSamplerV2, got str.*BackendSamplerV2"),
        ((StatevectorSampler(), 3), r"`pass_manager` to have a `run`, got int.*generate_preset"),
    ],
)
def test_given_sampler_of_another_kind_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        GivenSampling(*arguments)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, str]]:
    """Devices that were opened: snapshots of real ones. Only the service, which asks, is ours."""
    runtime = pytest.importorskip("qiskit_ibm_runtime")
    fakes = import_module("qiskit_ibm_runtime.fake_provider")
    asked: list[tuple[str | None, str]] = []

    def service(name: str | None) -> Any:
        def backend(device: str) -> Any:
            asked.append((name, device))
            return fakes.FakeManilaV2()

        return SimpleNamespace(backend=backend)

    monkeypatch.setattr(runtime, "QiskitRuntimeService", service)
    return asked


def test_hardware_is_reached_through_the_account_and_reads_out(opened: list[Any]) -> None:
    """On IBM's own sampler in its local mode, with the noise of the snapshot."""
    sampling = HardwareSampling("ibm_manila", shots=3000, account="lab")
    assert (sampling.paid, sampling.reproducible, sampling.stochastic) == (True, False, False)
    backend = SamplerBackend(CIRCUIT, 3, sampling, max_circuits=100)
    assert opened == []  # building a config costs nothing
    given = backend.readout(inputs(2))
    assert opened == [("lab", "ibm_manila")]
    exact = SamplerBackend(CIRCUIT, 3).readout(inputs(2))
    assert not torch.equal(given, exact)
    torch.testing.assert_close(given, exact, rtol=0, atol=5 / 3000**0.5 + 0.2)


@pytest.mark.parametrize(
    ("account", "named"), [(None, "default account"), ("nobody", "account 'nobody'")]
)
def test_account_that_the_real_library_does_not_know_is_reported_before_training(
    account: str | None, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("qiskit_ibm_runtime")
    management = import_module("qiskit_ibm_runtime.accounts.management")
    monkeypatch.setattr(management, "_DEFAULT_ACCOUNT_CONFIG_JSON_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("QISKIT_IBM_TOKEN", raising=False)
    sampling = HardwareSampling("ibm_x", 10, account)
    backend = SamplerBackend(CIRCUIT, 3, sampling, max_circuits=100)
    message = rf"Cannot open 'ibm_x' with the {named} of IBM.*save_account.*DeviceNoise"
    with pytest.raises(ValueError, match=message):
        backend.check_ready()


def exact_sampler_on_a_line(twisted: bool = True) -> Any:
    """What a config may name: a sampler, with its pass manager or without."""
    return (Exact(), device_and_passes()[1]) if twisted else Exact()


def number() -> int:
    return 3


@pytest.mark.parametrize("twisted", [True, False])
def test_function_named_in_a_config_builds_sampler_and_pass_manager(twisted: bool) -> None:
    sampling = SamplingFromFunction(f"{__name__}.exact_sampler_on_a_line", {"twisted": twisted})
    assert (sampling.stochastic, sampling.reproducible, sampling.local) == (False, False, False)
    backend = SamplerBackend(CIRCUIT, 3, sampling)
    expected = SamplerBackend(CIRCUIT, 3).readout(inputs(3))
    torch.testing.assert_close(backend.readout(inputs(3)), expected, rtol=0, atol=1e-10)
    copied = pickle.loads(pickle.dumps(backend))
    assert copied == backend
    assert hash(copied) == hash(backend)


def test_function_that_builds_no_sampler_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Expected a BaseSamplerV2, got int"):
        SamplingFromFunction(f"{__name__}.number").sampler()
    with pytest.raises(ValueError, match=r"arguments \['shots'\]: .*Give those of \(\)"):
        SamplingFromFunction(f"{__name__}.number", {"shots": 3}).sampler()
    with pytest.raises(ValueError, match=r"Cannot use SamplingFromFunction without a limit"):
        SamplerBackend(sampling=SamplingFromFunction("a.b", paid=True))


def test_hardware_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qiskit_ibm_runtime", None)
    backend = SamplerBackend(CIRCUIT, 3, HardwareSampling("ibm_x", 10), max_circuits=100)
    with pytest.raises(ModuleNotFoundError, match=r"Cannot reach IBM's devices.*\[hardware\]"):
        backend.readout(inputs(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ibm_x", 0), r"`shots` to be at least 1, got 0"),
        (("ibm_x", 5, None, 4), r"`optimization_level` from 0 to 3, got 4.*Use 1"),
    ],
)
def test_settings_of_hardware_out_of_range_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HardwareSampling(*arguments)

"""Classes of a user's that extend ours: networks, samplers, backends, policies, sources, gates.

Each case gave the numbers of the class that was extended, or those of no circuit, without a word.
"""

import copy
import pickle
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import RYGate
from qiskit.primitives import StatevectorSampler
from qiskit.quantum_info import Statevector
from qiskit_aer.noise import NoiseModel, ReadoutError
from qiskit_machine_learning.neural_networks import EstimatorQNN, SamplerQNN
from qiskit_machine_learning.primitives import QMLSampler
from torch import Tensor, nn
from torch.optim import SGD

from lightning_qsgd import (
    Alignment,
    AllEntries,
    CompiledBackend,
    Perturbation,
    PerturbedOptimizer,
    RenormalisedInjection,
    SamplerBackend,
    SpectralInjection,
)
from lightning_qsgd.backends import Backend, SineBackend
from lightning_qsgd.backends.backend_of import NetworkBackend, backend_of
from lightning_qsgd.backends.failures import FailurePolicy
from lightning_qsgd.backends.plugins import VectorizedSampler
from lightning_qsgd.backends.samplers import AerSampling, ExactSampling, Noise, ShotSampling
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit, superposition_circuit
from lightning_qsgd.perturbations import Feature, TouchedStep

TWO = superposition_circuit(2, reps=1)
ROLES = {"circuit": TWO.circuit, "input_params": TWO.inputs, "weight_params": TWO.weights}


@dataclass(frozen=True)
class Scaled(CompiledBackend):
    scale: float = 1.0

    def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
        return super().readout(inputs, keys, weights) * self.scale


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))]
)
def test_a_copy_of_an_extended_backend_keeps_its_settings(again: Callable[[Any], Any]) -> None:
    backend = Scaled(SuperpositionCircuit(2, reps=1), scale=0.25)
    object.__setattr__(backend, "label", "mine")
    inputs = torch.tensor([[0.5, 0.25]])
    expected = backend.readout(inputs)
    copied = again(backend)
    assert (copied.scale, copied.label) == (0.25, "mine")
    torch.testing.assert_close(copied.readout(inputs), expected)


class FlatSampler(SamplerQNN):  # type: ignore[misc]
    def _forward(self, inputs: Any, weights: Any) -> Any:
        found = super()._forward(inputs, weights)
        return 0.9 * found + 0.1 / found.shape[-1]


class HalfEstimator(EstimatorQNN):  # type: ignore[misc]
    def _forward(self, inputs: Any, weights: Any) -> Any:
        return super()._forward(inputs, weights) * 0.5


class CountingSampler(VectorizedSampler):
    runs = 0

    def run(self, pubs: Any, *, shots: int | None = None) -> Any:
        type(self).runs += 1
        return super().run(pubs, shots=shots)


@pytest.mark.parametrize("kind", [FlatSampler, HalfEstimator])
def test_an_extended_network_runs_as_itself(kind: type) -> None:
    network = kind(**ROLES)
    weights = torch.linspace(0.1, 0.4, len(TWO.weights))
    inputs = torch.tensor([[0.3, 0.8], [0.1, 0.2]])
    found = NetworkBackend(network).probabilities(inputs, weights=weights)
    chosen = backend_of(network)
    assert type(chosen) is NetworkBackend
    expected = network.forward(inputs.numpy(), weights.numpy())
    for each in (found, chosen.probabilities(inputs, weights=weights)):
        np.testing.assert_allclose(each.numpy(), expected, atol=1e-6)


def test_a_network_on_an_extended_sampler_asks_it() -> None:
    network = SamplerQNN(**ROLES, sampler=CountingSampler())
    chosen = backend_of(network)
    assert isinstance(chosen, NetworkBackend)
    before = CountingSampler.runs
    chosen.probabilities(torch.zeros(1, 2))
    assert CountingSampler.runs > before


def test_an_extended_sampling_promises_nothing_that_it_does_not_say() -> None:
    class Few(ExactSampling):
        def sampler(self) -> Any:
            return QMLSampler(shots=8)

    class Unkeyed(ShotSampling):
        def sampler(self) -> Any:
            return QMLSampler(shots=8)

    class Said(ExactSampling):
        exact = True
        reproducible = True

        def sampler(self) -> Any:
            return QMLSampler()

    class Renamed(ExactSampling):
        pass

    flags = [
        (kind.stochastic, kind.exact, kind.reproducible)
        for kind in (Few, Unkeyed, Said, Renamed, ExactSampling, ShotSampling, AerSampling)
    ]
    nothing, exact, shots = (False, False, False), (False, True, True), (True, False, True)
    assert flags == [nothing, nothing, exact, exact, exact, shots, shots]


def aligned(backend: Backend, feature: Feature | None = None) -> PerturbedOptimizer:
    """Return an optimizer whose circuit sees the alignment of each entry."""
    parameter = nn.Parameter(torch.linspace(0.1, 0.8, 4))
    perturbation = Perturbation(
        backend,
        AllEntries(),
        injection=RenormalisedInjection(),
        features=Alignment() if feature is None else feature,
    )
    parameter.grad = torch.tensor([0.1, -2.0, 0.3, 1.0])
    return PerturbedOptimizer(SGD([parameter], lr=0.1, momentum=0.9), perturbation)


ONE = SuperpositionCircuit(1, reps=1, entanglement="none")


class Sharp(CompiledBackend):
    def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
        return torch.tanh(4.0 * super().readout(inputs, keys, weights))


class Plainly(CompiledBackend):
    def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
        return super().readout(inputs.float(), keys, weights).to(inputs)


class Undescribed(SineBackend):
    """Reads tanh of four times the sine, and says that there is no circuit to read."""

    def __init__(self) -> None:
        super().__init__(num_qubits=1)

    def readout(self, inputs: Tensor, *given: Any, **named: Any) -> Tensor:
        return torch.tanh(4.0 * super().readout(inputs))


def test_a_backend_that_reads_no_polynomial_is_not_taken_for_one() -> None:
    optimizer = aligned(Sharp(ONE))
    (parameter,) = optimizer.param_groups[0]["params"]
    before = parameter.detach().clone()
    with pytest.raises(ValueError, match=r"Sharp reads .* where the circuit that it describes"):
        optimizer.step()
    assert torch.equal(parameter, before)


def test_a_backend_that_reads_its_circuit_in_single_precision_is_taken() -> None:
    stepped = []
    for backend in (Plainly(ONE), CompiledBackend(ONE)):
        optimizer = aligned(backend)
        optimizer.step()
        stepped.append(optimizer.param_groups[0]["params"][0].detach())
    torch.testing.assert_close(*stepped)


def test_a_backend_that_draws_without_keys_is_no_contradiction() -> None:
    class Hardware(CompiledBackend):
        def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
            noise = 0.01 * torch.rand(inputs.shape, dtype=inputs.dtype)
            return 0.9 * super().readout(inputs, keys, weights) + noise

    optimizer = aligned(Hardware(ONE))
    optimizer.step()
    assert optimizer.own_state.applied == 1


def test_a_stochastic_backend_without_a_circuit_gets_keys_for_features() -> None:
    seen: list[Any] = []

    class Shots(SineBackend):
        stochastic = True

        def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
            seen.append(keys)
            return super().readout(inputs)

    optimizer = aligned(Shots())
    optimizer.step()
    (keys,) = seen
    assert keys.dtype == np.uint64
    assert len(set(keys.tolist())) == 4


def test_a_feature_must_count_as_many_inputs_as_it_returns() -> None:
    class Two(Feature):
        count = 2

        def values(self, step: TouchedStep) -> Tensor:
            return step.theta.tanh()

    with pytest.raises(ValueError, match="Two returned 1 features, and its `count` is 2"):
        aligned(SineBackend(), Two()).step()


class Policy(FailurePolicy):
    def __init__(self, run: Callable[[Callable[[], Any]], Any]) -> None:
        self._run = run

    def run(self, job: Callable[[], Any]) -> Any:
        return self._run(job)


def swallowing(job: Callable[[], Any]) -> Any:
    try:
        return job()
    except Exception:
        return np.array([[0.5, 0.5]])


@pytest.mark.parametrize(
    "run", [lambda job: np.zeros((1, 2)), lambda job: 3 * job(), lambda job: (job(), None)[1]]
)
def test_a_policy_cannot_make_up_what_a_circuit_reads(run: Callable[..., Any]) -> None:
    backend = SamplerBackend(ONE, on_failure=Policy(run))
    with pytest.raises(TypeError, match="`run` of Policy returned something else than its job"):
        backend.readout(torch.tensor([[0.3]]))


def test_a_policy_may_run_a_job_twice_and_take_the_first() -> None:
    backend = SamplerBackend(ONE, on_failure=Policy(lambda job: (job(), job())[0]))
    expected = SamplerBackend(ONE).readout(torch.tensor([[0.3]]))
    torch.testing.assert_close(backend.readout(torch.tensor([[0.3]])), expected)


def test_a_policy_cannot_swallow_the_limit_on_circuits() -> None:
    backend = SamplerBackend(ONE, on_failure=Policy(swallowing), max_circuits=2)
    parameter = nn.Parameter(torch.tensor([0.3]))
    optimizer = PerturbedOptimizer(SGD([parameter], lr=0.1), Perturbation(backend))
    for _ in range(2):
        parameter.grad = torch.ones(1)
        optimizer.step()
    before = parameter.detach().clone()
    with pytest.raises(RuntimeError, match="limit"):
        optimizer.step()
    assert torch.equal(parameter, before)


class Angle(SuperpositionCircuit):
    def __init__(self, extra: float) -> None:
        super().__init__(1, reps=1, entanglement="none")
        object.__setattr__(self, "extra", extra)

    def build(self) -> ParametrizedCircuit:
        x = Parameter("x")
        circuit = QuantumCircuit(1)
        circuit.ry(pi * x + vars(self)["extra"], 0)
        return ParametrizedCircuit(circuit, [x])


def test_sources_that_look_equal_are_built_each_for_itself() -> None:
    assert Angle(0.0) == Angle(1.0)
    inputs = torch.tensor([[0.25]], dtype=torch.float64)
    for kind in (CompiledBackend, SamplerBackend):
        for extra in (0.0, 1.0):
            found = kind(Angle(extra)).readout(inputs).item()
            assert found == pytest.approx(-cos(pi / 4 + extra), abs=1e-9)


def test_backends_that_look_equal_have_spectral_functions_of_their_own() -> None:
    @dataclass(frozen=True)
    class Turned(CompiledBackend):
        def __init__(self, sign: float) -> None:
            super().__init__(ONE)
            object.__setattr__(self, "sign", sign)

        def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
            sign: float = vars(self)["sign"]
            return super().readout(inputs, keys, weights) * sign

    moved = []
    for sign in (1.0, -1.0):
        matrix = nn.Parameter(torch.eye(3))
        matrix.grad = torch.diag(torch.tensor([1.0, 0.5, 0.2]))
        perturbation = Perturbation(Turned(sign), AllEntries(), injection=SpectralInjection())
        PerturbedOptimizer(SGD([matrix], lr=0.1), perturbation).step()
        moved.append(matrix.detach())
    assert not torch.allclose(moved[0], moved[1])


@pytest.mark.parametrize("built", [None, QuantumCircuit(1), (1, 2)])
def test_a_source_must_build_a_circuit_with_roles(built: Any) -> None:
    class Mine(SuperpositionCircuit):
        def build(self) -> Any:
            return built

    for kind in (CompiledBackend, SamplerBackend):
        with pytest.raises(TypeError, match="`build` of Mine to return a ParametrizedCircuit"):
            kind(Mine(1)).readout(torch.zeros(1, 1))


def test_what_happens_to_a_circuit_afterwards_is_not_compiled() -> None:
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    built = ParametrizedCircuit(circuit, [x])
    inputs = torch.tensor([[0.7]], dtype=torch.float64)
    before = CompiledBackend(built).probabilities(inputs)
    circuit.x(0)
    for kind in (CompiledBackend, SamplerBackend):
        torch.testing.assert_close(kind(built).probabilities(inputs), before)


@pytest.mark.parametrize(("bits", "is_taken"), [([0, 1], True), ([1, 0], False)])
def test_a_network_that_measures_into_other_bits_is_no_perturbation(
    bits: list[int], is_taken: bool
) -> None:
    x, y = Parameter("x"), Parameter("y")
    circuit = QuantumCircuit(2, 2)
    circuit.ry(x, 0)
    circuit.ry(y, 1)
    circuit.measure([0, 1], bits)
    sampler = VectorizedSampler(shots=64)
    network = SamplerQNN(circuit=circuit, input_params=[x, y], sampler=sampler, output_shape=4)
    if is_taken:
        Perturbation(NetworkBackend(network))
        return
    with pytest.raises(ValueError, match="measures them into other bits"):
        Perturbation(NetworkBackend(network))


@pytest.mark.parametrize("built", [None, "noise", NoiseModel])
def test_a_noise_that_builds_no_model_is_refused(built: Any) -> None:
    class Mine(Noise):
        def build(self) -> Any:
            return built

    backend = SamplerBackend(ONE, sampling=AerSampling(64, noise=Mine()))
    with pytest.raises(TypeError, match="`build` of Mine to return a NoiseModel"):
        backend.readout(torch.tensor([[0.3]]), keys=np.zeros(1, dtype=np.uint64))


def test_noise_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="Expected `noise` to be a Noise, got str"):
        AerSampling(64, noise="depolarizing")  # type: ignore[arg-type]


class Doubled(RYGate):  # type: ignore[misc]
    """Turns by twice the angle."""

    def _define(self) -> None:
        circuit = QuantumCircuit(1)
        circuit.ry(2 * self.params[0], 0)
        self.definition = circuit

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(RYGate(2 * float(self.params[0])).to_matrix(), dtype=dtype)


@pytest.mark.parametrize("named", ["Doubled", "RYGate"])
@pytest.mark.parametrize("num_qubits", [1, 11])
def test_a_gate_that_extends_a_standard_one_is_checked_by_its_class(
    named: str, num_qubits: int
) -> None:
    kind = type(named, (Doubled,), {})
    x = Parameter("x")
    inputs = torch.tensor([[0.3]], dtype=torch.float64)
    extended = kind(0.5)
    for gate in (RYGate(0.5), extended):  # the standard one first: it was taken for both
        circuit = QuantumCircuit(num_qubits)
        circuit.ry(x, 0)
        circuit.append(gate, [0])
        expected = Statevector(circuit.assign_parameters([0.3])).probabilities()
        refused = suppress(ValueError) if gate is extended else nullcontext()
        with refused:
            found = CompiledBackend(ParametrizedCircuit(circuit, [x])).probabilities(inputs)
            np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-9)


def test_an_observable_that_is_not_finite_is_refused() -> None:
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    with pytest.raises(ValueError, match="a coefficient that is not finite"):
        ParametrizedCircuit(circuit, [x], observables={"Z": np.nan})


class Seeded(ExactSampling):
    """Draws shots from a seed that a script may change."""

    seed = 1

    def sampler(self) -> Any:
        return StatevectorSampler(default_shots=64, seed=self.seed)


@dataclass
class UnhashableNoise(Noise):
    """A noise model of a user's: a bit that is always read as 1."""

    flips: bool = False

    def build(self) -> NoiseModel:
        model = NoiseModel()
        if self.flips:
            model.add_all_qubit_readout_error(ReadoutError([[0.0, 1.0], [0.0, 1.0]]))
        else:
            model.add_all_qubit_readout_error(ReadoutError([[1.0, 0.0], [1.0, 0.0]]))
        return model


def test_a_sampling_of_a_users_that_has_changed_builds_another_sampler() -> None:
    circuit, sampling = SuperpositionCircuit(1, reps=1), Seeded()
    inputs = torch.full((8, 1), 0.3)
    read = []
    for seed in (1, 1, 2):
        sampling.seed = seed
        backend = SamplerBackend(circuit, sampling=sampling)
        read.append(backend.readout(inputs))
        pickle.loads(pickle.dumps(backend))
    assert torch.equal(read[0], read[1])
    assert not torch.equal(read[0], read[2])


def test_a_noise_of_a_users_that_has_changed_builds_another_sampler() -> None:
    circuit, noise = SuperpositionCircuit(1, reps=1), UnhashableNoise()
    for flips, expected in ((False, -1.0), (True, 1.0)):
        noise.flips = flips
        backend = SamplerBackend(circuit, sampling=AerSampling(shots=8, noise=noise))
        keys = np.arange(1, dtype=np.uint64)
        assert backend.readout(torch.tensor([[0.3]]), keys).item() == expected

"""What evaluates a circuit: compiled wherever that changes no number."""

from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import (
    ClassicalRegister,
    Gate,
    Parameter,
    QuantumCircuit,
    QuantumRegister,
)
from qiskit.circuit.library import (
    CPhaseGate,
    CRXGate,
    CRYGate,
    CRZGate,
    CU3Gate,
    CUGate,
    MCPhaseGate,
)
from qiskit.primitives import BaseSamplerV2, StatevectorSampler
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer.primitives import EstimatorV2, SamplerV2
from qiskit_machine_learning.neural_networks import EstimatorQNN, SamplerQNN
from qiskit_machine_learning.primitives import QMLSampler

from lightning_qsgd.backends import (
    CompiledBackend,
    GivenSampling,
    SamplerBackend,
    Sampling,
    ShotSampling,
    SineBackend,
    SkipOnFailure,
)
from lightning_qsgd.backends.backend_of import NetworkBackend, backend_of, layer_backend_of
from lightning_qsgd.backends.plugins import VectorizedSampler
from lightning_qsgd.backends.plugins.vectorized_sampler import REGISTER
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit, superposition_circuit
from lightning_qsgd.perturbations import Perturbation
from tests.cases import unreadable_power


def network(built: ParametrizedCircuit | None = None, **extra: Any) -> SamplerQNN:
    built = built or superposition_circuit(num_qubits=2, reps=1)
    return SamplerQNN(
        circuit=built.circuit, input_params=built.inputs, weight_params=built.weights, **extra
    )


def nonlinear() -> ParametrizedCircuit:
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.ry(2**x * w, 0)
    return ParametrizedCircuit(circuit, [x], [w])


def nonlinear_inputs() -> ParametrizedCircuit:
    x, y = Parameter("x"), Parameter("y")
    circuit = QuantumCircuit(1)
    circuit.ry(x + 2 * y, 0)
    return ParametrizedCircuit(circuit, [x, y])


def test_auto_compiles_circuits_and_exact_networks() -> None:
    exact = (QMLSampler(), VectorizedSampler())
    networks = [network(), *(network(sampler=sampler) for sampler in exact)]
    for source in (*networks, SuperpositionCircuit(2)):
        assert isinstance(backend_of(source, "auto"), CompiledBackend)


@pytest.mark.parametrize(
    "sampler",
    [QMLSampler(shots=10), VectorizedSampler(shots=10), StatevectorSampler(), SamplerV2()],
    ids=lambda s: type(s),
)
def test_auto_leaves_networks_with_shots_to_their_sampler(sampler: Any) -> None:
    source = network(sampler=sampler)
    assert isinstance(backend_of(source, "auto"), NetworkBackend)
    assert isinstance(backend_of(source, "compiled"), CompiledBackend)


def test_all_engines_give_the_same_numbers() -> None:
    x, w = torch.rand(3, 2).double(), torch.rand(4).double()
    for source, sampled in (
        (network(), NetworkBackend),
        (SuperpositionCircuit(2, 1), SamplerBackend),
    ):
        sampler = layer_backend_of(source, "sampler")
        compiled = layer_backend_of(source, "compiled")
        assert isinstance(sampler, sampled)
        assert sampler.output_shape == compiled.output_shape == (4,)
        assert (len(sampler.describe().inputs), len(sampler.initial_weights())) == (2, 4)
        for ask in ("probabilities", "readout"):
            found = [getattr(each, ask)(x, None, w) for each in (sampler, compiled)]
            torch.testing.assert_close(*found, rtol=0, atol=1e-10)


def test_outcomes_are_interpreted_alike_whatever_evaluates_them() -> None:
    built = ParametrizedCircuit.of_network(network(interpret=lambda i: i % 2, output_shape=2))
    x = torch.rand(3, 2).double()
    expected = CompiledBackend(built).probabilities(x)
    for backend in (SamplerBackend(built), SamplerBackend(built, sampling=ShotSampling(10**6))):
        keys = np.arange(3, dtype=np.uint64)
        tolerance = 5e-3 if backend.stochastic else 1e-10
        found = backend.probabilities(x, keys)
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_a_backend_is_taken_as_it_is() -> None:
    backend = SamplerBackend(SuperpositionCircuit(2))
    assert backend_of(backend) is backend
    with pytest.raises(ValueError, match=r"engine='compiled' and a SamplerBackend: .*Leave the en"):
        backend_of(backend, "compiled")


def test_layers_refuse_backends_without_probabilities_and_those_that_skip() -> None:
    with pytest.raises(TypeError, match=r"layer on SineBackend: .*CompiledBackend or a Sampler"):
        layer_backend_of(SineBackend())
    skipping = SamplerBackend(SuperpositionCircuit(2), on_failure=SkipOnFailure())
    with pytest.raises(ValueError, match=r"layer on a SamplerBackend that skips.*RaiseOnFailure"):
        layer_backend_of(skipping)


def test_perturbation_takes_circuits_networks_and_backends_alike() -> None:
    x = torch.rand(3, 2).double()
    weights = torch.zeros(4, dtype=torch.float64)
    circuit, qnn = SuperpositionCircuit(2, reps=1), network()
    shots = network(sampler=QMLSampler(shots=100))
    readouts = []
    for source in (circuit, qnn, CompiledBackend(circuit)):
        backend = Perturbation(source).backend  # type: ignore[arg-type]
        readouts.append(backend.readout(x, None, weights))
    for other in readouts[1:]:
        torch.testing.assert_close(other, readouts[0], rtol=0, atol=1e-12)
    sampled = Perturbation(shots).backend.readout(x, None, weights)  # type: ignore[arg-type]
    torch.testing.assert_close(sampled, readouts[0], rtol=0, atol=0.6)


def test_perturbation_refuses_a_network_whose_qubits_cannot_be_read() -> None:
    halves = network(interpret=lambda i: i % 2, output_shape=2, sampler=QMLSampler(shots=100))
    with pytest.raises(ValueError, match=r"Cannot read 2 qubits .*without `interpret`"):
        Perturbation(halves)  # type: ignore[arg-type]


def test_perturbation_refuses_a_circuit_with_more_inputs_than_qubits() -> None:
    source = nonlinear_inputs()
    assert layer_backend_of(source).output_shape == (2,)
    with pytest.raises(ValueError, match=r"Cannot perturb with a circuit of 2 inputs and 1 qubits"):
        Perturbation(source)  # type: ignore[arg-type]
    for backend in (CompiledBackend(source), SamplerBackend(source)):
        with pytest.raises(ValueError, match=r"Cannot perturb with a circuit of 2 inputs"):
            backend.readout(torch.zeros(1, 2))


@unreadable_power
def test_network_that_cannot_be_compiled_falls_back_only_in_auto_and_says_so() -> None:
    with pytest.warns(UserWarning, match=r"not a formula .* It runs on its own sampler, .*slow"):
        assert isinstance(backend_of(network(nonlinear()), "auto"), NetworkBackend)
    for source in (network(nonlinear()), nonlinear()):
        with pytest.raises(ValueError, match=r"Cannot compile gate `ry`"):
            backend_of(source, "compiled")
    with pytest.raises(ValueError, match=r"Cannot compile gate `ry`"):
        backend_of(nonlinear(), "auto")


def test_opaque_gate_is_left_to_a_sampler_of_the_users_alone() -> None:
    circuit = QuantumCircuit(1)
    circuit.append(Gate("box", 1, []), [0])
    built = ParametrizedCircuit(circuit, [])
    assert isinstance(backend_of(network(built, sampler=Unnamed())), NetworkBackend)
    with pytest.raises(ValueError, match=r"`box` from one state vector.*Decompose it"):
        backend_of(network(built))


def test_settings_reach_the_compiled_circuit() -> None:
    backend = backend_of(SuperpositionCircuit(2), memory_limit_gib=0.5, torch_compile=False)
    assert isinstance(backend, CompiledBackend)
    assert backend.memory_limit_gib == 0.5


def test_unknown_engine_and_circuit_without_roles_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown engine 'fast': .*auto, compiled, sampler"):
        backend_of(network(), "fast")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"SamplerQNN, got QuantumCircuit: .*Wrap a Quantum"):
        backend_of(QuantumCircuit(1), "auto")  # type: ignore[arg-type]


def test_auto_does_not_hide_what_is_wrong_behind_the_sampler() -> None:
    large = superposition_circuit(num_qubits=24, reps=1)
    with pytest.raises(ValueError, match=r"Cannot evaluate 1 circuit.* of 24 qubits"):
        backend_of(network(large), "auto")
    outside = network(superposition_circuit(3), interpret=lambda i: i, output_shape=4)
    with pytest.raises(ValueError, match=r"`interpret` maps outcome 4 to 4, outside the output"):
        backend_of(outside, "auto")


ANGLES = torch.tensor([[-1.0], [0.0], [2.0]], dtype=torch.float64)
SHOTS = 40_000
SCATTER = 0.015  # six standard deviations of the shots


def measured(*registers: ClassicalRegister) -> tuple[QuantumCircuit, Parameter]:
    """Return Ry(x) on qubit 0 and NOT on qubit 1, measured into two bits that are not idle."""
    x = Parameter("x")
    circuit = QuantumCircuit(QuantumRegister(2), *registers)
    circuit.ry(x, 0)
    circuit.x(1)
    circuit.measure([0, 1], [bit for each in registers if each.name in READ for bit in each])
    return circuit, x


READ = ("meas", "c", "d", "outcome", "a", "b")
REGISTERS = {
    "meas": [ClassicalRegister(2, "meas")],
    "c": [ClassicalRegister(2, "c")],
    "another name": [ClassicalRegister(2, "outcome")],
    "two registers": [ClassicalRegister(1, "a"), ClassicalRegister(1, "b")],
    "idle, before": [ClassicalRegister(1, "idle"), ClassicalRegister(2, "outcome")],
    "idle, after": [ClassicalRegister(2, "outcome"), ClassicalRegister(1, "idle")],
    "two registers, one of them c": [ClassicalRegister(1, "c"), ClassicalRegister(1, "d")],
}
SHOT_SAMPLERS = {
    "statevector": lambda: StatevectorSampler(default_shots=SHOTS, seed=1),
    "aer": lambda: SamplerV2(default_shots=SHOTS, seed=1),
    "exact": QMLSampler,
}


@pytest.mark.parametrize("registers", REGISTERS)
@pytest.mark.parametrize("sampler", SHOT_SAMPLERS)
def test_rows_are_kept_apart_whatever_the_register_is_called(registers: str, sampler: str) -> None:
    circuit, x = measured(*REGISTERS[registers])
    source = SamplerQNN(
        circuit=circuit, input_params=[x], sampler=SHOT_SAMPLERS[sampler](), input_gradients=True
    )
    inputs = ANGLES.clone().requires_grad_()
    found = NetworkBackend(source).probabilities(inputs)
    ones = torch.sin(ANGLES[:, 0] / 2) ** 2
    nothing = torch.zeros(3, dtype=torch.float64)
    expected = torch.stack([nothing, nothing, 1 - ones, ones], 1)  # qubit 1 holds a 1
    torch.testing.assert_close(found.detach(), expected, rtol=0, atol=SCATTER)
    found[:, 3].sum().backward()
    slopes = torch.sin(ANGLES) / 2
    torch.testing.assert_close(inputs.grad, slopes, rtol=0, atol=SCATTER)


def test_sampler_qnn_itself_keeps_rows_apart_in_the_one_register_that_is_left_as_it_is() -> None:
    circuit, x = measured(ClassicalRegister(2, REGISTER))
    sampler = StatevectorSampler(default_shots=SHOTS, seed=1)
    found = SamplerQNN(circuit=circuit, input_params=[x], sampler=sampler).forward(
        ANGLES.numpy(), []
    )
    ones = np.sin(ANGLES[:, 0].numpy() / 2) ** 2
    np.testing.assert_allclose(found[:, 3], ones, atol=SCATTER)


def test_perturbation_reads_its_own_rows_of_a_register_of_any_name() -> None:
    x = Parameter("x")
    circuit = QuantumCircuit(1, 1)
    circuit.ry(x, 0)
    circuit.measure(0, 0)
    sampler = StatevectorSampler(default_shots=SHOTS, seed=1)
    backend = backend_of(SamplerQNN(circuit=circuit, input_params=[x], sampler=sampler))
    assert isinstance(backend, NetworkBackend)
    found = backend.readout(ANGLES)
    torch.testing.assert_close(found, -torch.cos(ANGLES), rtol=0, atol=2 * SCATTER)


class Unnamed(BaseSamplerV2):  # type: ignore[misc]
    """A user's sampler, which calls whatever was measured "c"."""

    def run(self, pubs: Any, *, shots: int | None = None) -> Any:
        job = StatevectorSampler(default_shots=SHOTS, seed=1).run(pubs, shots=shots)
        for each in job.result():
            each.data.c = each.data.meas
            del each.data.meas
        return job


def test_rows_are_kept_apart_where_a_given_sampler_names_the_register() -> None:
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    backend = SamplerBackend(ParametrizedCircuit(circuit, [x]), sampling=GivenSampling(Unnamed()))
    found = backend.readout(ANGLES)
    torch.testing.assert_close(found, -torch.cos(ANGLES), rtol=0, atol=2 * SCATTER)


def halfway(num_qubits: int) -> SamplerQNN:
    """Return a network that measures qubit 0 on the way, and lets the outcome decide."""
    x = Parameter("x")
    circuit = QuantumCircuit(num_qubits, 2)
    circuit.ry(x, 0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(num_qubits - 1)
    circuit.measure(num_qubits - 1, 1)
    return SamplerQNN(
        circuit=circuit, input_params=[x], sampler=SamplerV2(default_shots=SHOTS, seed=1)
    )


def test_rows_are_kept_apart_where_a_circuit_measures_on_the_way() -> None:
    found = layer_backend_of(halfway(2)).probabilities(ANGLES)
    ones = torch.sin(ANGLES[:, 0] / 2) ** 2
    torch.testing.assert_close(found[:, 3], ones, rtol=0, atol=SCATTER)
    torch.testing.assert_close(found[:, 0], 1 - ones, rtol=0, atol=SCATTER)


def test_outcomes_that_a_network_leaves_out_are_told() -> None:
    x = Parameter("x")
    circuit = QuantumCircuit(1, 2)
    circuit.ry(x, 0)
    circuit.measure(0, 0)
    circuit.measure(0, 1)
    source = SamplerQNN(circuit=circuit, input_params=[x], sampler=SamplerV2(seed=1))
    message = r"Up to \d+% of the shots .* outcomes below 2\^1, .* more bits than .* add qubits"
    with pytest.warns(UserWarning, match=message):
        layer_backend_of(source).probabilities(ANGLES)


W = Parameter("w")
X = Parameter("x")
CONTROLLED: dict[str, tuple[Gate, list[int]]] = {
    "crx": (CRXGate(W), [1, 2]),
    "cry": (CRYGate(W), [1, 2]),
    "cry of a product": (CRYGate(W * X), [0, 2]),
    "crz": (CRZGate(W), [1, 2]),
    "cp": (CPhaseGate(W), [1, 2]),
    "cp, open": (CPhaseGate(W, ctrl_state=0), [1, 2]),
    "cu, open": (CUGate(W, 0.4, 0.2, 0.1, ctrl_state=0), [1, 2]),
    "cu3": (CU3Gate(W, 0.3, 0.2), [1, 2]),
    "mcp": (MCPhaseGate(W, 2), [0, 1, 2]),
    "mcp, half open": (MCPhaseGate(W, 2, ctrl_state=2), [0, 1, 2]),
}
"""Gates whose free angles Aer's primitives take for 0, or bind to another gate."""


def controlled(gate: Gate, qubits: list[int]) -> ParametrizedCircuit:
    circuit = QuantumCircuit(3)
    circuit.h([0, 1, 2])
    circuit.ry(X, 0)
    circuit.ry(0.7, 1)
    circuit.append(gate, qubits)
    circuit.h(2)
    circuit.ry(0.4, 1)
    return ParametrizedCircuit(circuit, [X], [W])


def aers_sampler() -> SamplerV2:
    return SamplerV2(default_shots=SHOTS, seed=1)


class OwnSampling(Sampling):
    """Not one of ours, as in a file of the user's."""

    shots = SHOTS
    stochastic = False
    exact = False
    reproducible = True

    def sampler(self) -> BaseSamplerV2:
        return aers_sampler()


AERS: dict[str, Any] = {
    "network": lambda built: network(built, sampler=aers_sampler()),
    "given": lambda built: SamplerBackend(built, sampling=GivenSampling(aers_sampler())),
    "a class of the user's": lambda built: SamplerBackend(built, sampling=OwnSampling()),
}
AT = torch.tensor([[0.9], [2.1], [-0.3]], dtype=torch.float64), torch.tensor([2.4]).double()


@pytest.mark.parametrize("source", AERS.values(), ids=AERS)
@pytest.mark.parametrize(("gate", "qubits"), CONTROLLED.values(), ids=CONTROLLED)
def test_aers_own_sampler_sees_the_angles_of_controlled_gates(
    gate: Gate, qubits: list[int], source: Any
) -> None:
    built, (inputs, weights) = controlled(gate, qubits), AT
    found = layer_backend_of(source(built)).probabilities(inputs, None, weights)
    expected = CompiledBackend(built).probabilities(inputs, None, weights)
    assert (found - expected).abs().max() < SCATTER


@pytest.mark.parametrize(("gate", "qubits"), CONTROLLED.values(), ids=CONTROLLED)
def test_aers_own_estimator_sees_the_angles_of_controlled_gates(
    gate: Gate, qubits: list[int]
) -> None:
    built, (inputs, weights) = controlled(gate, qubits), AT
    observables = [SparsePauliOp(["ZII", "IXI"], [1.0, 0.5]), SparsePauliOp("YIZ")]
    source = EstimatorQNN(
        circuit=built.circuit,
        estimator=EstimatorV2(options={"default_precision": 0.0}),
        observables=observables,
        input_params=[X],
        weight_params=[W],
        input_gradients=True,
        default_precision=0.0,
    )
    exact = CompiledBackend(ParametrizedCircuit(built.circuit, [X], [W], observables=observables))
    answers = []
    for backend in (layer_backend_of(source), exact):
        own = weights.clone().requires_grad_()
        values = backend.probabilities(inputs, None, own)
        values.sum().backward()
        answers.append((values.detach(), own.grad))
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=1e-6)


def test_aers_own_sampler_sees_the_angles_of_controlled_gates_under_a_condition() -> None:
    circuit = QuantumCircuit(3, 3)
    circuit.h([0, 1])
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.append(CRYGate(W, ctrl_state=0), [1, 2])
    circuit.ry(X, 1)
    circuit.measure([1, 2], [1, 2])
    built = ParametrizedCircuit(circuit, [X], [W])
    inputs, weights = AT
    found = layer_backend_of(network(built, sampler=aers_sampler())).probabilities(
        inputs, None, weights
    )
    ones = found[:, 4:].sum(1)
    expected = torch.sin(weights / 2).square().div(4).expand(3)
    torch.testing.assert_close(ones, expected, rtol=0, atol=SCATTER)


def test_samplers_of_others_get_circuits_as_they_are() -> None:
    class Seen(StatevectorSampler):  # type: ignore[misc]
        def run(self, pubs: Any, *, shots: int | None = None) -> Any:
            pubs = list(pubs)
            names.extend(step.operation.name for pub in pubs for step in pub[0].data)
            return super().run(pubs, shots=shots)

    names = list[str]()
    built, (inputs, weights) = controlled(*CONTROLLED["cp, open"]), AT
    layer_backend_of(network(built, sampler=Seen())).probabilities(inputs, None, weights)
    assert "cp_o0" in names

"""Which engine evaluates a circuit: compiled wherever that changes no number."""

from typing import Any

import pytest
import torch
from qiskit.circuit import Gate, Parameter, QuantumCircuit
from qiskit.primitives import StatevectorSampler
from qiskit_aer.primitives import SamplerV2
from qiskit_machine_learning.neural_networks import SamplerQNN
from qiskit_machine_learning.primitives import QMLSampler

from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.backends.engines import SamplerEngine, circuit_of, engine_of
from lightning_qsgd.backends.plugins import VectorizedSampler
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit, superposition_circuit


def network(built: ParametrizedCircuit | None = None, **extra: Any) -> SamplerQNN:
    built = built or superposition_circuit(num_qubits=2, reps=1)
    return SamplerQNN(
        circuit=built.circuit, input_params=built.inputs, weight_params=built.weights, **extra
    )


def nonlinear() -> ParametrizedCircuit:
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.ry(x * w, 0)
    return ParametrizedCircuit(circuit, [x], [w])


def test_auto_compiles_circuits_and_exact_networks() -> None:
    exact = (QMLSampler(), VectorizedSampler())
    networks = [network(), *(network(sampler=sampler) for sampler in exact)]
    for source in (*networks, SuperpositionCircuit(2)):
        assert isinstance(engine_of(source, "auto"), CompiledCircuit)


@pytest.mark.parametrize(
    "sampler",
    [QMLSampler(shots=10), VectorizedSampler(shots=10), StatevectorSampler(), SamplerV2()],
    ids=lambda s: type(s),
)
def test_auto_leaves_networks_with_shots_to_their_sampler(sampler: Any) -> None:
    source = network(sampler=sampler)
    assert isinstance(engine_of(source, "auto"), SamplerEngine)
    assert isinstance(engine_of(source, "compiled"), CompiledCircuit)


def test_both_engines_give_the_same_numbers() -> None:
    x, w = torch.rand(3, 2).double(), torch.rand(4).double()
    for source in (network(), SuperpositionCircuit(2, reps=1)):
        sampler, compiled = engine_of(source, "sampler"), engine_of(source, "compiled")
        assert isinstance(sampler, SamplerEngine)
        outputs = sampler.outputs(x, w), compiled.outputs(x, w)
        torch.testing.assert_close(*outputs, rtol=0, atol=1e-10)
        assert sampler.output_shape == compiled.output_shape == (4,)
        assert (sampler.num_inputs, sampler.num_weights) == (2, 4)


def test_network_that_cannot_be_compiled_falls_back_only_in_auto_and_says_so() -> None:
    with pytest.warns(UserWarning, match=r"not affine in .* It runs on its own sampler, .*slow"):
        assert isinstance(engine_of(network(nonlinear()), "auto"), SamplerEngine)
    for source in (network(nonlinear()), nonlinear()):
        with pytest.raises(ValueError, match=r"Cannot compile gate `ry`"):
            engine_of(source, "compiled")
    with pytest.raises(ValueError, match=r"Cannot compile gate `ry`"):
        engine_of(nonlinear(), "auto")


def test_opaque_gate_is_left_to_the_sampler() -> None:
    circuit = QuantumCircuit(1)
    circuit.append(Gate("box", 1, []), [0])
    with pytest.warns(UserWarning, match="Cannot compile"):
        engine = engine_of(network(ParametrizedCircuit(circuit, [])), "auto")
    assert isinstance(engine, SamplerEngine)


def test_settings_reach_the_compiled_circuit() -> None:
    engine = engine_of(SuperpositionCircuit(2), "auto", memory_limit_gib=0.5, torch_compile=False)
    assert isinstance(engine, CompiledCircuit)
    assert engine.memory_limit_gib == 0.5


def test_circuit_of_either_source_has_roles() -> None:
    for source in (network(), SuperpositionCircuit(2, reps=1)):
        built = circuit_of(source)
        assert (len(built.inputs), len(built.weights)) == (2, 4)


def test_unknown_engine_and_circuit_without_roles_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown engine 'fast': .*auto, compiled, sampler"):
        engine_of(network(), "fast")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"CircuitSource, got QuantumCircuit: .*Wrap a Quantum"):
        engine_of(QuantumCircuit(1), "auto")  # type: ignore[arg-type]


def test_auto_does_not_hide_what_is_wrong_behind_the_sampler() -> None:
    large = superposition_circuit(num_qubits=24, reps=1)
    with pytest.raises(ValueError, match=r"Cannot evaluate 1 circuit.* of 24 qubits"):
        engine_of(network(large), "auto")
    outside = network(superposition_circuit(3), interpret=lambda i: i, output_shape=4)
    with pytest.raises(ValueError, match=r"`interpret` maps outcome 4 to 4, outside the output"):
        engine_of(outside, "auto")

"""What is compiled is compared with qiskit before it is used; evolutions are one circuit."""

from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import ControlledGate, Parameter, QuantumCircuit
from qiskit.circuit import library as lib
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit.synthesis import LieTrotter, QDrift, SuzukiTrotter
from qiskit_machine_learning.neural_networks import SamplerQNN

from lightning_qsgd.backends import (
    AerSampling,
    CompiledBackend,
    GivenSampling,
    SamplerBackend,
    ShotSampling,
)
from lightning_qsgd.backends.backend_of import backend_of
from lightning_qsgd.backends.compiled import CompiledCircuit, standard_gates, verification
from lightning_qsgd.backends.plugins import VectorizedSampler
from lightning_qsgd.circuits import ParametrizedCircuit

T = Parameter("t")


def with_gate(gate: Any, num_qubits: int = 0, angle: Any = T) -> ParametrizedCircuit:
    circuit = QuantumCircuit(max(gate.num_qubits, num_qubits))
    circuit.ry(angle, 0)
    circuit.append(gate, range(gate.num_qubits))
    return ParametrizedCircuit(circuit, list(circuit.parameters))


class Liar(ControlledGate):
    """Says that it is a controlled X, and is a controlled Z."""

    def __init__(self) -> None:
        super().__init__("liar", 2, [], num_ctrl_qubits=1, base_gate=lib.XGate())

    def _define(self) -> None:
        circuit = QuantumCircuit(2)
        circuit.cz(0, 1)
        self.definition = circuit


@pytest.mark.parametrize("num_qubits", [2, 12])
def test_gate_that_is_not_what_it_says_is_refused_by_its_name(num_qubits: int) -> None:
    with pytest.raises(
        ValueError, match=r"Cannot compile gate `liar`: an amplitude .*Decompose it"
    ):
        CompiledCircuit(with_gate(Liar(), num_qubits))


def test_a_mistake_of_the_compiler_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_VERIFIED", set())
    monkeypatch.setitem(standard_gates.GATES, "rxx", standard_gates.GATES["ryy"])
    circuit = QuantumCircuit(3)
    circuit.ry(T, 0)
    circuit.rxx(0.7, 0, 1)
    circuit.cx(1, 2)
    with pytest.raises(ValueError, match=r"Cannot compile gate `rxx`: an amplitude differs"):
        CompiledCircuit(ParametrizedCircuit(circuit, [T]))


def test_a_circuit_that_is_built_again_is_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_VERIFIED", set())
    compared = []
    original = verification._difference
    monkeypatch.setattr(
        verification, "_difference", lambda *given: compared.append(1) or original(*given)
    )
    for angle in (0.3, 0.3, 0.4):
        inner = QuantumCircuit(1, name="inner")
        inner.rx(angle, 0)
        CompiledCircuit(with_gate(inner.to_gate(), angle=Parameter("t")))
    assert len(compared) == 2


@pytest.mark.parametrize("targets", [2, 3])
def test_one_control_acts_on_all_targets(targets: int) -> None:
    source = with_gate(lib.MCMTGate(lib.XGate(), 1, targets))
    for backend in (CompiledBackend(source), SamplerBackend(source)):
        outcomes = backend.probabilities(torch.tensor([[torch.pi]], dtype=torch.float64))[0]
        assert outcomes[-1] == pytest.approx(1.0)


EVOLUTIONS = {
    "not commuting": lambda: lib.PauliEvolutionGate(SparsePauliOp(["X", "Z"]), T),
    "commuting": lambda: lib.PauliEvolutionGate(SparsePauliOp(["XX", "ZZ"], [0.4, 1.1]), T),
    "two steps": lambda: lib.PauliEvolutionGate(
        SparsePauliOp(["XZ", "ZI", "YY"]), T, synthesis=SuzukiTrotter(order=2, reps=2)
    ),
    "random": lambda: drifting(0.4),
    "within a gate": lambda: wrapped().to_gate(),
    "under an annotation": lambda: wrapped().to_gate().control(1, annotated=True),
    "under a control": lambda: wrapped().to_gate().control(1, annotated=False),
    "of its own control": lambda: EVOLUTIONS["not commuting"]().control(1),
    "feature map": lambda: lib.zz_feature_map(2).assign_parameters([T, 0.3]).to_gate(),
    "several targets": lambda: lib.MCMTGate(lib.RYGate(0.4), 1, 2),
}


def wrapped() -> QuantumCircuit:
    circuit = QuantumCircuit(1, name="wrapped")
    circuit.append(lib.PauliEvolutionGate(SparsePauliOp(["X", "Z"]), T), [0])
    return circuit


def drifting(time: Any) -> lib.PauliEvolutionGate:
    terms = SparsePauliOp(["X", "Z"])
    return lib.PauliEvolutionGate(terms, time, synthesis=QDrift(reps=2, seed=1))


def test_evolution_that_cannot_be_written_out_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"`PauliEvolution`: .*QDrift, needs a time.*LieTrotter"):
        with_gate(drifting(T))


BACKENDS = {
    "compiled": CompiledBackend,
    "exact sampler": SamplerBackend,
    "plug-in": lambda source: SamplerBackend(source, sampling=GivenSampling(VectorizedSampler())),
}


@pytest.mark.filterwarnings("ignore:splu converted|spsolve")  # qiskit's own matrix of an evolution
@pytest.mark.parametrize("family", EVOLUTIONS)
def test_every_backend_gives_the_derivative_of_its_own_values(family: str) -> None:
    source = with_gate(EVOLUTIONS[family]())
    x = torch.tensor([[0.7]], dtype=torch.float64)
    weights = torch.linspace(1, 2, 2**source.num_qubits, dtype=torch.float64)
    values = []
    for build in BACKENDS.values():
        backend = build(source)
        asked = {
            "probabilities": lambda v, b=backend: (b.probabilities(v)[0] * weights).sum(),
            "readout": lambda v, b=backend: b.readout(v)[0].sum(),
        }
        for ask in asked.values():
            own = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(ask(own), own)
            step = 1e-5
            slope = (ask(x + step) - ask(x - step)) / (2 * step)
            assert gradient.item() == pytest.approx(slope.item(), abs=1e-6)
        values.append(backend.probabilities(x)[0])
    for other in values[1:]:
        torch.testing.assert_close(other, values[0], rtol=0, atol=1e-10)
    keys = np.array([5], dtype=np.uint64)
    for sampling in (ShotSampling(40_000), AerSampling(40_000)):
        drawn = SamplerBackend(source, sampling=sampling).probabilities(x, keys)[0]
        torch.testing.assert_close(drawn, values[0], rtol=0, atol=0.015)


def test_evolution_is_named_with_what_it_is_simulated_by() -> None:
    source = with_gate(EVOLUTIONS["two steps"]())
    assert source.synthesized == ("PauliEvolution by SuzukiTrotter, 2 steps",)
    assert with_gate(EVOLUTIONS["commuting"]()).synthesized == ()
    plain = lib.PauliEvolutionGate(SparsePauliOp(["X", "Z"]), 0.7, synthesis=LieTrotter())
    source = with_gate(plain)
    exact = QuantumCircuit(1)
    exact.ry(0.2, 0)
    exact.append(plain.definition.to_gate(), [0])
    own = CompiledCircuit(source).outputs(torch.tensor([[0.2]]).double(), torch.zeros(0))
    np.testing.assert_allclose(own[0], Statevector(exact).probabilities(), rtol=0, atol=1e-9)


def test_network_whose_values_and_gradients_are_two_circuits_is_refused() -> None:
    circuit = with_gate(EVOLUTIONS["not commuting"]()).circuit
    circuit = QuantumCircuit(1)
    circuit.append(EVOLUTIONS["not commuting"](), [0])
    network = SamplerQNN(circuit=circuit, input_params=[T], weight_params=[])
    with pytest.raises(ValueError, match=r"PauliEvolution by LieTrotter, 1 step: .*two circuits"):
        backend_of(network)

"""Which backends take a circuit; and that a refusal names only those that do."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import (
    AnnotatedOperation,
    ClassicalRegister,
    ControlModifier,
    Gate,
    InverseModifier,
    Parameter,
    PowerModifier,
    QuantumCircuit,
    QuantumRegister,
)
from qiskit.circuit import library as lib
from qiskit.circuit.classical import expr
from qiskit.quantum_info import Clifford, Kraus, SparsePauliOp, Statevector
from qiskit_aer.primitives import SamplerV2
from qiskit_machine_learning.neural_networks import SamplerQNN

from lightning_qsgd.backends import AerSampling, CompiledBackend, SamplerBackend
from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.nn import CircuitLayer

X, W = Parameter("x"), Parameter("w")
Build = Callable[[QuantumCircuit], Any]


def ry(name: str = "own") -> Gate:
    inner = QuantumCircuit(1, name=name)
    inner.ry(W, 0)
    return inner.to_gate()


def started(build: Build, *registers: Any) -> QuantumCircuit:
    circuit = QuantumCircuit(*(registers or (2, 2)))
    circuit.ry(X, 0)
    build(circuit)
    return circuit


def source(build: Build, *registers: Any) -> ParametrizedCircuit:
    circuit = started(build, *registers)
    return ParametrizedCircuit(circuit, [X], [W] if W in circuit.parameters else [])


def box(circuit: QuantumCircuit) -> None:
    with circuit.box():
        circuit.ry(W, 0)
        with circuit.box():
            circuit.cx(0, 1)


def box_with_phase(circuit: QuantumCircuit) -> None:
    with circuit.for_loop(range(2)):
        with circuit.box():
            circuit.ry(W, 1)
        with circuit.box():
            circuit.cx(1, 0)


def annotated(*modifiers: Any, gate: Callable[[], Any] = ry) -> Build:
    operation = AnnotatedOperation(gate(), list(modifiers))
    return lambda circuit: circuit.append(operation, range(operation.num_qubits))


def annotated_inside(circuit: QuantumCircuit) -> None:
    inner = QuantumCircuit(2)
    inner.append(AnnotatedOperation(ry(), [InverseModifier(), ControlModifier(1)]), [1, 0])
    circuit.append(inner.to_gate(), [0, 1])


def crossed(circuit: QuantumCircuit) -> None:
    """Leave a parameter to the global phase alone."""
    circuit.global_phase = X * W


def phase_gate(circuit: QuantumCircuit) -> None:
    circuit.append(lib.GlobalPhaseGate(W), [])
    circuit.ry(W, 1)


def with_variable(circuit: QuantumCircuit) -> None:
    variable = circuit.add_var("flag", expr.lift(True))
    circuit.store(variable, expr.lift(False))
    circuit.ry(W, 1)


def bell(circuit: QuantumCircuit) -> None:
    plain = QuantumCircuit(2)
    plain.h(0)
    plain.cx(0, 1)
    circuit.append(Clifford(plain), [0, 1])
    circuit.ry(W, 1)


def written(*steps: tuple[Any, ...]) -> Build:
    """Return what appends standard gates, each given as its name, its angles and its qubits."""

    def build(circuit: QuantumCircuit) -> None:
        for name, *arguments in steps:
            getattr(circuit, name)(*arguments)

    return build


TAKEN: dict[str, tuple[Build, Build]] = {
    "box": (box, written(("ry", W, 0), ("cx", 0, 1))),
    "boxes in a loop": (
        box_with_phase,
        written(*2 * [("ry", W, 1), ("cx", 1, 0)]),
    ),
    "annotated control": (annotated(ControlModifier(1, 0)), written(("cry", W, 0, 1, None, 0))),
    "annotated inverse": (annotated(InverseModifier()), written(("ry", -W, 0))),
    "annotated inside of a gate": (annotated_inside, written(("cry", -W, 1, 0))),
    "global phase": (crossed, written(("rz", 0 * W, 1))),
    "global phase as a gate": (phase_gate, written(("ry", W, 1))),
    "clifford": (bell, written(("h", 0), ("cx", 0, 1), ("ry", W, 1))),
    "variable": (with_variable, written(("ry", W, 1))),
}
SAMPLED: dict[str, tuple[Build, Build]] = {
    "annotated power": (annotated(PowerModifier(2)), written(("ry", 2 * W, 0))),
}


def evaluated(backend: Any) -> tuple[torch.Tensor, ...]:
    inputs = torch.tensor([[0.9], [-0.4]], dtype=torch.float64).requires_grad_()
    weights = torch.tensor([0.7], dtype=torch.float64).requires_grad_()
    outputs = backend.probabilities(inputs, None, weights)
    flow = torch.tensor([1.0, -0.3, 0.2, 0.8], dtype=torch.float64)
    by_both = torch.autograd.grad((outputs @ flow).sum(), (inputs, weights))
    return outputs.detach(), *by_both


@pytest.mark.parametrize("name", [*TAKEN, *SAMPLED])
def test_values_and_gradients_are_those_of_the_gates_written_out(name: str) -> None:
    build, plain = (TAKEN | SAMPLED)[name]
    expected = evaluated(CompiledBackend(source(plain)))
    torch.testing.assert_close(
        evaluated(SamplerBackend(source(build))), expected, rtol=0, atol=1e-10
    )
    if name in TAKEN:
        torch.testing.assert_close(
            evaluated(CompiledBackend(source(build))), expected, rtol=0, atol=1e-10
        )
    noisy = SamplerBackend(source(build), sampling=AerSampling(4000))
    keys = np.arange(2, dtype=np.uint64)
    inputs = torch.tensor([[0.9], [-0.4]], dtype=torch.float64)
    found = noisy.probabilities(inputs, keys, torch.tensor([0.7], dtype=torch.float64))
    torch.testing.assert_close(found, expected[0], rtol=0, atol=0.04)  # 5 standard deviations


@pytest.mark.parametrize("name", SAMPLED)
def test_the_compiler_names_the_backend_that_takes_what_it_refuses(name: str) -> None:
    with pytest.raises(ValueError, match=r"Cannot compile.*with SamplerBackend \(engine='sampler"):
        CompiledBackend(source(SAMPLED[name][0]))


def test_measurements_in_a_box_are_read() -> None:
    def measured(circuit: QuantumCircuit) -> None:
        with circuit.box():
            circuit.measure([0, 1], [1, 0])

    inputs = torch.tensor([[0.9]], dtype=torch.float64)
    for kind in (CompiledBackend, SamplerBackend):
        found = kind(source(measured)).probabilities(inputs)
        p = float(torch.sin(inputs / 2) ** 2)
        torch.testing.assert_close(found, torch.tensor([[1 - p, 0, p, 0]], dtype=torch.float64))


def generator(circuit: QuantumCircuit) -> None:
    matrix = SparsePauliOp(["XX", "ZI"], [0.3, 0.2]).to_matrix()
    circuit.append(lib.HamiltonianGate(matrix, W), [0, 1])


def test_a_gate_without_parts_is_evaluated_and_its_gradient_is_refused() -> None:
    backend = SamplerBackend(source(generator))
    inputs, weights = (
        torch.tensor([[0.9]], dtype=torch.float64),
        torch.tensor([0.7], dtype=torch.float64),
    )
    bound = started(generator, 2).assign_parameters({X: 0.9, W: 0.7})
    expected = torch.from_numpy(Statevector(bound).probabilities())[None]
    found = backend.probabilities(inputs, None, weights)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    for own in (weights.requires_grad_(), weights.detach()):
        asked = inputs if own.requires_grad else inputs.clone().requires_grad_()
        with pytest.raises(ValueError, match=r"differentiate gate `hamiltonian`.*Decompose it, or"):
            backend.probabilities(asked, None, own)
    with pytest.raises(ValueError, match=r"`hamiltonian`.*PauliEvolutionGate; or .*without grad"):
        CompiledBackend(source(generator))
    noisy = SamplerBackend(source(generator), sampling=AerSampling(10))
    with pytest.raises(ValueError, match=r"Cannot transpile.*\"hamiltonian\".*or use ExactSamplin"):
        noisy.probabilities(inputs, np.zeros(1, np.uint64), weights.detach())


def branch(circuit: QuantumCircuit) -> None:
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)


@pytest.mark.parametrize("sampling", [None, AerSampling(10)])
def test_a_branch_is_refused_with_a_remedy_that_works(sampling: Any) -> None:
    way = r"or, for values alone, give a CircuitLayer the SamplerQNN of a sampler .* such as Aer's"
    with pytest.raises(ValueError, match=rf"Cannot compile gate `if_else`.*{way}"):
        CompiledBackend(source(branch))
    given = {} if sampling is None else {"sampling": sampling}
    with pytest.raises(ValueError, match=rf"classical bits or variables before its end.*{way}"):
        SamplerBackend(source(branch), **given)
    circuit = started(branch, QuantumRegister(2), ClassicalRegister(2, "meas"))
    circuit.measure(1, 1)
    network = SamplerQNN(
        circuit=circuit, input_params=[X], weight_params=[], sampler=SamplerV2(seed=1)
    )
    with torch.no_grad():
        outputs = CircuitLayer(network)(torch.tensor([[np.pi]]))
    torch.testing.assert_close(outputs, torch.tensor([[0.0, 0.0, 0.0, 1.0]]))


def test_a_branch_on_a_variable_is_refused_in_words() -> None:
    def on_variable(circuit: QuantumCircuit) -> None:
        flag = circuit.add_var("flag", expr.lift(True))
        with circuit.if_test(flag):
            circuit.x(1)

    with pytest.raises(ValueError, match=r"Cannot compile gate .*without classical variables"):
        CompiledBackend(source(on_variable))
    with pytest.raises(ValueError, match=r"classical bits or variables before its end"):
        SamplerBackend(source(on_variable))


def channel(circuit: QuantumCircuit) -> None:
    halves = [np.sqrt(0.5) * np.eye(2), np.sqrt(0.5) * np.array([[0, 1], [1, 0]])]
    circuit.append(Kraus(halves).to_instruction(), [0])


def loop_that_breaks(circuit: QuantumCircuit) -> None:
    with circuit.for_loop(range(3)):
        circuit.ry(W, 0)
        circuit.break_loop()


@pytest.mark.parametrize(
    ("build", "outcomes"),
    [(channel, [0.5, 0.5, 0.0, 0.0]), (loop_that_breaks, [0.485, 0.515, 0.0, 0.0])],
    ids=["channel", "loop that breaks"],
)
def test_what_no_state_vector_has_runs_on_aer(build: Build, outcomes: list[float]) -> None:
    with pytest.raises(ValueError, match=r"Cannot compile gate .*AerSampling"):
        CompiledBackend(source(build))
    with pytest.raises(ValueError, match=r"from one state vector: .*Use AerSampling, or remove it"):
        SamplerBackend(source(build))
    backend = SamplerBackend(source(build), sampling=AerSampling(4000))
    weights = torch.full((len(backend.describe().weights),), 0.7)
    inputs, keys = torch.tensor([[0.9]]), np.zeros(1, np.uint64)
    found = backend.probabilities(inputs, keys, weights)[0]
    torch.testing.assert_close(found, torch.tensor(outcomes), rtol=0, atol=0.04)


def test_the_gradient_of_a_loop_that_breaks_is_refused() -> None:
    backend = SamplerBackend(source(loop_that_breaks), sampling=AerSampling(10))
    weights, keys = torch.tensor([0.7], requires_grad=True), np.zeros(1, np.uint64)
    with pytest.raises(ValueError, match=r"Cannot differentiate gate `for_loop`"):
        backend.probabilities(torch.tensor([[0.9]]), keys, weights)


@pytest.mark.parametrize("params", [[], [W]])
def test_a_gate_that_says_nothing_is_to_be_decomposed_whatever_the_backend(params: Any) -> None:
    def opaque(circuit: QuantumCircuit) -> None:
        circuit.append(Gate("opaque", 1, params), [0])

    for kind in (CompiledBackend, SamplerBackend):
        with pytest.raises(ValueError, match=r"`opaque`.*(Decompose the gate\.$|Decompose it, or)"):
            kind(source(opaque))

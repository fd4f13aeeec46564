"""Networks whose circuit lies on a device: they give what the circuit gives as it was written."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import ClassicalRegister, QuantumCircuit, generate_preset_pass_manager, transpile
from qiskit.circuit import Parameter, ParameterVector
from qiskit.primitives import BackendSamplerV2, StatevectorEstimator, StatevectorSampler
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit.transpiler import CouplingMap, PassManager
from qiskit.transpiler.passes import Optimize1qGatesDecomposition
from qiskit_aer.primitives import SamplerV2
from qiskit_machine_learning.neural_networks import EstimatorQNN, SamplerQNN
from qiskit_machine_learning.primitives import QMLEstimator, QMLSampler
from torch import Tensor

from lightning_qsgd.backends import AerSampling, CompiledBackend, SamplerBackend
from lightning_qsgd.backends.backend_of import NetworkBackend, backend_of
from lightning_qsgd.backends.plugins import VectorizedSampler, VectorizedShiftGradient
from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.nn import CircuitBias, CircuitLayer
from lightning_qsgd.perturbations import Perturbation

X, W = ParameterVector("x", 2), ParameterVector("w", 3)
ROWS = np.array([[0.3, 0.9], [-1.1, 0.4], [2.0, 0.7]])
WEIGHTS = np.array([0.7, -0.4, 1.2])
FLOW = np.random.default_rng(1).normal(size=(3, 8))
SHOTS = 20_000
SCATTER = 0.025  # 7 standard deviations of one probability
ROUNDING = 1e-8  # that of the differences below
PLACES, GATES = [2, 0, 1], ["rz", "sx", "x", "cx"]


def written(measured: bool = False) -> QuantumCircuit:
    """Return a circuit that no permutation of its qubits leaves as it is."""
    circuit = QuantumCircuit(3)
    circuit.ry(X[0], 0)
    circuit.ry(X[1], 1)
    circuit.rx(W[0], 2)
    circuit.cx(0, 2)
    circuit.cx(0, 1)
    circuit.ry(W[1], 0)
    circuit.cx(1, 2)
    circuit.ry(W[2], 1)
    if measured:
        circuit.measure_all()
    return circuit


def on_a_line(circuit: QuantumCircuit, size: int, seed: int) -> QuantumCircuit:
    return transpile(
        circuit,
        coupling_map=CouplingMap.from_line(size),
        initial_layout=PLACES,
        basis_gates=GATES,
        optimization_level=1,
        seed_transpiler=seed,
    )


def placed(size: int, before: bool = False, after: bool = False) -> QuantumCircuit:
    """Lay it out on a line, measured by the user before or after that, or not at all."""
    moved = on_a_line(written(before), size, seed=3)
    assert moved.layout.final_index_layout(filter_ancillas=True) != [0, 1, 2]
    if after:
        moved.measure_all()
    return moved


def passes_onto(size: int, level: int) -> Any:
    return generate_preset_pass_manager(
        level,
        coupling_map=CouplingMap.from_line(size),
        initial_layout=PLACES,
        basis_gates=GATES,
        seed_transpiler=3,
    )


def network(circuit: QuantumCircuit, sampler: Any = None, **extra: Any) -> SamplerQNN:
    return SamplerQNN(
        circuit=circuit,
        input_params=list(X),
        weight_params=list(W),
        sampler=sampler,
        input_gradients=True,
        **extra,
    )


Make = Callable[[Any], SamplerQNN]
NETWORKS: dict[str, Make] = {
    "as written": lambda sampler: network(written(), sampler),
    "transpiled": lambda sampler: network(placed(3), sampler),
    "measured, transpiled": lambda sampler: network(placed(3, before=True), sampler),
    "transpiled, measured": lambda sampler: network(placed(3, after=True), sampler),
    "larger": lambda sampler: network(placed(5), sampler),
    "measured, larger": lambda sampler: network(placed(5, before=True), sampler),
    "larger, measured": lambda sampler: network(placed(5, after=True), sampler),
    "pass manager": lambda sampler: network(
        written(), sampler, pass_manager=passes_onto(size=3, level=1)
    ),
    "measured, pass manager": lambda sampler: network(
        written(measured=True), sampler, pass_manager=passes_onto(size=3, level=2)
    ),
    "pass manager, larger": lambda sampler: network(
        written(), sampler, pass_manager=passes_onto(size=5, level=0)
    ),
    "pass manager of full effort, larger": lambda sampler: network(
        written(), sampler, pass_manager=passes_onto(size=5, level=3)
    ),
    "pass manager that places nothing": lambda sampler: network(
        written(), sampler, pass_manager=PassManager([Optimize1qGatesDecomposition(GATES)])
    ),
}


def probabilities(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return those of all outcomes, by qiskit's state vector of the circuit as it is written."""
    values = [dict(zip([*X, *W], [*row, *weights], strict=True)) for row in rows]
    return np.array([Statevector(written().assign_parameters(v)).probabilities() for v in values])


def slopes(function: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    """Differentiate by central differences."""
    step = 1e-5
    places = np.eye(at.size).reshape(-1, *at.shape) * step
    found = [(function(at + each) - function(at - each)) / (2 * step) for each in places]
    return np.array(found).reshape(at.shape)


def check(source: Any, atol: float, engine: Any = "auto", kind: Any = NetworkBackend) -> None:
    """Hold values and both gradients of a layer against the state vector."""
    layer = CircuitLayer(source, engine=engine, initial_weights=torch.from_numpy(WEIGHTS))
    assert type(layer.backend) is kind
    inputs = torch.from_numpy(ROWS).requires_grad_()
    outputs = layer(inputs)
    (outputs * torch.from_numpy(FLOW)).sum().backward()
    expected = (
        probabilities(ROWS, WEIGHTS),
        slopes(lambda rows: (probabilities(rows, WEIGHTS) * FLOW).sum(), ROWS),
        slopes(lambda weights: (probabilities(ROWS, weights) * FLOW).sum(), WEIGHTS),
    )
    found = outputs.detach(), inputs.grad, layer.weight.grad
    for each, right in zip(found, expected, strict=True):
        assert each is not None
        np.testing.assert_allclose(each.numpy(), right, rtol=0, atol=atol)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_on_its_own_sampler_gives_values_and_gradients_as_written(name: str) -> None:
    check(NETWORKS[name](QMLSampler()), ROUNDING, engine="sampler")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_is_compiled_gives_values_and_gradients_as_written(name: str) -> None:
    check(NETWORKS[name](QMLSampler()), ROUNDING, kind=CompiledBackend)


DRAWING = {
    "statevector": lambda: StatevectorSampler(default_shots=SHOTS, seed=1),
    "aer": lambda: SamplerV2(default_shots=SHOTS, seed=1),
    "vectorized": lambda: VectorizedSampler(shots=SHOTS, seed=1),
}


@pytest.mark.parametrize("sampler", DRAWING)
@pytest.mark.parametrize("name", ["measured, larger", "larger, measured", "pass manager, larger"])
def test_shots_of_a_network_give_values_and_gradients_as_written(name: str, sampler: str) -> None:
    check(NETWORKS[name](DRAWING[sampler]()), SCATTER)


@pytest.mark.parametrize("layout", [None, [3, 0, 4]])
def test_a_device_larger_than_the_circuit_gives_gradients(layout: list[int] | None) -> None:
    device = GenericBackendV2(5, seed=1)
    passes = generate_preset_pass_manager(
        1, backend=device, initial_layout=layout, seed_transpiler=3
    )
    options = {"default_shots": SHOTS, "seed_simulator": 1}
    sampler = BackendSamplerV2(backend=device, options=options)
    check(network(written(), sampler, pass_manager=passes), SCATTER + 0.015)  # for its noise


def test_the_vectorized_gradient_takes_a_device_larger_than_the_circuit() -> None:
    sampler = VectorizedSampler()
    gradient = VectorizedShiftGradient(sampler, pass_manager=passes_onto(size=5, level=1))
    check(network(placed(5), sampler, gradient=gradient), ROUNDING, engine="sampler")


def test_the_network_of_the_user_stays_as_it_is() -> None:
    source = NETWORKS["pass manager"](QMLSampler())
    parts, passes = dict(vars(source)), source.gradient._pass_manager
    check(source, ROUNDING, engine="sampler")
    assert passes is not None
    assert dict(vars(source)) == parts
    assert source.circuit.layout is not None
    assert source.gradient._pass_manager is passes


@pytest.mark.parametrize("engine", ["auto", "sampler"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_perturbation_reads_the_qubits_as_written(name: str, engine: Any) -> None:
    backend = Perturbation(backend_of(NETWORKS[name](QMLSampler()), engine), strength=0.5).backend
    found = backend.readout(torch.from_numpy(ROWS), weights=torch.from_numpy(WEIGHTS))
    outcomes = np.arange(8)[:, None] >> np.arange(2) & 1
    right = probabilities(ROWS, WEIGHTS) @ np.where(outcomes, 1.0, -1.0)
    np.testing.assert_allclose(found.numpy(), right, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2]])
def test_bits_of_other_qubits_are_outcomes_and_no_readouts(order: list[int]) -> None:
    circuit = written()
    circuit.add_register(ClassicalRegister(3, "own"))
    circuit.measure(range(3), order)
    moved = transpile(
        circuit, coupling_map=CouplingMap.from_line(5), basis_gates=GATES, seed_transpiler=3
    )
    backend = NetworkBackend(network(moved, QMLSampler()))
    found = backend.probabilities(torch.from_numpy(ROWS), weights=torch.from_numpy(WEIGHTS))
    right = np.zeros((3, 8))
    for state, each in enumerate(probabilities(ROWS, WEIGHTS).T):
        right[:, sum((state >> qubit & 1) << bit for qubit, bit in enumerate(order))] += each
    np.testing.assert_allclose(found.numpy(), right, rtol=0, atol=ROUNDING)
    with pytest.raises(ValueError, match=r"measures them into other bits.*such as by `measure_all"):
        backend.check_blocks()


@pytest.mark.parametrize("engine", ["auto", "sampler"])
@pytest.mark.parametrize("before", [False, True])
def test_what_outcomes_stand_for_is_asked_with_those_as_written(before: bool, engine: Any) -> None:
    source = network(placed(5, before), interpret=lambda outcome: outcome % 2, output_shape=2)
    layer = CircuitLayer(source, engine=engine, initial_weights=torch.from_numpy(WEIGHTS))
    right = probabilities(ROWS, WEIGHTS).reshape(3, 4, 2).sum(1)
    found = layer(torch.from_numpy(ROWS)).detach().numpy()
    np.testing.assert_allclose(found, right, rtol=0, atol=ROUNDING)


def test_inputs_are_counted_against_the_qubits_as_written() -> None:
    x = ParameterVector("x", 2)
    circuit = QuantumCircuit(1)
    circuit.ry(x[0] + x[1], 0)
    line = CouplingMap.from_line(3)
    moved = transpile(circuit, coupling_map=line, basis_gates=GATES, seed_transpiler=1)
    with pytest.raises(ValueError, match=r"Cannot perturb with a circuit of 2 inputs and 1 qubits"):
        Perturbation(ParametrizedCircuit(moved, list(x)), strength=0.5)


S, V = Parameter("s"), ParameterVector("v", 2)
SCORES = torch.linspace(-2.0, 2.0, 7, dtype=torch.float64)
LEARNED = np.array([0.5, 0.8])


def scored(measured: bool = False) -> QuantumCircuit:
    circuit = QuantumCircuit(3)
    circuit.ry(S + V[0], 0)
    circuit.ry(V[1] - S, 1)
    circuit.cx(0, 1)
    circuit.rx(0.4, 2)
    circuit.cx(1, 2)
    if measured:
        circuit.measure_all()
    return circuit


def phi(weights: np.ndarray) -> np.ndarray:
    """Add up the probabilities of the first 3 basis states, for each score."""
    values = [dict(zip([S, *V], [s, *weights], strict=True)) for s in SCORES.tolist()]
    states = [Statevector(scored().assign_parameters(each)) for each in values]
    return np.array([state.probabilities()[:3].sum() for state in states])


@pytest.mark.parametrize("way", ["compiled", "sampler", "shots", "circuit"])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("measured", [False, True])
def test_a_bias_reads_the_circuit_as_written(way: str, size: int, measured: bool) -> None:
    moved = on_a_line(scored(measured), size, seed=1)
    sampler = StatevectorSampler(default_shots=SHOTS, seed=1) if way == "shots" else QMLSampler()
    source: Any = SamplerQNN(
        circuit=moved, input_params=[S], weight_params=list(V), sampler=sampler
    )
    if way == "circuit":
        source = ParametrizedCircuit(moved, [S], list(V))
    bias = CircuitBias(backend_of(source, "sampler" if way == "sampler" else "auto"))
    with torch.no_grad():
        bias.weight.copy_(torch.from_numpy(LEARNED))
    found: Tensor = bias(SCORES)
    found.sum().backward()
    atol = 2e-6 if way != "shots" else 8 * SCATTER  # the weights have single precision
    np.testing.assert_allclose(found.detach().numpy(), phi(LEARNED), rtol=0, atol=atol / 8 + 1e-6)
    right = slopes(lambda weights: phi(weights).sum(), LEARNED)
    np.testing.assert_allclose(bias.weight.grad.numpy(), right, rtol=0, atol=atol)


def test_a_bias_takes_a_device_of_many_qubits() -> None:
    line = CouplingMap.from_line(27)
    moved = transpile(
        scored(), coupling_map=line, initial_layout=[5, 7, 6], basis_gates=GATES, seed_transpiler=1
    )
    sampler = SamplerV2(default_shots=SHOTS, seed=1)
    bias = CircuitBias(
        SamplerQNN(circuit=moved, input_params=[S], weight_params=list(V), sampler=sampler)
    )
    with torch.no_grad():
        bias.weight.copy_(torch.from_numpy(LEARNED))
        found = bias(SCORES)
    np.testing.assert_allclose(found.numpy(), phi(LEARNED), rtol=0, atol=SCATTER)


OBSERVABLES = [SparsePauliOp(["ZIX", "IYI"], [1.0, 0.5]), SparsePauliOp("ZZI")]


def expectations(weights: np.ndarray) -> np.ndarray:
    values = [dict(zip([*X, *W], [*row, *weights], strict=True)) for row in ROWS]
    states = [Statevector(written().assign_parameters(each)) for each in values]
    return np.array([[state.expectation_value(o).real for o in OBSERVABLES] for state in states])


def estimating(circuit: QuantumCircuit, observables: Any, **extra: Any) -> EstimatorQNN:
    return EstimatorQNN(
        circuit=circuit,
        observables=observables,
        input_params=list(X),
        weight_params=list(W),
        **extra,
    )


MOVED = r"moved the qubits of the EstimatorQNN.*apply_layout\(circuit.layout\)"


@pytest.mark.parametrize("engine", ["auto", "sampler"])
def test_observables_that_a_pass_manager_left_behind_are_told(engine: Any) -> None:
    source = estimating(written(), OBSERVABLES, pass_manager=passes_onto(size=3, level=1))
    with pytest.warns(UserWarning, match=MOVED) as told:
        backend_of(source, engine)
    assert len(told) == 1


def test_observables_that_a_network_makes_up_beside_its_qubits_are_told() -> None:
    moved = transpile(
        written(),
        coupling_map=CouplingMap.from_line(5),
        initial_layout=[4, 3, 2],
        basis_gates=GATES,
        seed_transpiler=1,
    )
    with pytest.warns(UserWarning, match=MOVED):
        backend_of(estimating(moved, None))


def test_the_remedy_for_observables_left_behind_gives_values_and_gradients() -> None:
    passes = passes_onto(size=5, level=1)
    moved = passes.run(written())
    observables = [each.apply_layout(moved.layout) for each in OBSERVABLES]
    own = estimating(moved, observables, estimator=StatevectorEstimator(), default_precision=0.0)
    its = estimating(moved, observables, estimator=QMLEstimator(), pass_manager=passes)
    right = slopes(lambda weights: (expectations(weights) * FLOW[:, :2]).sum(), WEIGHTS)
    for source, engine in ((own, "auto"), (own, "sampler"), (its, "sampler")):
        with warnings.catch_warnings():  # which cannot know that the second one's are moved
            warnings.simplefilter("ignore" if source is its else "error")
            layer = CircuitLayer(
                source,
                engine=engine,  # type: ignore[arg-type]
                initial_weights=torch.from_numpy(WEIGHTS),
            )
        outputs = layer(torch.from_numpy(ROWS))
        (outputs * torch.from_numpy(FLOW[:, :2])).sum().backward()
        np.testing.assert_allclose(
            outputs.detach().numpy(), expectations(WEIGHTS), rtol=0, atol=ROUNDING
        )
        assert layer.weight.grad is not None
        np.testing.assert_allclose(layer.weight.grad.numpy(), right, rtol=0, atol=ROUNDING)


def test_observables_that_moving_leaves_as_they_are_bring_no_warning() -> None:
    passes = passes_onto(size=3, level=1)
    backend_of(estimating(written(), SparsePauliOp("ZZZ"), pass_manager=passes))


def measures_on_the_way(circuit: QuantumCircuit) -> None:
    circuit.measure(0, 0)
    circuit.ry(W[0], 0)
    circuit.measure([0, 1], [0, 1])


def branches(circuit: QuantumCircuit) -> None:
    circuit.ry(W[0], 0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    circuit.measure(1, 1)


def resets(circuit: QuantumCircuit) -> None:
    circuit.ry(W[0], 0)
    circuit.cx(0, 1)
    circuit.reset(0)
    circuit.measure([0, 1], [0, 1])


ON_THE_WAY = r"give a CircuitLayer the SamplerQNN of a sampler that can measure on the way, such as"
SEVERAL_STATES: dict[str, tuple[Callable[[QuantumCircuit], None], str]] = {
    "measures": (measures_on_the_way, rf"`ry` after a measurement.*{ON_THE_WAY}"),
    "branches": (branches, rf"Cannot run a circuit with `if_else` on .*Sampler.*{ON_THE_WAY}"),
    "resets": (resets, r"`reset` from one state vector.*Use AerSampling"),
}
OF_ONE_STATE = {
    "default": lambda: None,
    "shots of qiskit-machine-learning": lambda: QMLSampler(shots=100),
    "statevector": lambda: StatevectorSampler(),
    "vectorized": lambda: VectorizedSampler(),
}


def on_the_way(build: Callable[[QuantumCircuit], None], sampler: Any) -> SamplerQNN:
    circuit = QuantumCircuit(2, 2)
    circuit.ry(X[0], 0)
    build(circuit)
    return SamplerQNN(circuit=circuit, input_params=[X[0]], weight_params=[W[0]], sampler=sampler)


@pytest.mark.parametrize("engine", ["auto", "sampler"])
@pytest.mark.parametrize("sampler", OF_ONE_STATE)
@pytest.mark.parametrize("name", SEVERAL_STATES)
def test_what_has_several_final_states_is_refused_before_it_runs(
    name: str, sampler: str, engine: Any
) -> None:
    build, message = SEVERAL_STATES[name]
    with pytest.raises(ValueError, match=message):
        CircuitLayer(on_the_way(build, OF_ONE_STATE[sampler]()), engine=engine)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("measures", [1 / 2, 1 / 2, 0.0, 0.0]),
        ("branches", [0.0, 0.0, 0.0, 1.0]),
        ("resets", [0.0, 0.0, 1.0, 0.0]),
    ],
)
def test_the_remedy_for_several_final_states_runs(name: str, right: list[float]) -> None:
    source = on_the_way(SEVERAL_STATES[name][0], SamplerV2(default_shots=SHOTS, seed=1))
    turn = torch.tensor([np.pi if name == "resets" else 0.0])  # by the weight, after the input
    turn = torch.tensor([np.pi / 2]) if name == "measures" else turn
    inputs = torch.tensor([[0.0 if name != "branches" else np.pi]])
    layer = CircuitLayer(source, initial_weights=turn)
    with torch.no_grad():
        found = layer(inputs)
    np.testing.assert_allclose(found[0].numpy(), right, rtol=0, atol=SCATTER)


def test_a_circuit_that_resets_runs_on_aer_sampling() -> None:
    circuit = QuantumCircuit(2)
    circuit.ry(X[0], 0)
    circuit.cx(0, 1)
    circuit.reset(0)
    built = ParametrizedCircuit(circuit, [X[0]])
    layer = CircuitLayer(SamplerBackend(built, sampling=AerSampling(SHOTS)))
    with torch.no_grad():
        found = layer(torch.tensor([[np.pi / 2]]))
    np.testing.assert_allclose(found[0].numpy(), [0.5, 0.0, 0.5, 0.0], rtol=0, atol=SCATTER)


def test_resets_that_change_nothing_are_taken() -> None:
    circuit = QuantumCircuit(1)
    circuit.reset(0)
    circuit.ry(X[0], 0)
    sampler = StatevectorSampler(default_shots=SHOTS, seed=1)
    source = SamplerQNN(circuit=circuit, input_params=[X[0]], sampler=sampler)
    with torch.no_grad():
        found = CircuitLayer(source)(torch.tensor([[np.pi]]))
    np.testing.assert_allclose(found[0].numpy(), [0.0, 1.0], rtol=0, atol=SCATTER)

"""The Fourier form of Phi against one circuit per score, SamplerQNN and qiskit's state vector."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, ParameterVector, QuantumCircuit
from qiskit.primitives import StatevectorSampler
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_machine_learning.neural_networks import EstimatorQNN, SamplerQNN
from torch import Tensor

from lightning_qsgd.backends import (
    AerSampling,
    CompiledBackend,
    DepolarizingNoise,
    SamplerBackend,
    ShotSampling,
)
from lightning_qsgd.circuits import ParametrizedCircuit, ScoreCircuit, SuperpositionCircuit
from lightning_qsgd.nn.attention import CircuitBias

ENTANGLEMENTS = ["none", "linear", "circular", "full"]
CASES = [
    (n, reps, ENTANGLEMENTS[(n + reps + shift) % 4])
    for n in range(1, 7)
    for reps in range(1, 4)
    for shift in ((0, 1, 2, 3) if n in (2, 4) else (0,))
]


def scores(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.randn(*shape, dtype=torch.float64) * 4).to(dtype)


def value_and_gradients(bias: CircuitBias, of: Tensor) -> tuple[Tensor, ...]:
    s = of.clone().requires_grad_()
    value = bias(s * 1)
    return value.detach(), *torch.autograd.grad((value**2).sum(), (s, bias.weight))


def drawn_alike(*biases: CircuitBias) -> list[CircuitBias]:
    """Give all the same weights, drawn widely, in double precision."""
    weights = torch.rand(biases[0].weight.shape, dtype=torch.float64) * 6 - 3
    for bias in biases:
        bias.double().load_state_dict(bias.state_dict() | {"weight": weights})
    return list(biases)


@pytest.mark.parametrize("readout", ["probability", "amplitude"])
@pytest.mark.parametrize(("n", "reps", "entanglement"), CASES)
def test_fourier_form_is_one_circuit_per_score(
    n: int, reps: int, entanglement: Any, readout: Any
) -> None:
    circuit = ScoreCircuit(n, reps, entanglement)
    pair = [CircuitBias(circuit, readout, evaluation) for evaluation in ("fourier", "literal")]
    fourier, literal = drawn_alike(*pair)
    s = scores(2, 3, 4)
    expected = value_and_gradients(literal, s)
    torch.testing.assert_close(value_and_gradients(fourier, s), expected, rtol=0, atol=1e-12)
    single = value_and_gradients(fourier.float(), s.float())
    rounded = value_and_gradients(literal.double(), s.float().double())
    for ours, exact in zip(single, rounded, strict=True):
        scale = max(1.0, float(exact.abs().max()))  # gradients grow with the degree
        torch.testing.assert_close(ours.double(), exact, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(("n", "reps", "entanglement"), CASES[::3])
def test_both_readouts_are_sums_over_the_first_entries_of_qiskits_state(
    n: int, reps: int, entanglement: Any
) -> None:
    circuit = ScoreCircuit(n, reps, entanglement, factor=0.5)
    (probability, amplitude) = drawn_alike(
        CircuitBias(circuit), CircuitBias(circuit, readout="amplitude")
    )
    s, built = scores(5), circuit.build()
    states = [
        Statevector(
            built.circuit.assign_parameters(
                dict(zip((*built.inputs, *built.weights), values, strict=True))
            )
        ).data[:n]
        for values in ([float(one), *probability.weight.tolist()] for one in s)
    ]
    sums = torch.tensor(np.array([(abs(state) ** 2).sum() for state in states]))
    real = torch.tensor(np.array([state.real.sum() for state in states]))
    torch.testing.assert_close(probability(s).detach(), sums, rtol=0, atol=1e-12)
    torch.testing.assert_close(amplitude(s).detach(), real, rtol=0, atol=1e-12)


def network(n: int, reps: int, entanglement: Any = "linear", **extra: Any) -> SamplerQNN:
    built = ScoreCircuit(n, reps, entanglement).build()
    return SamplerQNN(
        circuit=built.circuit,
        input_params=built.inputs,
        weight_params=built.weights,
        input_gradients=True,
        **extra,
    )


@pytest.mark.parametrize(
    ("n", "reps", "entanglement"), [(1, 3, "none"), (2, 2, "full"), (3, 1, "circular")]
)
def test_values_and_gradients_are_those_of_sampler_qnn(
    n: int, reps: int, entanglement: Any
) -> None:
    qnn = network(n, reps, entanglement)
    bias = CircuitBias(SamplerBackend(ScoreCircuit(n, reps, entanglement))).double()
    s = scores(4)
    value, of_scores, of_weights = value_and_gradients(bias, s)
    arguments = s.numpy()[:, None], bias.weight.detach().numpy()
    expected = torch.tensor(qnn.forward(*arguments)[:, :n].sum(1))
    by_input, by_weight = (
        torch.tensor(np.asarray(j)[:, :n].sum(1)) for j in qnn.backward(*arguments)
    )
    flow = 2 * expected[:, None]
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(of_scores, (flow * by_input)[:, 0], rtol=0, atol=1e-10)
    torch.testing.assert_close(of_weights, (flow * by_weight).sum(0), rtol=0, atol=1e-10)


def test_backends_and_networks_that_are_exact_agree() -> None:
    circuit = ScoreCircuit(2, 1)
    sources = (circuit, CompiledBackend(circuit), SamplerBackend(circuit), network(2, 1))
    biases = drawn_alike(*(CircuitBias(source) for source in sources))
    s = scores(6)
    for bias in biases[1:]:
        torch.testing.assert_close(bias(s), biases[0](s), rtol=0, atol=1e-10)


@pytest.mark.parametrize("build", [ShotSampling(20000), AerSampling(20000)])
def test_shots_scatter_around_the_exact_values(build: Any) -> None:
    circuit = ScoreCircuit(2, 1)
    exact, sampled = drawn_alike(
        CircuitBias(circuit), CircuitBias(SamplerBackend(circuit, sampling=build))
    )
    s = scores(50)
    difference = (sampled(s) - exact(s)).abs().max()
    assert 0 < difference < 6 * 2 / 20000**0.5  # 5 points, each with a standard error below 1/2


def test_noise_moves_the_values_beyond_shots() -> None:
    circuit = ScoreCircuit(2, 1)
    noisy = AerSampling(20000, noise=DepolarizingNoise(one_qubit=0.1, two_qubit=0.3, readout=0.1))
    exact, sampled = drawn_alike(
        CircuitBias(circuit), CircuitBias(SamplerBackend(circuit, sampling=noisy))
    )
    s = torch.linspace(-3, 3, 50, dtype=torch.float64)
    assert (sampled(s) - exact(s)).abs().max() > 0.1


def test_network_with_a_sampler_of_its_own_is_used_as_it_is() -> None:
    qnn = network(2, 1, sampler=StatevectorSampler(default_shots=500, seed=1))
    bias = CircuitBias(qnn)
    exact = CircuitBias(network(2, 1))
    exact.load_state_dict(bias.state_dict())
    assert (bias(scores(9)) - exact(scores(9))).abs().max() > 0


def test_shots_differ_at_each_step_and_follow_from_the_state() -> None:
    bias = CircuitBias(SamplerBackend(ScoreCircuit(2, 1), sampling=64), seed=3)
    s = scores(9, dtype=torch.float32)
    first = copy.deepcopy(bias)
    drawn = [bias(s) for _ in range(3)]
    assert torch.equal(drawn[0], first(s))
    assert not torch.equal(drawn[0], drawn[1])
    resumed = CircuitBias(SamplerBackend(ScoreCircuit(2, 1), sampling=64), seed=3)
    resumed.load_state_dict(first.state_dict())
    assert torch.equal(drawn[1], resumed(s))
    resumed.eval()
    assert torch.equal(resumed(s), resumed(s))
    assert torch.equal(drawn[2], resumed.train()(s))  # validation has shifted nothing
    other = copy.deepcopy(first)
    other.reset_parameters(stream=1)
    other.load_state_dict(first.state_dict())
    assert not torch.equal(other(s), first(s))


def test_learned_shots_carry_gradients_by_parameter_shift() -> None:
    bias = CircuitBias(SamplerBackend(ScoreCircuit(1, 1), sampling=20000)).double()
    exact = CircuitBias(ScoreCircuit(1, 1)).double()
    exact.load_state_dict(bias.state_dict())
    s = scores(20)
    ours, expected = (value_and_gradients(each, s)[2] for each in (bias, exact))
    torch.testing.assert_close(ours, expected, rtol=0, atol=0.5)


def test_first_weights_come_from_seed_and_stream_and_no_global_generator() -> None:
    before = torch.get_rng_state()
    bias = CircuitBias(seed=4)
    copied = copy.deepcopy(bias)
    copied.reset_parameters(stream=1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(bias.weight, CircuitBias(seed=4).weight)
    assert not torch.equal(bias.weight, CircuitBias(seed=5).weight)
    assert not torch.equal(bias.weight, copied.weight)
    assert bias.weight.shape == (16,)
    assert 1 < bias.weight.abs().max() <= torch.pi


@pytest.mark.parametrize("readout", ["probability", "amplitude"])
def test_copies_and_pickles_give_the_same_values(readout: Any) -> None:
    bias, s = CircuitBias(readout=readout), scores(7, dtype=torch.float32)
    expected = bias(s)
    for copied in (copy.deepcopy(bias), pickle.loads(pickle.dumps(bias))):
        assert torch.equal(copied(s), expected)
    sampled = CircuitBias(SamplerBackend(ScoreCircuit(1, 1)))
    assert torch.equal(pickle.loads(pickle.dumps(sampled))(s), sampled(s))


def test_number_of_circuits_does_not_grow_with_the_scores() -> None:
    backend = SamplerBackend(ScoreCircuit(1, 1), max_circuits=3)
    assert CircuitBias(backend)(torch.zeros(10, 10)).shape == (10, 10)
    with pytest.raises(RuntimeError, match="max_circuits"):
        CircuitBias(backend, evaluation="literal")(torch.zeros(10))


def with_gate(angle: Any, add: Any = None) -> ParametrizedCircuit:
    circuit = QuantumCircuit(2)
    circuit.h([0, 1])
    circuit.ry(angle, 0)
    circuit.cry(angle / 2, 0, 1)
    if add:
        add(circuit)
    return ParametrizedCircuit(circuit, [S], [])


S = Parameter("s")


@pytest.mark.parametrize("readout", ["probability", "amplitude"])
def test_brought_circuits_have_a_fourier_form_of_their_own(readout: Any) -> None:
    def more(circuit: QuantumCircuit) -> None:
        circuit.rzz(1.5 * S + 0.3, 0, 1)
        circuit.u(S, -S, 2 * S, 1)
        circuit.cp(0.5 * S, 1, 0)

    for source in (with_gate(S + 0.4, more), SuperpositionCircuit(3, 1)):
        fourier = CircuitBias(source, readout).double()
        literal = CircuitBias(source, readout, "literal").double()
        s = scores(20)
        torch.testing.assert_close(fourier(s), literal(s), rtol=0, atol=1e-12)


def test_circuits_without_a_fourier_form_are_refused_with_the_remedy() -> None:
    message = r"frequencies of the circuit.*`ry`.*s\*s.*evaluation='literal'"
    squared = QuantumCircuit(1)
    squared.ry(S * S, 0)
    backend = SamplerBackend(ParametrizedCircuit(squared, [S]))
    with pytest.raises(ValueError, match=message):
        CircuitBias(backend)
    assert CircuitBias(backend, evaluation="literal")(torch.zeros(3)).shape == (3,)
    with pytest.raises(ValueError, match=r"common frequency.*evaluation='literal'"):
        CircuitBias(with_gate(S, lambda circuit: circuit.ry(2**0.5 * S, 0)))
    with pytest.raises(ValueError, match=r"more frequencies.*over the limit.*'literal'"):
        CircuitBias(with_gate(S, lambda circuit: circuit.ry(997 / 3 * S, 1)))


def test_bias_describes_itself() -> None:
    assert "4 qubits, 16 weights, FourierEvaluation on CompiledBackend" in repr(CircuitBias())


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown readout 'phase'.*probability, amplitude"):
        CircuitBias(readout="phase")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Unknown evaluation 'fast'.*fourier, literal"):
        CircuitBias(evaluation="fast")  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"Expected a circuit, a backend, an EstimatorQNN or a SamplerQNN, got str"
    ):
        CircuitBias("circuit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"amplitudes from SamplerBackend.*CompiledBackend"):
        CircuitBias(SamplerBackend(ScoreCircuit()), readout="amplitude")
    halves = network(2, 1, interpret=lambda outcome: outcome % 2, output_shape=2)
    with pytest.raises(ValueError, match=r"first 2 of 2\^2 .* 2 outcomes.*no `interpret`"):
        CircuitBias(halves)
    with pytest.raises(ValueError, match=r"`seed` to be in \[0, 2\^31\), got -1"):
        CircuitBias(seed=-1)
    with pytest.raises(ValueError, match=r"`stream` to be non-negative, got -2"):
        CircuitBias().reset_parameters(stream=-2)
    with pytest.raises(ValueError, match=r"`factor` to be finite and not 0, got 0"):
        ScoreCircuit(factor=0.0)


@pytest.mark.parametrize("evaluation", ["fourier", "literal"])
def test_outcomes_that_are_interpreted_are_read_as_such(evaluation: Any) -> None:
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.ry(x + w, 0)
    source = SamplerQNN(
        circuit=circuit,
        input_params=[x],
        weight_params=[w],
        interpret=lambda outcome: 1 - outcome,
        output_shape=2,
    )
    bias = CircuitBias(source, evaluation=evaluation).double()
    s = scores(7)
    value, by_score, by_weight = value_and_gradients(bias, s)
    angle = s + bias.weight.detach()
    expected = torch.sin(angle / 2) ** 2  # of a 1, which is output 0
    slopes = expected * torch.sin(angle)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(by_score, slopes, rtol=0, atol=1e-12)
    torch.testing.assert_close(by_weight, slopes.sum()[None], rtol=0, atol=1e-12)
    call = lambda weight: torch.func.functional_call(bias, {"weight": weight}, (s,)).sum()  # noqa: E731
    by_transform = torch.func.grad(call)(bias.weight.detach())
    total = (torch.sin(angle) / 2).sum()[None]
    torch.testing.assert_close(by_transform, total, rtol=0, atol=1e-12)


@pytest.mark.parametrize("evaluation", ["fourier", "literal"])
@pytest.mark.parametrize("readout", ["probability", "amplitude"])
def test_values_of_observables_are_no_outcomes(readout: Any, evaluation: Any) -> None:
    built = ScoreCircuit(1, 1).build()
    source = EstimatorQNN(
        circuit=built.circuit,
        observables=[SparsePauliOp("Z"), SparsePauliOp("X")],
        input_params=built.inputs,
        weight_params=built.weights,
    )
    with pytest.raises(ValueError, match=r"Cannot read Phi .* observables.*without observables"):
        CircuitBias(source, readout, evaluation)


def test_all_inputs_of_a_circuit_take_the_score() -> None:
    x = ParameterVector("x", 2)
    circuit = QuantumCircuit(2)
    circuit.ry(x[0], 0)
    circuit.ry(x[1], 1)
    bias = CircuitBias(ParametrizedCircuit(circuit, x)).double()
    s = scores(9)
    torch.testing.assert_close(bias(s), (s / 2).cos() ** 2, rtol=0, atol=1e-12)  # P(00) + P(01)


class Squared(CompiledBackend):
    """Reads something else than the circuit's own outcomes: no polynomial of its degree."""

    def probabilities(self, *given: Any, **named: Any) -> Tensor:
        return super().probabilities(*given, **named).square()

    def amplitudes(self, *given: Any, **named: Any) -> Tensor:
        found: Tensor = super().amplitudes(*given, **named)
        return found * found.abs() ** 2


class Unchanged(CompiledBackend):
    def probabilities(self, *given: Any, **named: Any) -> Tensor:
        return super().probabilities(*given, **named)


@pytest.mark.parametrize("readout", ["probability", "amplitude"])
def test_a_backend_that_reads_no_polynomial_of_its_circuit_is_refused(readout: Any) -> None:
    circuit = ScoreCircuit(2, 1)
    with pytest.raises(ValueError, match=r"Squared reads .* can only read .* evaluation='literal'"):
        CircuitBias(Squared(circuit), readout)
    values = CircuitBias(Squared(circuit), readout, "literal")(scores(3))
    assert values.shape == (3,)


def test_a_backend_that_extends_ours_and_reads_its_circuit_is_taken() -> None:
    circuit = ScoreCircuit(2, 1)
    ours, own = drawn_alike(CircuitBias(circuit), CircuitBias(Unchanged(circuit)))
    of = scores(5)
    torch.testing.assert_close(own(of), ours(of), rtol=0, atol=1e-12)

"""A circuit of several inputs as a polynomial: equal to the circuit, in value and gradient."""

from math import pi
from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, ParameterVector, QuantumCircuit
from torch._subclasses.fake_tensor import FakeTensorMode

from lightning_qsgd.backends import Backend, CompiledBackend, SamplerBackend
from lightning_qsgd.backends.fourier import several_inputs
from lightning_qsgd.backends.fourier.several_inputs import (
    MOST_AMPLITUDES,
    Cosines,
    SeveralInputs,
    evaluate_polynomial,
)
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import AllEntries, Gradient, Perturbation
from tests.reference import circuit_readout, polynomial_by_loops
from tests.unit.backends.random_circuits import random_circuit

SIZES = [(q, reps) for q in (1, 2, 3, 4) for reps in (1, 2)]


def polynomial(backend: Any, x: torch.Tensor, weights: Any = None) -> torch.Tensor:
    form = SeveralInputs.of(backend.describe())
    values = backend.readout(form.grid, weights=weights).mean(1)
    pairs = zip(form.spectra, x.unbind(1), strict=True)
    return evaluate_polynomial(form.coefficients(values), [s.frequency * each for s, each in pairs])


def rows(count: int, size: int) -> torch.Tensor:
    drawn = np.random.default_rng(count).uniform(-2.0, 2.0, (count, size))
    return torch.from_numpy(drawn)


@pytest.mark.parametrize("entanglement", ["none", "linear", "full"])
@pytest.mark.parametrize(("q", "reps"), SIZES)
def test_polynomial_equals_one_circuit_per_row(q: int, reps: int, entanglement: Any) -> None:
    backend = CompiledBackend(SuperpositionCircuit(q, reps, entanglement), weight_seed=q)
    x = rows(40, q)
    expected = backend.readout(x).mean(1)
    torch.testing.assert_close(polynomial(backend, x), expected, rtol=0, atol=1e-12)


def test_polynomial_on_the_sampler_network_equals_the_compiled_circuit() -> None:
    circuit = SuperpositionCircuit(2, reps=1)
    x = rows(20, 2)
    got = polynomial(SamplerBackend(circuit, weight_seed=3), x)
    expected = CompiledBackend(circuit, weight_seed=3).readout(x).mean(1)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("q", "reps"), SIZES[:5])
def test_gradient_by_weights_equals_that_of_the_circuit(q: int, reps: int) -> None:
    backend = CompiledBackend(SuperpositionCircuit(q, reps))
    weights = rows(1, 2 * reps * q)[0].requires_grad_()
    x, cotangent = rows(30, q), rows(30, 1)[:, 0]
    (got,) = torch.autograd.grad(polynomial(backend, x, weights) @ cotangent, weights)
    expected_u = backend.readout(x, weights=weights).mean(1)
    (expected,) = torch.autograd.grad(expected_u @ cotangent, weights)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


def test_polynomial_agrees_with_interpolation_in_plain_loops() -> None:
    weights = rows(1, 8)[0].tolist()
    backend = CompiledBackend(SuperpositionCircuit(2, reps=2))

    def u(angles: list[float]) -> float:
        return sum(circuit_readout([a / np.pi for a in angles], 2, "linear", weights)) / 2

    x = rows(3, 2)
    got = polynomial(backend, x, torch.tensor(weights, dtype=torch.float64))
    for row, value in zip(x.tolist(), got.tolist(), strict=True):
        angles = [np.pi * each for each in row]
        assert value == pytest.approx(polynomial_by_loops(u, [2, 2], angles), abs=1e-12)


def test_a_shared_input_folds_into_the_coefficients() -> None:
    backend = CompiledBackend(SuperpositionCircuit(3, reps=2), weight_seed=1)
    form = SeveralInputs.of(backend.describe())
    coefficients = form.coefficients(backend.readout(form.grid).mean(1))
    x = rows(20, 3)
    x[:, 1] = 0.3
    phases = [np.pi * x[:, 0], np.pi * 0.3, np.pi * x[:, 2]]
    got = evaluate_polynomial(coefficients, phases)
    torch.testing.assert_close(got, backend.readout(x).mean(1), rtol=0, atol=1e-12)


def test_each_input_has_a_frequency_and_a_degree_of_its_own() -> None:
    x, w = ParameterVector("x", 2), ParameterVector("w", 1)
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.ry(0.5 * x[0], 0)
    circuit.ry(x[1], 1)
    circuit.crx(w[0], 0, 1)
    for _ in range(2):
        circuit.ry(x[1], 1)
    built = ParametrizedCircuit(circuit, inputs=x, weights=w)
    form = SeveralInputs.of(built)
    assert [(s.frequency, s.degree) for s in form.spectra] == [(0.5, 1), (1.0, 3)]
    backend = CompiledBackend(built, weight_seed=2)
    points = rows(20, 2)
    expected = backend.readout(points).mean(1)
    torch.testing.assert_close(polynomial(backend, points), expected, rtol=0, atol=1e-12)


def test_single_precision_follows_double_precision() -> None:
    backend = CompiledBackend(SuperpositionCircuit(4, reps=1), weight_seed=0)
    form = SeveralInputs.of(backend.describe())
    coefficients = form.coefficients(backend.readout(form.grid).mean(1))
    x = rows(50, 4)
    phases = [np.pi * each for each in x.unbind(1)]
    wide = evaluate_polynomial(coefficients, phases)
    narrow = evaluate_polynomial(coefficients, [each.float() for each in phases])
    torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=2e-6)


def test_frequencies_of_a_circuit_are_found_once() -> None:
    built = SuperpositionCircuit(2, reps=1).build()
    assert SeveralInputs.of(built) is SeveralInputs.of(built)


def test_a_polynomial_first_met_in_inference_mode_is_differentiated_later() -> None:
    backend = CompiledBackend(SuperpositionCircuit(2, reps=1), weight_seed=1)
    x = rows(5, 2)
    with torch.inference_mode():
        expected = polynomial(backend, x)
    weights = backend.initial_weights().requires_grad_()
    u = polynomial(backend, x, weights)
    torch.testing.assert_close(u.detach(), expected, rtol=0, atol=1e-12)
    assert torch.autograd.grad(u.sum(), weights)[0].abs().max() > 0


def test_a_backend_that_writes_into_its_inputs_leaves_the_grid_alone() -> None:
    form = SeveralInputs.of(SuperpositionCircuit(2, reps=1).build())
    before = form.grid
    form.grid.zero_()
    assert torch.equal(form.grid, before)


X, W = Parameter("x"), Parameter("w")
NO_POLYNOMIAL = {
    "a bent input": ((X**2, W), r"with the angle x\*\*2: it is not affine in x\. Make its angles"),
    "a bent weight": ((pi * X, W**2), r"with the angle w\*\*2: it is not affine in w\. Make its"),
    "odd ratios": (
        (3 * pi * X, 0.5 * X + W),
        r"common frequency.*factors of a feature whose ratios",
    ),
    "many frequencies": ((997 / 3 * X, X + W), r"frequencies in a feature, over the limit of 256"),
}


@pytest.mark.parametrize("name", NO_POLYNOMIAL)
def test_features_on_a_circuit_that_is_no_polynomial_are_refused_in_their_own_words(
    name: str,
) -> None:
    angles, message = NO_POLYNOMIAL[name]
    circuit = QuantumCircuit(1)
    circuit.h(0)
    for angle in angles:
        circuit.ry(angle, 0)
        circuit.sx(0)
    backend = CompiledBackend(ParametrizedCircuit(circuit, [X], [W]))
    with pytest.raises(ValueError, match=f"{message}.*Backend of your own that desc") as raised:
        Perturbation(backend, AllEntries(), features=Gradient())
    for word in ("score", "literal", "SamplerBackend"):
        assert word not in str(raised.value)

    class Asked(Backend):
        num_qubits = 1

        def readout(self, inputs: Any, keys: Any = None, weights: Any = None) -> Any:
            return backend.readout(inputs)

    parameter = torch.nn.Parameter(torch.zeros(3))
    perturbation = Perturbation(Asked(), AllEntries(), features=Gradient())
    optimizer = PerturbedOptimizer(torch.optim.SGD([parameter], lr=0.1), perturbation)
    parameter.grad = torch.tensor([1.0, -2.0, 3.0])
    optimizer.step()
    assert not torch.equal(parameter.detach(), -0.1 * parameter.grad)


def _cosines_and_circuit(backend: CompiledBackend, dtype: torch.dtype) -> tuple[Any, Any]:
    backend.readout(torch.zeros(1, backend.num_qubits, dtype=dtype))
    return backend._frozen_circuits[dtype, torch.device("cpu")]


@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize("entanglement", ["none", "linear", "full"])
@pytest.mark.parametrize(("q", "reps"), [*SIZES, (5, 1)])
def test_cosines_equal_the_circuit(q: int, reps: int, entanglement: Any, seed: int | None) -> None:
    backend = CompiledBackend(SuperpositionCircuit(q, reps, entanglement), weight_seed=seed)
    x = rows(40, q)
    cosines, circuit = _cosines_and_circuit(backend, torch.float64)
    torch.testing.assert_close(cosines(x), circuit(x), rtol=0, atol=1e-13)
    narrow, _ = _cosines_and_circuit(backend, torch.float32)
    torch.testing.assert_close(narrow(x.float()).double(), circuit(x), rtol=0, atol=5e-6)


def test_cosines_equal_circuits_of_any_gates() -> None:
    found = 0
    for seed in range(40):
        built = random_circuit(seed, num_qubits=3, num_gates=6)
        backend = CompiledBackend(built, weight_seed=seed)
        cosines, circuit = _cosines_and_circuit(backend, torch.float64)
        if cosines is not None:
            x = rows(20, 3)
            torch.testing.assert_close(cosines(x), circuit(x), rtol=0, atol=1e-12)
            found += 1
    assert found >= 5


def test_few_circuits_are_cosines_and_many_are_not() -> None:
    backend = CompiledBackend(weight_seed=3)
    cosines, circuit = _cosines_and_circuit(backend, torch.float64)
    x = rows(cosines.most + 1, 4)
    whole = backend.readout(x)
    assert torch.equal(whole, circuit(x))
    few = backend.readout(x[:-1])
    assert torch.equal(few, cosines(x[:-1]))
    torch.testing.assert_close(few, whole[:-1], rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match=r"Expected `inputs` of shape \(B, 4\), got \(3, 5\)"):
        backend.readout(rows(3, 5))


def test_cosines_keep_their_precision_under_autocast() -> None:
    backend, x = CompiledBackend(), rows(5, 4).float()
    outside = backend.readout(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(backend.readout(x), outside)


def _bent() -> ParametrizedCircuit:
    circuit = QuantumCircuit(1)
    circuit.ry(X**2, 0)
    return ParametrizedCircuit(circuit, [X], [])


def _nearly_one_frequency() -> ParametrizedCircuit:
    circuit = QuantumCircuit(1)
    for angle in (pi * X, 3.1415926535 * X):
        circuit.ry(angle, 0)
        circuit.sx(0)
    return ParametrizedCircuit(circuit, [X], [])


WITHOUT_COSINES: dict[str, tuple[Any, bool]] = {
    "six inputs": (SuperpositionCircuit(6, 1), False),
    "many layers": (SuperpositionCircuit(4, 3), False),
    "a bent input": (_bent(), False),
    "nearly one frequency": (_nearly_one_frequency(), False),
    "compiled by torch": (SuperpositionCircuit(1, 1), True),
}


@pytest.mark.parametrize("name", WITHOUT_COSINES)
def test_other_circuits_stay_states(name: str) -> None:
    circuit, torch_compile = WITHOUT_COSINES[name]
    backend = CompiledBackend(circuit, torch_compile=torch_compile)
    assert backend._cosines(torch.float32, torch.device("cpu")) is None


def test_no_cosines_are_sought_of_a_circuit_whose_grid_would_be_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = SuperpositionCircuit(2, 1).build()

    def never(points: Any) -> Any:
        raise AssertionError("evaluated")

    assert MOST_AMPLITUDES >= 9 * 4
    monkeypatch.setattr(several_inputs, "MOST_AMPLITUDES", 9 * 4 - 1)
    assert Cosines.of(built, never, torch.empty(0)) is None
    deep = SuperpositionCircuit(2, 2).build()  # 25 points, of which 9 are seen from the inputs
    monkeypatch.setattr(several_inputs, "MOST_AMPLITUDES", 25 * 4 - 1)
    assert Cosines.of(deep, never, torch.empty(0)) is None


def test_a_memory_limit_that_the_grid_exceeds_leaves_few_circuits_alone() -> None:
    backend = CompiledBackend(memory_limit_gib=4e-5)
    with pytest.raises(ValueError, match="Cannot evaluate 625"):
        backend._freeze(torch.float64, torch.device("cpu"))(rows(625, 4))
    assert backend._cosines(torch.float64, torch.device("cpu")) is None
    torch.testing.assert_close(
        backend.readout(rows(3, 4)), CompiledBackend().readout(rows(3, 4)), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("around", [torch.device("meta"), FakeTensorMode(), torch.inference_mode()])
def test_cosines_are_made_of_numbers_whatever_surrounds_the_first_readout(around: Any) -> None:
    backend, x = CompiledBackend(), rows(5, 4)
    expected = CompiledBackend().readout(x)
    with around:
        made = backend._cosines(torch.float64, torch.device("cpu"))
    assert made is not None
    assert torch.equal(made(x), expected)

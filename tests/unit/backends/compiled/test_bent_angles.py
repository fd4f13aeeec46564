"""Angles that are products, powers or functions of parameters, against qiskit and closed forms."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, ParameterVector, QuantumCircuit
from qiskit.circuit import library as lib
from qiskit.quantum_info import Statevector

from lightning_qsgd.backends import CompiledBackend, SamplerBackend
from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.backends.compiled.angles import AngleReader
from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.nn import CircuitLayer

X, Y, Z, W = Parameter("x"), Parameter("y"), Parameter("z"), Parameter("w")
EXPRESSIONS: dict[str, Callable[[], Any]] = {
    "conjugate of a product": lambda: (X * Y).conjugate(),
    "conjugate of a sum": lambda: (3 * X + Y).conjugate(),
    "conjugates of two": lambda: X.conjugate() + 2 * Y.conjugate() - 0.3,
    "square": lambda: (2 * X + Y) ** 2,
    "cubic polynomial": lambda: X**3 - 2 * X * Y * Y + 0.1,
    "root": lambda: X**0.5,
    "reciprocal": lambda: 1 / X + np.pi / Y,
    "absolute value": lambda: abs(X - 2 * Y),
    "sign": lambda: X.sign() + Y,
    "trigonometric": lambda: X.sin() * Y.cos() + (X + Y).tan(),
    "inverse": lambda: X.arcsin() + Y.arccos() - (X * Y).arctan(),
    "exponential": lambda: (X * Y).exp() - X.log(),
    "cancels": lambda: X * Y / Y,
    "first power": lambda: (2 * X + 1) ** 1.0 + Y,
    "negative of a feature": lambda: 2 * (np.pi - X) * (np.pi - Y),
}


def with_angle(angle: Any, weights: tuple[Parameter, ...] = ()) -> ParametrizedCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.ry(angle, 0)
    circuit.rz(2 * angle - 0.3, 0)
    circuit.cry(angle, 0, 1)
    circuit.rx(0.4, 1)
    inputs = sorted(set(circuit.parameters) - set(weights), key=lambda p: p.name)
    return ParametrizedCircuit(circuit, inputs, weights)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_angle_is_that_of_qiskit(name: str) -> None:
    built = with_angle(EXPRESSIONS[name]())
    values = np.random.default_rng(0).uniform(0.2, 0.9, (5, len(built.inputs)))
    own = CompiledCircuit(built).amplitudes(torch.from_numpy(values), torch.zeros(0))
    for row, found in zip(values, own, strict=True):
        bound = built.circuit.assign_parameters(dict(zip(built.inputs, row, strict=True)))
        np.testing.assert_allclose(found, Statevector(bound).data, rtol=0, atol=1e-12)


@pytest.mark.parametrize("weights", [(), (Y,), (X, Y)], ids=["inputs", "both", "weights"])
def test_gradients_are_those_of_finite_differences(weights: tuple[Parameter, ...]) -> None:
    built = with_angle(X * Y + X**2 - 0.2 * Y, weights)
    compiled = CompiledCircuit(built)
    x = torch.rand(3, len(built.inputs), dtype=torch.float64, requires_grad=True)
    w = torch.rand(len(weights), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(compiled.outputs, (x, w))
    assert torch.autograd.gradgradcheck(compiled.marginals, (x, w))


def test_closed_form_of_the_second_derivative() -> None:
    circuit = QuantumCircuit(1)
    circuit.ry(X * X, 0)
    layer = CircuitLayer(ParametrizedCircuit(circuit, [X])).double()
    x = torch.tensor([0.7], dtype=torch.float64)
    second = torch.autograd.functional.hessian(lambda v: layer(v)[1], x)
    # P(1) = (1 - cos x^2) / 2, so P'' = sin x^2 + 2 x^2 cos x^2
    expected = torch.sin(x**2) + 2 * x**2 * torch.cos(x**2)
    torch.testing.assert_close(second[0], expected, rtol=0, atol=1e-12)


def test_feature_map_agrees_with_the_reference_in_value_and_gradient() -> None:
    x, w = ParameterVector("x", 2), ParameterVector("w", 4)
    circuit = lib.zz_feature_map(2, parameter_prefix="f")
    circuit = circuit.assign_parameters(list(x)).compose(
        lib.real_amplitudes(2, reps=1).assign_parameters(list(w))
    )
    built = ParametrizedCircuit(circuit, x, w)
    inputs, weights = torch.rand(3, 2).double(), torch.rand(4).double()
    found = []
    for backend in (CompiledBackend(built), SamplerBackend(built)):
        own = inputs.clone().requires_grad_(), weights.clone().requires_grad_()
        readout = backend.readout(own[0], None, own[1])
        found.append((readout.detach(), *torch.autograd.grad((readout**3).sum(), own)))
    torch.testing.assert_close(*found, rtol=0, atol=1e-10)


def test_weights_that_do_not_change_and_copies_give_the_same_numbers() -> None:
    built = with_angle(X * W + Y * Y, (W,))
    backend = CompiledBackend(built, weight_seed=3)
    x = torch.rand(4, 2).double()
    expected = backend.readout(x, None, backend.initial_weights())
    for _ in range(2):
        torch.testing.assert_close(backend.readout(x), expected, rtol=0, atol=1e-14)
        x = x + 0.0
    for copied in (copy.deepcopy(backend), pickle.loads(pickle.dumps(backend))):
        torch.testing.assert_close(copied.readout(x), expected, rtol=0, atol=1e-14)
    compiled = pickle.loads(pickle.dumps(CompiledCircuit(built)))
    assert compiled.outputs(x, backend.initial_weights()).shape == (4, 4)


def test_affine_form_is_believed_only_where_it_is_the_expression(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Older qiskit says that the derivative of conj(x) + y by y is that of the whole."""
    from lightning_qsgd.backends.compiled import angles

    angle = 2 * X + Y
    assert AngleReader({X: 0, Y: 1}).read(angle, "ry").coefficients.tolist() == [2.0, 1.0]
    monkeypatch.setattr(angles, "_slope", lambda *given: 1.0)
    with pytest.raises(ValueError, match=r"Cannot compile gate `ry` .*not affine in x, y"):
        AngleReader({X: 0, Y: 1}).read(angle, "ry")


def test_many_angles_of_one_expression_are_evaluated_once() -> None:
    built = with_angle(X * Y)  # twice as it is, once in another expression
    assert CompiledCircuit(built)._bent.counts == (4, 0)


DOMAINS: dict[str, tuple[Callable[[], Any], list[tuple[float, float]]]] = {
    "inverse sine": (lambda: (X + W).arcsin(), [(0.3, 0.1), (-1.2, 0.4)]),
    "inverse cosine": (lambda: (2 * X).arccos() + W, [(0.3, 0.1), (-0.5, 2.0)]),
    "logarithm": (lambda: (X - 1).log(), [(1.5, 0.0), (30.0, 0.0)]),
    "logarithm and weight": (lambda: (X - 1).log() + W, [(1.5, 0.3), (9.0, -2.0)]),
    "root of a difference": (lambda: (X - W) ** 0.5, [(0.3, 0.1), (4.0, -3.0)]),
    "root of a negative": (lambda: (-X - 5) ** 0.5, [(-6.0, 0.0), (-40.0, 0.0)]),
    "far away": (lambda: (X - 10).arcsin(), [(9.5, 0.0), (10.7, 0.0)]),
    "steep": (lambda: X.exp() + (X - 1).log() * W, [(1.5, 0.3), (2.0, 1.0)]),
}


def check_at(circuit: QuantumCircuit, inputs: list[Parameter], *points: list[float]) -> None:
    """Amplitudes are those of qiskit where all angles are defined; the last parameter is W."""
    compiled = CompiledCircuit(ParametrizedCircuit(circuit, inputs, [W]))
    for point in points:
        bound = circuit.assign_parameters(dict(zip([*inputs, W], point, strict=True)))
        values = torch.tensor(point, dtype=torch.float64)
        found = compiled.amplitudes(values[None, :-1], values[-1:])[0]
        np.testing.assert_allclose(found, Statevector(bound).data, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", DOMAINS)
def test_angles_that_are_defined_somewhere_are_right_there(name: str) -> None:
    build, points = DOMAINS[name]
    circuit = QuantumCircuit(1)
    circuit.ry(build(), 0)
    circuit.rx(0.3 * X + W, 0)
    check_at(circuit, [X], *map(list, points))


def test_angles_of_several_domains_are_compared_where_all_are_defined() -> None:
    circuit = QuantumCircuit(2)
    circuit.ry((X - 1).log(), 0)
    circuit.rx((2 * W).arccos(), 0)
    circuit.cry((Y - X) ** 0.5, 0, 1)
    circuit.rz((-3 - Z).log(), 1)
    circuit.global_phase = (X * W).arcsin()
    check_at(circuit, [X, Y, Z], [1.5, 2.0, -4.0, 0.3], [1.2, 9.0, -30.0, -0.5])


def test_the_gradient_is_that_of_the_reference_where_an_angle_is_defined() -> None:
    circuit = QuantumCircuit(1)
    circuit.ry((X - 1).log() + W, 0)
    inputs, weights = torch.tensor([[1.5], [7.0]]).double(), torch.tensor([0.4]).double()
    found = []
    for engine in ("compiled", "sampler"):
        layer = CircuitLayer(ParametrizedCircuit(circuit, [X], [W]), weights, engine=engine)
        x = inputs.clone().requires_grad_()
        output = layer(x)
        found.append((output.detach(), *torch.autograd.grad(output[:, 1].sum(), (x, layer.weight))))
    torch.testing.assert_close(*found, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("angles", "message"),
    [
        ([lambda: (-1 - X * X).log()], r"gate `ry` with the angle .*no finite real value.*Rewrite"),
        ([X.log, lambda: (-X).log()], r"the angles log\(x\), log\(-x\): no values .*Rewrite them"),
    ],
    ids=["one", "two"],
)
def test_angles_that_are_defined_nowhere_are_refused(angles: Any, message: str) -> None:
    circuit = QuantumCircuit(1)
    for angle in angles:
        circuit.ry(angle(), 0)
    with pytest.raises(ValueError, match=message):
        CompiledCircuit(ParametrizedCircuit(circuit, [X]))

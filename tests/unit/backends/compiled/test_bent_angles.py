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

X, Y, W = Parameter("x"), Parameter("y"), Parameter("w")
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

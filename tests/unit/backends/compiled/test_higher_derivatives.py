"""Second derivatives, forward mode and the transforms of `torch.func` on compiled circuits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.circuit import ParameterVector, QuantumCircuit
from torch import Tensor

from lightning_qsgd.backends import CompiledBackend
from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit
from tests.unit.backends.random_circuits import random_circuit

READ = ["outputs", "marginals", "amplitudes"]
Hessian = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own, in forward mode

HESSIANS: dict[str, Hessian] = {
    "reverse over reverse": lambda f, x: torch.autograd.functional.hessian(f, x),  # type: ignore[no-untyped-call]
    "reverse over reverse, vectorized": lambda f, x: torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        f, x, vectorize=True
    ),
    "forward over reverse": lambda f, x: torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        f, x, vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
    "torch.func.hessian": lambda f, x: torch.func.hessian(f)(x),
    "jacrev of jacrev": lambda f, x: torch.func.jacrev(torch.func.jacrev(f))(x),
    "jacrev of jacfwd": lambda f, x: torch.func.jacrev(torch.func.jacfwd(f))(x),
    "jacfwd of jacfwd": lambda f, x: torch.func.jacfwd(torch.func.jacfwd(f))(x),
}


def arguments(built: Any, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (rows, len(built.inputs)), (len(built.weights),)
    x, w = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return x.requires_grad_(), w.requires_grad_()


def two_angles() -> CompiledCircuit:
    """Ry(x) Rx(w) on one qubit: P(1) - P(0) = -cos(x) cos(w)."""
    x, w = ParameterVector("x", 1), ParameterVector("w", 1)
    circuit = QuantumCircuit(1)
    circuit.ry(x[0], 0)
    circuit.rx(w[0], 0)
    return CompiledCircuit(ParametrizedCircuit(circuit, x, w))


@pytest.mark.parametrize("name", HESSIANS)
def test_hessian_is_the_closed_form_in_every_mode(name: str) -> None:
    compiled = two_angles()
    point = torch.tensor([0.7, -1.3], dtype=torch.float64)

    def value(at: Tensor) -> Tensor:
        return compiled.marginals(at[:1].unsqueeze(0), at[1:]).squeeze()

    (cx, sx), (cw, sw) = ((a.cos(), a.sin()) for a in point)
    expected = torch.stack((cx * cw, -sx * sw, -sx * sw, cx * cw)).view(2, 2)
    torch.testing.assert_close(HESSIANS[name](value, point), expected, rtol=0, atol=1e-14)


def test_derivatives_to_the_fourth_order_are_the_closed_form() -> None:
    compiled = two_angles()
    x = torch.tensor([[0.7], [-0.4]], dtype=torch.float64, requires_grad=True)
    w = torch.tensor([1.1], dtype=torch.float64, requires_grad=True)
    value = compiled.marginals(x, w)
    for expected in (x.sin(), x.cos(), -x.sin(), -x.cos()):
        (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        torch.testing.assert_close(value, expected * w.cos(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("read", READ)
@settings(max_examples=5)
@given(seed=st.integers(0, 10**6), qubits=st.integers(1, 3), gates=st.integers(0, 10))
def test_random_circuits_pass_gradgradcheck(read: str, seed: int, qubits: int, gates: int) -> None:
    built = random_circuit(seed, qubits, gates)
    evaluate = getattr(CompiledCircuit(built), read)
    assert torch.autograd.gradgradcheck(evaluate, arguments(built, 2, seed), atol=1e-6)


@pytest.mark.parametrize("read", READ)
def test_forward_mode_and_batched_gradients_pass_gradcheck(read: str) -> None:
    built = random_circuit(3, 2, 8)
    evaluate, given = getattr(CompiledCircuit(built), read), arguments(built, 1, 0)
    checks = {"check_forward_ad": True, "check_batched_grad": True}
    assert torch.autograd.gradcheck(
        evaluate, given, check_batched_forward_grad=True, atol=1e-6, **checks
    )
    assert torch.autograd.gradgradcheck(
        evaluate, given, check_fwd_over_rev=True, check_rev_over_rev=True, atol=1e-6
    )


@pytest.mark.parametrize("read", READ)
def test_plain_evaluation_is_an_oracle_for_values_and_adjoint_gradients(read: str) -> None:
    for seed in range(6):
        built = random_circuit(seed, 3, 15)
        evaluate = getattr(CompiledCircuit(built), read)
        x, w = arguments(built, 3, seed)
        fast = evaluate(x, w)
        cotangent = torch.randn_like(fast)
        expected = torch.autograd.grad(fast, (x, w), cotangent)
        plain, pull = torch.func.vjp(evaluate, x.detach(), w.detach())
        torch.testing.assert_close(plain, fast.detach(), rtol=0, atol=1e-14)
        torch.testing.assert_close(pull(cotangent), expected, rtol=0, atol=1e-12)


def test_gradient_penalty_moves_weights_as_finite_differences_say() -> None:
    compiled = CompiledCircuit(SuperpositionCircuit(2, reps=2))
    x = torch.randn(3, 2, dtype=torch.float64)
    w = torch.randn(8, dtype=torch.float64)

    def penalty(weights: Tensor) -> Tensor:
        at = x.clone().requires_grad_()
        total = (compiled.outputs(at, weights) ** 3).sum()
        (gradient,) = torch.autograd.grad(total, at, create_graph=True)
        return gradient.square().sum()

    learned = w.clone().requires_grad_()
    penalty(learned).backward()
    steps = torch.eye(8, dtype=torch.float64) * 1e-6
    slopes = [(penalty(w + s) - penalty(w - s)).detach() / 2e-6 for s in steps]
    torch.testing.assert_close(learned.grad, torch.stack(slopes), rtol=0, atol=1e-7)


def test_hessians_of_each_row_by_vmap() -> None:
    compiled = CompiledCircuit(SuperpositionCircuit(2, reps=1))
    x, w = torch.randn(4, 2, dtype=torch.float64), torch.randn(4, dtype=torch.float64)

    def loss(row: Tensor, weights: Tensor) -> Tensor:
        return (compiled.outputs(row.unsqueeze(0), weights) ** 3).sum()

    mapped = torch.func.vmap(torch.func.hessian(loss), (0, None))(x, w)
    for row, hessian in zip(x, mapped, strict=True):
        alone = torch.autograd.functional.hessian(lambda r: loss(r, w), row)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(hessian, alone, rtol=0, atol=1e-13)


def test_circuit_first_seen_inside_a_transform_is_usable_after_it() -> None:
    built = SuperpositionCircuit(2, reps=1)
    compiled, backend = CompiledCircuit(built), CompiledBackend(built)
    x, w = torch.randn(3, 2, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    inside = torch.func.grad(lambda v: compiled.outputs(x, v)[:, 0].sum())(w)
    w.requires_grad_()
    compiled.outputs(x, w)[:, 0].sum().backward()
    torch.testing.assert_close(w.grad, inside, rtol=0, atol=1e-14)
    mapped = torch.func.vmap(lambda row: backend.readout(row[None])[0])(x)
    torch.testing.assert_close(mapped, backend.readout(x), rtol=0, atol=1e-14)


def test_memory_of_what_torch_differentiates_is_forecast_and_refused() -> None:
    compiled = CompiledCircuit(SuperpositionCircuit(12, reps=2), memory_limit_gib=0.05)
    x, w = torch.randn(8, 12), torch.randn(48)
    compiled.outputs(x, w)  # fits
    refused = pytest.raises(ValueError, match=r"higher derivatives keep every state.*smaller")
    with refused:
        torch.func.grad(lambda v: compiled.marginals(x, v).sum())(w)
    learned = w.clone().requires_grad_()
    total = compiled.marginals(x, learned).sum()
    with refused:
        torch.autograd.grad(total, learned, create_graph=True)
    few = compiled.marginals(x[:1], learned).sum()
    torch.autograd.grad(few, learned, create_graph=True)
    with refused:
        torch.func.vmap(lambda row: compiled.marginals(row.unsqueeze(0), w))(x.repeat(8, 1))

"""Coefficients of small exact circuits, in numpy, against the general way through a backend."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_qsgd.backends import CompiledBackend, SamplerBackend
from lightning_qsgd.circuits import ScoreCircuit
from lightning_qsgd.nn.attention import CircuitBias
from lightning_qsgd.nn.attention.phi import FourierEvaluation

READOUTS = pytest.mark.parametrize("readout", ["probability", "amplitude"])


def evaluation_of(bias: CircuitBias) -> FourierEvaluation:
    assert isinstance(bias._evaluation, FourierEvaluation)
    return bias._evaluation


def is_exact(bias: CircuitBias) -> bool:
    return evaluation_of(bias)._exact is not None


def coefficients_and_gradient(bias: CircuitBias) -> tuple[Tensor, Tensor]:
    coefficients = evaluation_of(bias).coefficients(bias.weight, None)
    flow = torch.linspace(-1, 2, coefficients.numel()).to(coefficients).view_as(coefficients)
    (gradient,) = torch.autograd.grad(coefficients, bias.weight, flow)
    return coefficients.detach(), gradient


def in_general(bias: CircuitBias) -> CircuitBias:
    """Return a copy, in double precision, that evaluates the circuit by its backend."""
    other = copy.deepcopy(bias).double()
    evaluation_of(other)._exact = None
    return other


@READOUTS
@pytest.mark.parametrize(("n", "reps"), [(1, 2), (2, 3), (4, 2), (5, 1), (6, 1)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 3e-7), (torch.bfloat16, 1e-2)]
)
def test_both_ways_agree_to_the_precision_of_the_weights(
    n: int, reps: int, readout: Any, dtype: torch.dtype, tolerance: float
) -> None:
    bias = CircuitBias(ScoreCircuit(n, reps, "circular"), readout, seed=n + reps).to(dtype)
    assert is_exact(bias)
    coefficients, gradient = coefficients_and_gradient(bias)
    assert coefficients.dtype == torch.promote_types(dtype, torch.float32)
    assert gradient.dtype == dtype
    expected = coefficients_and_gradient(in_general(bias))
    for ours, exact in zip((coefficients, gradient), expected, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=tolerance, atol=tolerance)


def test_backends_that_sample_or_that_torch_compiles_are_asked_as_before() -> None:
    class Own(CompiledBackend):
        """May read something else."""

    circuit = ScoreCircuit(2, 1)
    assert is_exact(CircuitBias(CompiledBackend(circuit)))
    for runner in (SamplerBackend(circuit), Own(circuit), CompiledBackend(circuit, None, 4, True)):
        assert not is_exact(CircuitBias(runner))
    assert not is_exact(CircuitBias(ScoreCircuit(7, 2)))


def test_tensors_that_numpy_cannot_read_take_the_general_way() -> None:
    class Wrapped(Tensor):
        """Stands for something else."""

        asked = 0

        @classmethod
        def __torch_function__(cls, *call: Any) -> Any:
            cls.asked += 1
            return super().__torch_function__(*call)

    bias = CircuitBias(ScoreCircuit(2, 1))
    wrapped = bias.weight.detach().as_subclass(Wrapped)
    ours = evaluation_of(bias).coefficients(wrapped, None)
    torch.testing.assert_close(
        torch.Tensor(ours), evaluation_of(bias).coefficients(bias.weight, None).detach()
    )
    assert Wrapped.asked


def test_gradient_is_that_at_the_weights_of_the_forward_pass() -> None:
    bias = CircuitBias()
    evaluation = evaluation_of(bias)
    _, expected = coefficients_and_gradient(bias)
    coefficients = evaluation.coefficients(bias.weight, None)
    flow = torch.linspace(-1, 2, coefficients.numel()).view_as(coefficients)
    with torch.no_grad():
        bias.weight.add_(1.0)
    for _ in range(2):
        (gradient,) = torch.autograd.grad(coefficients, bias.weight, flow, retain_graph=True)
        assert torch.equal(gradient, expected)


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own, in forward mode
@pytest.mark.parametrize("readout", ["probability", "amplitude"])
def test_derivatives_of_all_kinds_agree_with_finite_differences(readout: Any) -> None:
    bias = CircuitBias(ScoreCircuit(2, 1), readout).double()
    assert is_exact(bias)
    evaluate, weights = evaluation_of(bias).coefficients, bias.weight.detach().requires_grad_()
    checks = {"check_batched_grad": True, "check_forward_ad": True}
    assert torch.autograd.gradcheck(lambda w: evaluate(w, None), weights, **checks)
    assert torch.autograd.gradgradcheck(
        lambda w: evaluate(w, None), weights, check_fwd_over_rev=True
    )


def test_frozen_weights_and_inference_need_no_gradient() -> None:
    bias = CircuitBias()
    with torch.inference_mode():
        inferred = evaluation_of(bias).coefficients(bias.weight, None)
    bias.weight.requires_grad_(False)
    frozen = evaluation_of(bias).coefficients(bias.weight, None)
    assert not frozen.requires_grad
    assert torch.equal(frozen, inferred)
    assert isinstance(bias.weight, nn.Parameter)

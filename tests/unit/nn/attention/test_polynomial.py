"""Fast evaluations of trigonometric polynomials against their definition."""

import math

import pytest
import torch
from torch import Tensor

from lightning_qsgd.nn.attention import polynomial as chebyshev
from lightning_qsgd.nn.attention.polynomial import clenshaw, trigonometric_polynomial

DEGREES = [0, 1, 2, 3, 8, 18]


def definition(scores: Tensor, coefficients: Tensor, frequency: float, share: float) -> Tensor:
    multiples = torch.arange(coefficients.shape[1])
    phases = scores[..., None] * frequency * multiples
    a, b = coefficients
    return share * scores + (a * phases.cos() + b * phases.sin()).sum(-1)


def drawn(degree: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Draw scores of several periods, and coefficients as large as those of a circuit."""
    coefficients = torch.randn(2, degree + 1, dtype=torch.float64) / (1 + torch.arange(degree + 1))
    scores = torch.randn(3, 50, dtype=torch.float64) * 5
    return scores.to(dtype), coefficients.to(dtype)


def value_and_gradients(function, scores, coefficients, share):  # type: ignore[no-untyped-def]
    s, c = (tensor.clone().requires_grad_() for tensor in (scores, coefficients))
    value = function(s * 1, c, 1.5, share)
    return value.detach(), *torch.autograd.grad((value * value.detach().cos()).sum(), (s, c))


@pytest.mark.parametrize("function", [trigonometric_polynomial, clenshaw])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("degree", DEGREES)
def test_values_and_gradients_are_those_of_the_definition(
    degree: int, share: float, function: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chebyshev, "CHUNK_ON_CPU", 64)  # several chunks, and a shorter last one
    arguments = drawn(degree)
    ours = value_and_gradients(function, *arguments, share)
    expected = value_and_gradients(definition, *arguments, share)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("degree", DEGREES)
def test_single_precision_is_as_exact_as_the_phase_allows(degree: int) -> None:
    scores, coefficients = drawn(degree, torch.float32)
    exact = definition(scores.double(), coefficients.double(), 1.0, 0.0)
    ours = trigonometric_polynomial(scores, coefficients, 1.0)
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own, in forward mode
def test_derivatives_of_all_kinds_agree_with_finite_differences() -> None:
    scores, coefficients = drawn(3)
    scores, coefficients = scores[:1, :5].clone().requires_grad_(), coefficients.requires_grad_()

    def function(s: Tensor, c: Tensor) -> Tensor:
        return trigonometric_polynomial(s * 1, c, 1.5, 1.0)

    given = scores, coefficients
    checks = {"check_batched_grad": True, "check_forward_ad": True}
    assert torch.autograd.gradcheck(function, given, check_batched_forward_grad=True, **checks)
    assert torch.autograd.gradgradcheck(function, given, check_fwd_over_rev=True)


@pytest.mark.parametrize("function", [trigonometric_polynomial, clenshaw])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinite_scores_stay_as_they_are_and_spoil_no_gradient(
    dtype: torch.dtype, function: object
) -> None:
    scores = torch.tensor([math.inf, 1.0, -math.inf, math.nan, 1e30], dtype=dtype)
    scores.requires_grad_()
    coefficients = drawn(3, dtype)[1].requires_grad_()
    value = function(scores * 1, coefficients, 1.0, 1.0)  # type: ignore[operator]
    assert value[0] == math.inf
    assert value[2] == -math.inf
    assert value[3].isnan()
    assert value[[1, 4]].isfinite().all()
    value[[0, 1, 2, 4]].sum().backward()
    assert scores.grad is not None
    assert coefficients.grad is not None
    assert scores.grad[[0, 1, 2, 4]].isfinite().all()
    assert coefficients.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    scores, coefficients = drawn(8)
    rounded = scores.to(dtype)
    value = trigonometric_polynomial(rounded, coefficients.float(), 1.5)
    exact = definition(rounded.double(), coefficients, 1.5, 0.0)
    assert value.dtype == dtype
    torch.testing.assert_close(value, exact.to(dtype), rtol=0, atol=torch.finfo(dtype).eps)


def test_zero_coefficients_add_nothing_to_any_bit() -> None:
    scores = drawn(8, torch.float32)[0]
    assert torch.equal(trigonometric_polynomial(scores, torch.zeros(2, 9), 4.0, 1.0), scores)


def test_scores_of_any_layout_and_none_at_all_are_taken() -> None:
    scores, coefficients = drawn(8)
    turned = trigonometric_polynomial(scores.t(), coefficients, 1.0)
    torch.testing.assert_close(turned, definition(scores.t(), coefficients, 1.0, 0.0))
    assert trigonometric_polynomial(scores[:0], coefficients, 1.0).shape == (0, 50)
    flat = trigonometric_polynomial(scores[0, 0], coefficients, 1.0)
    torch.testing.assert_close(flat, definition(scores[0, 0], coefficients, 1.0, 0.0))


def test_only_scores_and_coefficients_are_kept_for_the_way_back() -> None:
    scores, coefficients = (tensor.requires_grad_() for tensor in drawn(8))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (kept.append(t.numel()), t)[1], lambda t: t
    ):
        trigonometric_polynomial(scores.view(-1), coefficients, 1.0)
    assert sorted(kept) == [coefficients.numel(), scores.numel()]


def test_first_use_in_inference_mode_leaves_training_possible() -> None:
    scores, coefficients = drawn(5)
    with torch.inference_mode():
        trigonometric_polynomial(scores[0, :7], coefficients, 1.0)
    coefficients.requires_grad_()
    trigonometric_polynomial(scores[0, :7] * 1, coefficients, 1.0).sum().backward()
    assert coefficients.grad is not None

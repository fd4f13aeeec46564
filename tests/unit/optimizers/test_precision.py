"""Gradient scaling with skipped steps, and parameters of low precision."""

from typing import Any

import pytest
import torch

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import AllEntries, Perturbation, RelativeInjection
from tests.cases import INJECTIONS, Problem, dense_problem
from tests.reference import ReferenceOptimizer

BAD_STEP = 2
STEPS = 5


def adamw(problem: Problem, fused: bool) -> torch.optim.AdamW:
    return torch.optim.AdamW(problem.parameters, lr=1e-2, fused=fused)


def scaled_run(problem: Problem, optimizer: Any) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(STEPS):
        optimizer.zero_grad()
        scaler.scale(problem.loss(problem.parameters)).backward()
        before = problem.flat()
        if step == BAD_STEP:
            problem.parameters[1].grad[0] = torch.inf
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(before, problem.flat()) == (step == BAD_STEP)
    assert scaler.get_scale() == 512.0


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_gradient_scaler_skips_inf_steps_and_hands_over_unscaled_gradients(
    injection: str, fused: bool
) -> None:
    wrapped, expected = dense_problem(torch.float32), dense_problem(torch.float32)
    perturbation = Perturbation(injection=INJECTIONS[injection], coordinates=AllEntries())
    optimizer = PerturbedOptimizer(adamw(wrapped, fused), perturbation)
    scaled_run(wrapped, optimizer)

    oracle = ReferenceOptimizer(adamw(expected, fused), injection, coordinates="all")
    for step in range(STEPS):
        if step != BAD_STEP:
            expected.backward()
            oracle.step()
    torch.testing.assert_close(wrapped.flat(), expected.flat(), rtol=0, atol=1e-6)
    assert optimizer.own_state.applied == optimizer.own_state.steps == STEPS - 1


def test_unscaling_before_clipping_is_not_done_twice() -> None:
    wrapped, expected = dense_problem(torch.float32), dense_problem(torch.float32)
    optimizer = PerturbedOptimizer(adamw(wrapped, fused=True))
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    scaler.scale(wrapped.loss(wrapped.parameters)).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(wrapped.parameters, 0.5)
    scaler.step(optimizer)
    expected.backward()
    torch.nn.utils.clip_grad_norm_(expected.parameters, 0.5)
    ReferenceOptimizer(adamw(expected, fused=True)).step()
    torch.testing.assert_close(wrapped.flat(), expected.flat(), rtol=0, atol=1e-6)


def test_wrapper_of_a_fused_base_does_not_claim_to_unscale_by_itself() -> None:
    base = adamw(dense_problem(), fused=True)
    assert base._step_supports_amp_scaling
    assert not hasattr(PerturbedOptimizer(base), "_step_supports_amp_scaling")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parameters_of_low_precision_warn_once_and_train(dtype: torch.dtype) -> None:
    problem = dense_problem(dtype)
    base = torch.optim.SGD(problem.parameters, lr=0.1)
    perturbation = Perturbation(coordinates=AllEntries())
    with pytest.warns(UserWarning, match=r"bfloat16 or float16.*rounded away.*'bf16-mixed'") as log:
        optimizer = PerturbedOptimizer(base, perturbation)
    assert len(log) == 1
    problem.backward()
    theta = problem.flat().float()
    gradient = torch.cat([p.grad.reshape(-1).float() for p in problem.parameters])  # type: ignore[union-attr]
    optimizer.step()
    expected = theta - 0.1 * gradient - 0.1 * 0.5 * torch.sin(torch.pi * theta) * gradient
    assert problem.flat().dtype == dtype
    torch.testing.assert_close(problem.flat().float(), expected, rtol=2**-6, atol=2**-7)


def test_low_precision_at_strength_zero_is_silent() -> None:
    problem = dense_problem(torch.bfloat16)
    PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1), Perturbation(strength=0.0))


@pytest.mark.filterwarnings("ignore:Some parameters are stored in bfloat16")
@pytest.mark.parametrize("injection", INJECTIONS)
def test_gradients_of_low_precision_are_restored_bit_for_bit(injection: str) -> None:
    problem = dense_problem(torch.bfloat16)
    problem.backward()
    before = [p.grad.clone() for p in problem.parameters]  # type: ignore[union-attr]
    perturbation = Perturbation(injection=INJECTIONS[injection])
    PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1), perturbation).step()
    for parameter, gradient in zip(problem.parameters, before, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_tensors_of_several_dtypes_are_perturbed_together() -> None:
    values = [torch.full((3,), 0.5, dtype=dtype) for dtype in (torch.float32, torch.float64)]
    parameters = [torch.nn.Parameter(value) for value in values]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    PerturbedOptimizer(torch.optim.SGD(parameters, lr=0.1)).step()
    for parameter in parameters:
        torch.testing.assert_close(parameter, torch.full_like(parameter, 0.5 - 0.1 - 0.05))


def test_a_relative_step_of_a_half_precision_tensor_rescales_the_rounded_step() -> None:
    theta = torch.nn.Parameter(torch.tensor([0.5, 0.25], dtype=torch.float16))
    theta.grad = torch.ones_like(theta)
    perturbation = Perturbation(injection=RelativeInjection(), strength=1.0)
    with pytest.warns(UserWarning, match="float16"):
        optimizer = PerturbedOptimizer(torch.optim.SGD([theta], lr=0.125), perturbation)
    optimizer.step()
    assert theta.tolist() == pytest.approx([0.25, 0.25 - 0.125 * (1 + 0.5**0.5)], abs=2**-10)

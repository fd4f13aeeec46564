"""Annealed gradient noise and the nudge."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch.nn.functional import embedding
from torch.optim import SGD
from torch.optim.optimizer import register_optimizer_step_post_hook

from lightning_qsgd.backends import CompiledBackend
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    FirstOfModel,
    GradientInjection,
    Injection,
    NoiseInjection,
    NudgeInjection,
    Perturbation,
    Strength,
)
from tests.cases import dense_problem


def noisy(parameters: Any, strength: float = 1.0, **settings: float) -> PerturbedOptimizer:
    perturbation = Perturbation(
        coordinates=AllEntries(), strength=strength, injection=NoiseInjection(**settings)
    )
    return PerturbedOptimizer(SGD(parameters, lr=1.0), perturbation)


@pytest.mark.parametrize(("step", "strength"), [(0, 1.0), (0, 0.5), (99, 1.0)])
def test_variance_of_the_noise_is_that_of_the_paper(step: int, strength: float) -> None:
    theta = torch.nn.Parameter(torch.zeros(40_000, dtype=torch.float64))
    theta.grad = torch.full_like(theta, 2.0)
    optimizer = noisy([theta], strength, eta=0.3, gamma=0.55)
    optimizer.own_state.steps = step
    optimizer.step()
    noise = -(theta.detach() + 2.0)  # SGD at learning rate 1 subtracts the gradient that it sees
    expected = strength**2 * 0.3 / (1 + step) ** 0.55
    assert float(noise.var()) == pytest.approx(expected, rel=0.04)  # 5.6 standard errors
    assert abs(float(noise.mean())) < 5 * (expected / len(theta)) ** 0.5


def test_gradient_is_restored_after_the_step() -> None:
    problem = dense_problem()
    optimizer = noisy(problem.parameters)
    for _ in range(3):
        problem.backward()
        before = [p.grad.clone() for p in problem.parameters if p.grad is not None]
        optimizer.step()
        after = [p.grad for p in problem.parameters if p.grad is not None]
        assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_report_compares_the_noise_with_the_gradient() -> None:
    theta = torch.nn.Parameter(torch.zeros(10_000))
    theta.grad = torch.full_like(theta, 2.0)
    optimizer = noisy([theta], eta=0.04, gamma=0.0)
    optimizer.step()
    assert optimizer.report is not None
    assert optimizer.report.relative_size == pytest.approx(0.1, rel=0.05)
    assert optimizer.report.model_relative_size is None


def test_a_tensor_without_gradient_gets_and_reports_no_noise() -> None:
    with_gradient, without = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    with_gradient.grad = torch.ones(2)
    perturbation = Perturbation(coordinates=FirstOfModel(), injection=NoiseInjection())
    optimizer = PerturbedOptimizer(SGD([with_gradient, without], lr=1.0), perturbation)
    optimizer.step()
    assert torch.equal(without.detach(), torch.ones(2))
    assert without.grad is None
    assert optimizer.report is not None
    assert optimizer.report.zero_share == 0.5


def test_noise_on_a_sparse_gradient_is_refused() -> None:
    table = torch.nn.Parameter(torch.ones(5, 3))
    optimizer = noisy([table])
    embedding(torch.tensor([0, 2]), table, sparse=True).sum().backward()
    with pytest.raises(ValueError, match="Cannot inject into a sparse gradient"):
        optimizer.step()


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_nudge_moves_each_entry_up_or_down_by_its_size(strength: float) -> None:
    theta = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 200, dtype=torch.float64))
    theta.grad = torch.ones_like(theta)
    expected = theta.detach() - 0.1
    perturbation = Perturbation(
        coordinates=AllEntries(), strength=strength, injection=NudgeInjection(size=1e-6)
    )
    PerturbedOptimizer(SGD([theta], lr=0.1), perturbation).step()
    moved = theta.detach() - expected
    torch.testing.assert_close(
        moved.abs(), torch.full_like(moved, strength * 1e-6), rtol=1e-6, atol=0
    )
    assert 60 < int((moved > 0).sum()) < 140


def test_nudge_of_a_strength_with_a_large_period_happens_once() -> None:
    nudged, plain = dense_problem(torch.float32), dense_problem(torch.float32)
    perturbation = Perturbation(strength=Strength(1.0, every=10**9), injection=NudgeInjection())
    optimizer = PerturbedOptimizer(SGD(nudged.parameters, lr=0.1), perturbation)
    base = SGD(plain.parameters, lr=0.1)
    distances = []
    for _ in range(4):
        for problem, one in ((nudged, optimizer), (plain, base)):
            problem.backward()
            one.step()
        distances.append(float((nudged.flat() - plain.flat()).abs().max()))
    assert optimizer.own_state.applied == 1
    assert 5e-7 < distances[0] < 2e-6  # not rounded away in float32
    assert 0 < distances[-1] < 1e-5


def test_noise_evaluates_no_circuit() -> None:
    theta = torch.nn.Parameter(torch.ones(4))
    theta.grad = torch.ones(4)
    perturbation = Perturbation(CompiledBackend(), injection=NoiseInjection())
    optimizer = PerturbedOptimizer(SGD([theta], lr=0.1), perturbation)
    with patch.object(CompiledBackend, "readout", side_effect=AssertionError):
        optimizer.step()
    assert optimizer.report is not None
    assert optimizer.report.circuits == 0


@pytest.mark.parametrize("injection", [NoiseInjection(), GradientInjection()])
def test_a_gradient_that_the_base_clears_in_its_step_stays_cleared(injection: Injection) -> None:
    class Clearing(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            super().step()
            self.zero_grad(set_to_none=False)

    parameter = torch.nn.Parameter(torch.full((4,), 0.3))
    optimizer = PerturbedOptimizer(Clearing([parameter], lr=0.1), Perturbation(injection=injection))
    parameter.grad = torch.ones(4)
    optimizer.step()
    assert not parameter.grad.any()


def test_a_gradient_that_a_hook_of_every_optimizer_clears_stays_cleared() -> None:
    def clear(optimizer: Any, args: Any, kwargs: Any) -> None:
        optimizer.zero_grad(set_to_none=False)

    parameter = torch.nn.Parameter(torch.full((4,), 0.3))
    perturbation = Perturbation(injection=GradientInjection())
    optimizer = PerturbedOptimizer(SGD([parameter], lr=0.1), perturbation)
    parameter.grad = torch.ones(4)
    handle = register_optimizer_step_post_hook(clear)
    try:
        optimizer.step()
    finally:
        handle.remove()
    assert not parameter.grad.any()

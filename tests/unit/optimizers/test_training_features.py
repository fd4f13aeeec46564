"""Maximising, groups, schedulers, accumulation, clipping and repeated closures."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau, StepLR

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import AllEntries, Perturbation
from tests.cases import INJECTIONS, Problem, dense_problem
from tests.reference import ReferenceOptimizer

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "OneCycleLR": lambda optimizer: OneCycleLR(optimizer, max_lr=3e-2, total_steps=12),
    "StepLR": lambda optimizer: StepLR(optimizer, step_size=2, gamma=0.5),
    "CyclicLR": lambda optimizer: CyclicLR(optimizer, 1e-3, 2e-2, step_size_up=2),
    "ReduceLROnPlateau": lambda optimizer: ReduceLROnPlateau(optimizer, patience=0, threshold=0.5),
}


def sgd(problem: Problem, **settings: Any) -> torch.optim.SGD:
    return torch.optim.SGD(problem.parameters, lr=1e-2, momentum=0.9, **settings)


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_maximising_f_is_minimising_its_negative_bit_for_bit(cls: Any, injection: str) -> None:
    results = []
    for sign, maximize in ((1, False), (-1, True)):
        problem = dense_problem()
        base = cls(problem.parameters, lr=1e-2, maximize=maximize)
        optimizer = PerturbedOptimizer(base, Perturbation(injection=INJECTIONS[injection]))
        for _ in range(5):
            optimizer.zero_grad()
            (sign * problem.loss(problem.parameters)).backward()
            optimizer.step()
        results.append(problem.flat())
    assert torch.equal(*results)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_each_group_is_perturbed_at_its_own_learning_rate(injection: str) -> None:
    def grouped(problem: Problem) -> Optimizer:
        first, second, third = problem.parameters
        return torch.optim.AdamW(
            [
                {"params": [first], "lr": 1e-2},
                {"params": [second], "lr": 3e-2, "maximize": True},
                {"params": [third], "lr": 0.0},
            ]
        )

    wrapped, expected = dense_problem(), dense_problem()
    still = wrapped.parameters[2].detach().clone()
    optimizer = PerturbedOptimizer(grouped(wrapped), Perturbation(injection=INJECTIONS[injection]))
    oracle = ReferenceOptimizer(grouped(expected), injection)
    for _ in range(5):
        for problem, stepped in ((wrapped, optimizer), (expected, oracle)):
            problem.backward()
            stepped.step()
    torch.testing.assert_close(wrapped.flat(), expected.flat(), rtol=0, atol=1e-7)
    assert torch.equal(wrapped.parameters[2], still)


@pytest.mark.parametrize("built_on", ["wrapper", "base"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_change_the_learning_rate_of_both_halves_of_the_step(
    scheduler: str, built_on: str
) -> None:
    wrapped, expected = dense_problem(), dense_problem()
    base, bare = sgd(wrapped), sgd(expected)
    if built_on == "base":
        schedule = SCHEDULERS[scheduler](base)
        optimizer = PerturbedOptimizer(base)
    else:
        optimizer = PerturbedOptimizer(base)
        schedule = SCHEDULERS[scheduler](optimizer)
    oracle, bare_schedule = ReferenceOptimizer(bare), SCHEDULERS[scheduler](bare)
    rates = set()
    for _ in range(8):
        for problem, stepped, each in (
            (wrapped, optimizer, schedule),
            (expected, oracle, bare_schedule),
        ):
            loss = problem.backward()
            stepped.step()
            each.step(*([loss.item()] if scheduler == "ReduceLROnPlateau" else []))
        rates.add(optimizer.param_groups[0]["lr"])
    torch.testing.assert_close(wrapped.flat(), expected.flat(), rtol=0, atol=1e-7)
    assert len(rates) > 2
    assert schedule.state_dict()["last_epoch"] == bare_schedule.state_dict()["last_epoch"] == 8
    assert optimizer.own_state.applied == 8


def test_a_scheduler_that_steps_before_the_optimizer_still_warns() -> None:
    problem = dense_problem()
    schedule = StepLR(PerturbedOptimizer(sgd(problem)), step_size=1)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        schedule.step()


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_perturbation_sees_accumulated_and_clipped_gradients(
    injection: str, accumulate: bool, clip: bool
) -> None:
    def train(problem: Problem, optimizer: Any) -> None:
        every = 3 if accumulate else 1
        for batch in range(8):
            loss = problem.loss(problem.parameters) * (1 + batch % 2)
            (loss / every).backward()
            if (batch + 1) % every == 0 or batch == 7:
                if clip:
                    assert clip_grad_norm_(problem.parameters, 0.9) > 0.9
                optimizer.step()
                for parameter in problem.parameters:
                    parameter.grad = None

    wrapped, expected, plain = dense_problem(), dense_problem(), dense_problem()
    optimizer = PerturbedOptimizer(sgd(wrapped), Perturbation(injection=INJECTIONS[injection]))
    train(wrapped, optimizer)
    train(expected, ReferenceOptimizer(sgd(expected), injection))
    train(plain, sgd(plain))
    torch.testing.assert_close(wrapped.flat(), expected.flat(), rtol=0, atol=1e-7)
    assert (wrapped.flat() - plain.flat()).abs().max() > 1e-4
    assert optimizer.own_state.applied == (3 if accumulate else 8)


class TwoPassSAM(Optimizer):
    """Sharpness-aware minimisation that evaluates its closure at theta, then at theta + e."""

    def __init__(self, params: Any, lr: float, rho: float = 0.3) -> None:
        super().__init__(params, {"lr": lr, "rho": rho})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        loss = torch.enable_grad()(closure)()
        moved = [p for group in self.param_groups for p in group["params"]]
        ascent = [self.defaults["rho"] * p.grad for p in moved]
        torch._foreach_add_(moved, ascent)
        torch.enable_grad()(closure)()
        torch._foreach_sub_(moved, ascent)
        torch._foreach_add_(moved, [p.grad for p in moved], alpha=-self.defaults["lr"])
        return loss


def lbfgs(parameters: list[Tensor]) -> Optimizer:
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)


def sam(parameters: list[Tensor]) -> Optimizer:
    return TwoPassSAM(parameters, lr=1e-2)


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("make", [lbfgs, sam])
def test_closures_that_run_several_times_are_perturbed_once_from_the_first_evaluation(
    make: Callable[[list[Tensor]], Optimizer], injection: str
) -> None:
    wrapped, expected = dense_problem(), dense_problem()
    evaluations = []

    def counted() -> Tensor:
        evaluations.append(1)
        return wrapped.backward()

    perturbation = Perturbation(injection=INJECTIONS[injection], coordinates=AllEntries())
    optimizer = PerturbedOptimizer(make(wrapped.parameters), perturbation)
    oracle = ReferenceOptimizer(make(expected.parameters), injection, coordinates="all")
    for step in range(3):
        optimizer.step(counted)
        oracle.step(expected.backward)
        assert optimizer.own_state.applied == step + 1
    assert len(evaluations) >= 6
    torch.testing.assert_close(wrapped.flat(), expected.flat(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("make", [lbfgs, sam])
def test_gradient_of_the_last_evaluation_is_left_as_the_closure_made_it(
    make: Callable[[list[Tensor]], Optimizer],
) -> None:
    problem = dense_problem()
    left: list[Tensor] = []

    def closure() -> Tensor:
        loss = problem.backward()
        left[:] = [p.grad.clone() for p in problem.parameters]  # type: ignore[union-attr]
        return loss

    perturbation = Perturbation(injection=INJECTIONS["gradient"])
    PerturbedOptimizer(make(problem.parameters), perturbation).step(closure)
    for parameter, gradient in zip(problem.parameters, left, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_step_returns_the_loss_of_the_closure() -> None:
    problem = dense_problem()
    expected = problem.loss(problem.parameters).item()
    optimizer = PerturbedOptimizer(sgd(problem))
    assert optimizer.step(problem.backward).item() == expected
    assert optimizer.step(closure=problem.backward).item() < expected
    assert optimizer.step() is None

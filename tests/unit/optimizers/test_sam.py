"""SAM against the paper's algorithm in a plain loop, and as a torch optimizer among others."""

import copy
import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, embedding
from torch.optim import SGD, Adam, AdamW, Optimizer

from lightning_qsgd.optimizers import SAM, ConfiguredPerturbedOptimizer, PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation
from tests.cases import Problem, dense_problem


def adam(parameters: Iterable[Any]) -> Optimizer:
    return Adam(parameters, lr=0.01, weight_decay=0.1)


def sgd(parameters: Iterable[Any]) -> Optimizer:
    return SGD(parameters, lr=0.05, momentum=0.9)


def train(problem: Problem, optimizer: Optimizer, steps: int = 4) -> Tensor:
    for _ in range(steps):
        optimizer.step(problem.backward)
    return problem.flat()


def written_out(problem: Problem, base: Optimizer, rho: float, steps: int) -> Tensor:
    """Algorithm 1 of the paper with plain gradients, no optimizer around the base."""
    for _ in range(steps):
        values = [p.detach().clone().requires_grad_() for p in problem.parameters]
        gradients = torch.autograd.grad(problem.loss(values), values)
        norm = sum(float((g**2).sum()) for g in gradients) ** 0.5
        near = [
            (v.detach() + rho * g / norm).requires_grad_()
            for v, g in zip(values, gradients, strict=True)
        ]
        for parameter, gradient in zip(
            problem.parameters, torch.autograd.grad(problem.loss(near), near), strict=True
        ):
            parameter.grad = gradient
        base.step()
    return problem.flat()


@pytest.mark.parametrize("make", [adam, sgd])
@pytest.mark.parametrize("rho", [0.05, 0.7])
def test_steps_are_those_of_the_paper(make: Callable[..., Optimizer], rho: float) -> None:
    ours, plain = dense_problem(), dense_problem()
    expected = written_out(plain, make(plain.parameters), rho, steps=4)
    got = train(ours, SAM(ours.parameters, make, rho))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)
    bare = dense_problem()
    assert float((got - train(bare, make(bare.parameters))).abs().max()) > 1e-7


def test_maximising_is_minimising_the_negated_loss() -> None:
    ours, negated = dense_problem(), dense_problem()
    loss = negated.loss
    negated.loss = lambda values: -loss(values)

    def maximising(parameters: Iterable[Any]) -> Optimizer:
        return SGD(parameters, lr=0.01, maximize=True)

    expected = train(ours, SAM(ours.parameters, lambda ps: SGD(ps, lr=0.01)))
    assert torch.equal(train(negated, SAM(negated.parameters, maximising)), expected)


def test_radius_zero_is_the_base_bit_for_bit() -> None:
    ours, plain = dense_problem(), dense_problem()
    expected = train(plain, adam(plain.parameters))
    assert torch.equal(train(ours, SAM(ours.parameters, adam, rho=0.0)), expected)


def test_base_is_adamw_unless_said_otherwise() -> None:
    assert type(SAM(dense_problem().parameters).base) is AdamW


def test_step_returns_the_loss_before_it() -> None:
    problem = dense_problem()
    expected = problem.backward().item()
    assert SAM(problem.parameters, sgd).step(problem.backward).item() == expected


def test_groups_state_and_defaults_are_the_bases_own() -> None:
    problem = dense_problem()
    first, *rest = problem.parameters
    optimizer = SAM([{"params": [first], "lr": 0.5}], adam)
    optimizer.add_param_group({"params": rest})
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
    train(problem, optimizer, steps=1)
    schedule.step()
    assert [group["lr"] for group in optimizer.base.param_groups] == pytest.approx([0.05, 0.001])
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.state is optimizer.base.state
    assert len(optimizer.state) == 3


def test_a_resumed_run_equals_the_uninterrupted_one() -> None:
    whole, part = dense_problem(), dense_problem()
    expected = train(whole, SAM(whole.parameters, adam), steps=6)
    first = SAM(part.parameters, adam)
    train(part, first, steps=3)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    resumed = SAM(part.parameters, adam)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.state is resumed.base.state
    assert torch.equal(train(part, resumed, steps=3), expected)


def test_the_base_alone_loads_the_state() -> None:
    problem = dense_problem()
    optimizer = SAM(problem.parameters, adam)
    train(problem, optimizer)
    base = adam(problem.parameters)
    base.load_state_dict(optimizer.state_dict())
    assert base.state.keys() == optimizer.state.keys()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_step_alike(copied: Callable[[Any], Any]) -> None:
    theta = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = SAM([theta], adam, rho=0.3)
    other, its = copied(optimizer), None
    (its,) = other.param_groups[0]["params"]

    def closure_of(p: Tensor) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            p.grad = None
            loss = (p**4).sum()
            loss.backward()
            return loss

        return closure

    optimizer.step(closure_of(theta))
    other.step(closure_of(its))
    assert torch.equal(its, theta)
    assert other.state is other.base.state


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
        ),
    ],
)
def test_dropout_masks_are_the_same_in_both_evaluations_and_as_without_sam(device: str) -> None:
    def run(make: Callable[[list[Tensor]], Optimizer]) -> tuple[list[Tensor], float]:
        theta, masks = nn.Parameter(torch.ones(50, device=device)), []
        optimizer = make([theta])

        def closure() -> Tensor:
            optimizer.zero_grad()
            dropped = dropout(theta, 0.5)
            masks.append(dropped.detach() != 0)
            loss = (dropped**2).sum()
            loss.backward()
            return loss

        torch.manual_seed(3)
        for _ in range(3):
            optimizer.step(closure)
        return masks, float(torch.rand((), device=device))

    masks, drawn = run(lambda parameters: SAM(parameters, sgd))
    plain_masks, plain_drawn = run(sgd)
    assert torch.equal(torch.stack(masks[::2]), torch.stack(plain_masks))
    assert torch.equal(torch.stack(masks[1::2]), torch.stack(plain_masks))
    assert drawn == plain_drawn


def test_parameters_come_back_when_the_second_evaluation_fails() -> None:
    problem = dense_problem()
    before, calls = problem.flat(), []

    def failing() -> Tensor:
        calls.append(problem.flat())
        if len(calls) == 2:
            raise KeyboardInterrupt
        return problem.backward()

    with pytest.raises(KeyboardInterrupt):
        SAM(problem.parameters, sgd).step(failing)
    assert not torch.equal(calls[1], before)
    assert torch.equal(problem.flat(), before)


def test_a_closure_that_only_calls_backward_is_cleared_between_its_evaluations() -> None:
    ours, plain = dense_problem(), dense_problem()
    optimizer = SAM(ours.parameters, sgd)

    def backward_only() -> Tensor:
        loss = ours.loss(ours.parameters)
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.zero_grad()
        optimizer.step(backward_only)
    assert torch.equal(ours.flat(), train(plain, SAM(plain.parameters, sgd)))


def test_a_gradient_of_zero_moves_nothing_and_is_no_error() -> None:
    theta = nn.Parameter(torch.ones(2))

    def flat() -> Tensor:
        theta.grad = torch.zeros(2)
        return torch.zeros(())

    SAM([theta], sgd).step(flat)
    assert torch.equal(theta.detach(), torch.ones(2))


def test_parameters_without_gradient_are_left_alone() -> None:
    theta, frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), requires_grad=False)
    problem = Problem([theta, frozen], lambda values: (values[0] ** 2).sum())
    train(problem, SAM([theta, frozen], sgd))
    assert torch.equal(frozen, torch.ones(2))
    assert not torch.equal(theta, torch.ones(2))


def test_sam_and_a_perturbation_combine_either_way() -> None:
    perturbation = Perturbation(strength=0.5)
    outside, inside, plain = (dense_problem() for _ in range(3))
    train(outside, PerturbedOptimizer(SAM(outside.parameters, sgd), perturbation))
    train(
        inside,
        SAM(inside.parameters, lambda ps: ConfiguredPerturbedOptimizer(ps, sgd, perturbation)),
    )
    train(plain, SAM(plain.parameters, sgd))
    assert not torch.allclose(outside.flat(), plain.flat())
    assert not torch.allclose(inside.flat(), plain.flat())


def test_a_step_without_closure_is_refused() -> None:
    optimizer = SAM(dense_problem().parameters, sgd)
    with pytest.raises(
        RuntimeError, match=r"Cannot take a SAM step without a closure: .*bf16-mixed"
    ):
        optimizer.step()


@pytest.mark.parametrize("set_to_none", [True, False])
def test_accumulated_gradients_are_refused_and_cleared_ones_are_not(set_to_none: bool) -> None:
    problem = dense_problem()
    optimizer = SAM(problem.parameters, sgd)
    before = problem.flat()

    def closure(clears: bool) -> Tensor:
        if clears:
            optimizer.zero_grad(set_to_none)
        loss = problem.loss(problem.parameters)
        loss.backward()
        return loss

    closure(clears=True)
    with pytest.raises(RuntimeError, match=r"SAM step on accumulated gradients: .*accumulate_grad"):
        optimizer.step(lambda: closure(clears=False))
    assert torch.equal(problem.flat(), before)
    optimizer.step(lambda: closure(clears=True))
    assert not torch.equal(problem.flat(), before)


def test_sparse_gradients_are_refused() -> None:
    table = nn.Parameter(torch.ones(5, 3))
    optimizer = SAM([table], sgd)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = embedding(torch.tensor([0, 2]), table, sparse=True).sum()
        loss.backward()
        return loss

    with pytest.raises(TypeError, match="Cannot take a SAM step on a sparse gradient"):
        optimizer.step(closure)
    assert torch.equal(table, torch.ones(5, 3))


@pytest.mark.parametrize("rho", [-0.1, torch.nan, torch.inf])
def test_radius_out_of_range_is_refused(rho: float) -> None:
    with pytest.raises(ValueError, match="Expected `rho` to be non-negative and finite, got"):
        SAM(dense_problem().parameters, sgd, rho)


@pytest.mark.parametrize("base", ["adam", lambda parameters: None])
def test_a_base_that_makes_no_optimizer_is_refused(base: Any) -> None:
    with pytest.raises(TypeError, match="Expected `base` to make a torch optimizer from parameter"):
        SAM(dense_problem().parameters, base)

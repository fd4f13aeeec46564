"""Parameters that are replaced, added, frozen or regrouped while a training runs."""

from collections.abc import Callable
from types import MethodType

import pytest
import torch
from torch import Tensor

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import AllEntries, NudgeInjection, Perturbation, UpdateInjection
from lightning_qsgd.perturbations.step import TouchedStep
from tests.cases import INJECTIONS, Problem, dense_problem
from tests.reference import ReferenceOptimizer

Change = Callable[[Problem, torch.optim.SGD], None]


def replace_data(problem: Problem, base: torch.optim.SGD) -> None:
    for parameter in problem.parameters:
        parameter.data = parameter.data.clone() * 0.5


def transpose_in_place(problem: Problem, base: torch.optim.SGD) -> None:
    square = problem.parameters[2]
    square.data = square.data.t()


def freeze(problem: Problem, base: torch.optim.SGD) -> None:
    problem.parameters[0].requires_grad_(False)


def unfreeze(problem: Problem, base: torch.optim.SGD) -> None:
    for parameter in problem.parameters:
        parameter.requires_grad_(True)


def split_groups(problem: Problem, base: torch.optim.SGD) -> None:
    group = base.param_groups[0]
    moved = group["params"].pop()
    base.add_param_group({"params": [moved], "lr": 0.1})


def swap_parameter(problem: Problem, base: torch.optim.SGD) -> None:
    new = torch.nn.Parameter(problem.parameters[1].detach().clone() + 0.1)
    problem.parameters[1] = base.param_groups[0]["params"][1] = new


CHANGES: list[Change] = [
    replace_data,
    transpose_in_place,
    freeze,
    unfreeze,
    split_groups,
    swap_parameter,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_a_change_between_two_steps_is_followed(injection: str, change: Change) -> None:
    wrapped, expected = dense_problem(), dense_problem()
    base, bare = (torch.optim.SGD(p.parameters, lr=1e-2) for p in (wrapped, expected))
    optimizer = PerturbedOptimizer(base, Perturbation(injection=INJECTIONS[injection]))
    oracle = ReferenceOptimizer(bare, injection)
    if change is unfreeze:
        freeze(wrapped, base)
        freeze(expected, bare)
    for step in range(6):
        if step == 3:
            change(wrapped, base)
            change(expected, bare)
        for problem, stepped in ((wrapped, optimizer), (expected, oracle)):
            problem.backward()
            stepped.step()
    torch.testing.assert_close(wrapped.flat(), expected.flat(), rtol=0, atol=1e-9)
    assert optimizer.own_state.applied == 6


def test_a_tensor_that_shrinks_in_place_is_followed() -> None:
    parameter = torch.nn.Parameter(torch.full((4,), 0.5))
    optimizer = PerturbedOptimizer(torch.optim.SGD([parameter], lr=0.1))
    parameter.grad = torch.ones(4)
    optimizer.step()
    whole = parameter.data
    tail = whole[2:].clone()
    parameter.grad = None
    parameter.data = whole[:2]
    parameter.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(whole[2:], tail)


def test_a_group_added_in_mid_training_is_perturbed_from_then_on() -> None:
    wrapped, expected = dense_problem(), dense_problem()

    def make(problem: Problem) -> torch.optim.SGD:
        return torch.optim.SGD(problem.parameters[:2], lr=1e-2, momentum=0.9)

    optimizer = PerturbedOptimizer(make(wrapped))
    oracle = ReferenceOptimizer(make(expected))
    for step in range(6):
        if step == 3:
            optimizer.add_param_group({"params": [wrapped.parameters[2]], "lr": 0.05})
            oracle.base.add_param_group({"params": [expected.parameters[2]], "lr": 0.05})
        for problem, stepped in ((wrapped, optimizer), (expected, oracle)):
            problem.backward()
            stepped.step()
    assert len(optimizer.base.param_groups) == 2
    torch.testing.assert_close(wrapped.flat(), expected.flat(), rtol=0, atol=1e-9)


def test_a_group_that_cannot_be_perturbed_is_refused_and_not_added() -> None:
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = PerturbedOptimizer(torch.optim.SGD([first], lr=0.1))
    second.ds_id = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="Cannot perturb DeepSpeed ZeRO-3 parameters"):
        optimizer.add_param_group({"params": [second]})
    assert len(optimizer.param_groups) == 1


def test_a_group_of_low_precision_added_in_mid_training_warns() -> None:
    first = torch.nn.Parameter(torch.ones(2))
    optimizer = PerturbedOptimizer(torch.optim.SGD([first], lr=0.1))
    with pytest.warns(UserWarning, match="bfloat16 or float16"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2).bfloat16())]})


def test_clearing_gradients_reaches_the_parameters() -> None:
    parameter: Tensor = torch.nn.Parameter(torch.ones(2))
    optimizer = PerturbedOptimizer(torch.optim.SGD([parameter], lr=0.1))
    parameter.grad = torch.ones(2)
    optimizer.zero_grad(set_to_none=False)
    assert parameter.grad.tolist() == [0, 0]
    optimizer.zero_grad()
    assert parameter.grad is None


class Tagged(torch.nn.Parameter):
    """A parameter of a user's class."""


def test_a_parameter_of_another_class_ends_inference_mode_from_its_first_step_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modes: list[bool] = []
    plain = UpdateInjection.coefficients

    def watched(self: UpdateInjection, step: TouchedStep) -> Tensor:
        modes.append(torch.is_inference_mode_enabled())
        return plain(self, step)

    monkeypatch.setattr(UpdateInjection, "coefficients", watched)
    problem = dense_problem()
    base = torch.optim.SGD(problem.parameters, lr=0.1)
    optimizer = PerturbedOptimizer(base, Perturbation())
    for parameter in (None, None, Tagged(problem.parameters[1].detach().clone())):
        if parameter is not None:
            problem.parameters[1] = base.param_groups[0]["params"][1] = parameter
        problem.backward()
        optimizer.step()
    assert modes == [True, True, False]


class Replacing(torch.optim.SGD):
    """Gives its parameters new memory in its step, as ``p.data = p.data - lr * g`` does."""

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                lr = self.param_groups[0]["lr"]
                parameter.data = parameter.data - lr * parameter.grad


def patched(parameters: list[torch.Tensor], lr: float) -> torch.optim.SGD:
    """torch's own optimizer, given another step as scripts do."""
    optimizer = torch.optim.SGD(parameters, lr=lr)
    optimizer.step = MethodType(Replacing.step, optimizer)  # type: ignore[method-assign]
    return optimizer


@pytest.mark.parametrize("replacing", [Replacing, patched])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_memory_that_the_base_replaces_in_its_step_is_followed(
    injection: str, replacing: Callable[..., torch.optim.SGD]
) -> None:
    problems = dense_problem(), dense_problem()
    for problem, kind in zip(problems, (replacing, torch.optim.SGD), strict=True):
        perturbation = Perturbation(injection=INJECTIONS[injection])
        optimizer = PerturbedOptimizer(kind(problem.parameters, lr=1e-2), perturbation)
        for _ in range(3):
            problem.backward()
            optimizer.step()
    replaced, in_place = problems
    torch.testing.assert_close(replaced.flat(), in_place.flat(), rtol=0, atol=1e-12)


def test_a_transposed_replacement_is_followed() -> None:
    class Transposing(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            super().step()
            (square,) = self.param_groups[0]["params"]
            square.data = square.data.t().contiguous().t()

    squares = [torch.nn.Parameter(torch.arange(1.0, 10.0).view(3, 3) / 10) for _ in range(2)]
    for square, kind in zip(squares, (Transposing, torch.optim.SGD), strict=True):
        square.grad = torch.ones(3, 3)
        PerturbedOptimizer(kind([square], lr=0.1)).step()
    assert torch.equal(*squares)


def test_a_nudge_leaves_alone_what_loses_its_gradient() -> None:
    problem = dense_problem()
    perturbation = Perturbation(coordinates=AllEntries(), injection=NudgeInjection(1.0))
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=1e-2), perturbation)
    problem.backward()
    optimizer.step()
    problem.parameters[2].requires_grad_(False)
    before = problem.parameters[2].clone()
    problem.backward()
    optimizer.step()
    assert torch.equal(problem.parameters[2], before)

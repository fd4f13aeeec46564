"""Hooks, attributes and keywords: what the base has, the wrapper has."""

from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from lightning_qsgd.optimizers import ConfiguredPerturbedOptimizer, PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation
from tests.cases import dense_problem


class ChattySGD(torch.optim.SGD):
    """An SGD with more to it than torch's."""

    mode = "train"

    def eval(self) -> str:
        self.mode = "eval"
        return self.mode

    def step(self, closure: Any = None, *, scale: float = 1.0) -> Any:
        self.scale = scale
        return super().step(closure)


def one(cls: type = torch.optim.SGD) -> tuple[Tensor, PerturbedOptimizer]:
    parameter = torch.nn.Parameter(torch.tensor([0.5]))
    parameter.grad = torch.ones(1)
    return parameter, PerturbedOptimizer(cls([parameter], lr=0.1))


def test_hooks_on_the_wrapper_fire_once_around_the_whole_step() -> None:
    parameter, optimizer = one()
    seen: list[Any] = []
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: seen.append((opt, parameter.item())))
    optimizer.register_step_post_hook(
        lambda opt, args, kwargs: seen.append((opt, parameter.item()))
    )
    optimizer.step()
    assert [each[0] for each in seen] == [optimizer, optimizer]
    assert [each[1] for each in seen] == pytest.approx([0.5, 0.35])


def test_hooks_on_the_base_fire_once_around_the_whole_step() -> None:
    parameter, optimizer = one()
    seen: list[tuple[Any, float]] = []
    for register in (
        optimizer.base.register_step_pre_hook,
        optimizer.base.register_step_post_hook,
    ):
        register(lambda owner, args, kwargs: seen.append((owner, parameter.item())))
    optimizer.step()
    optimizer.base.step()  # keeps its hooks
    assert [owner for owner, _ in seen] == [optimizer.base] * 4
    assert [value for _, value in seen] == pytest.approx([0.5, 0.35, 0.35, 0.25])
    assert optimizer.steps_past == 1


def test_a_hook_that_is_registered_during_a_step_stays() -> None:
    _, optimizer = one()
    seen: list[str] = []
    optimizer.base.register_step_post_hook(lambda *_: seen.append("first"))
    handles: list[Any] = []

    def closure() -> None:
        if not handles:
            for owner in (optimizer, optimizer.base):
                handles.append(owner.register_step_post_hook(lambda *_: seen.append("late")))

    optimizer.step(closure)
    optimizer.step(closure)
    assert seen == ["late", "first", *["first", "late", "late"]]
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert seen[5:] == ["first"]


def test_a_projection_of_the_module_holds_after_the_perturbation() -> None:
    parameter = torch.nn.Parameter(torch.tensor([0.05]))
    base = torch.optim.SGD([parameter], lr=0.1)
    base.register_step_post_hook(lambda *_: parameter.data.clamp_(min=0.0))
    optimizer = PerturbedOptimizer(base)
    parameter.grad = torch.ones(1)
    optimizer.step()  # 0.05 - 0.1 - 0.1 * 0.5 * sin(0.05 pi)
    assert parameter.item() == 0.0


def test_a_pre_hook_of_the_base_changes_the_gradient_that_the_circuit_sees() -> None:
    parameter, optimizer = one()

    def clear(*_: Any) -> None:
        parameter.grad = torch.zeros(1)

    optimizer.base.register_step_pre_hook(clear)
    optimizer.step()
    assert parameter.item() == 0.5
    assert optimizer.own_state.steps == 1


def test_global_hooks_fire_once_per_step() -> None:
    _, optimizer = one()
    seen: list[str] = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("pre")),
        register_optimizer_step_post_hook(lambda *_: seen.append("post")),
    ]
    try:
        optimizer.step()
        optimizer.step()
    finally:
        for handle in handles:
            handle.remove()
    assert seen == ["pre", "post"] * 2


def test_removed_hooks_fire_no_more() -> None:
    _, optimizer = one()
    seen: list[int] = []
    handle = optimizer.register_step_post_hook(lambda *_: seen.append(1))
    optimizer.step()
    handle.remove()
    optimizer.step()
    assert seen == [1]


def test_a_pre_hook_may_replace_the_closure_and_the_keywords() -> None:
    problem = dense_problem()
    base = ChattySGD(problem.parameters, lr=0.1)
    optimizer = PerturbedOptimizer(base)
    optimizer.register_step_pre_hook(
        lambda opt, args, kwargs: ((opt, problem.backward), {"scale": 7.0})
    )
    assert optimizer.step() is not None
    assert base.scale == 7.0
    assert optimizer.own_state.applied == 1


def test_a_pre_hook_that_returns_nonsense_is_refused() -> None:
    _, optimizer = one()
    optimizer.register_step_pre_hook(lambda *_: "stop")
    with pytest.raises(RuntimeError, match=r"A step pre-hook returned 'stop': .*Return None or"):
        optimizer.step()


def test_keywords_of_step_and_attributes_reach_the_base() -> None:
    _, optimizer = one(ChattySGD)
    optimizer.step(scale=3.0)
    assert optimizer.scale == optimizer.base.scale == 3.0
    assert optimizer.mode == "train"
    assert optimizer.eval() == optimizer.base.mode == "eval"


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    _, optimizer = one()
    with pytest.raises(AttributeError, match="no_such_thing"):
        optimizer.no_such_thing  # noqa: B018
    with pytest.raises(TypeError, match="unexpected keyword argument 'scale'"):
        optimizer.step(scale=3.0)


def test_wrapper_is_a_torch_optimizer_that_shares_everything() -> None:
    _, optimizer = one()
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.state is optimizer.base.state
    assert optimizer.defaults is optimizer.base.defaults


def test_resetting_the_state_of_the_wrapper_resets_the_base() -> None:
    parameter, optimizer = one(torch.optim.AdamW)
    optimizer.step()
    optimizer.state.clear()
    assert not optimizer.base.state
    optimizer.step()
    assert int(optimizer.base.state[parameter]["step"]) == 1


def test_repr_names_the_perturbation_and_the_base() -> None:
    _, optimizer = one()
    text = repr(optimizer)
    assert text.startswith("PerturbedOptimizer(Perturbation(backend=SineBackend(num_qubits=4)")
    assert "base=SGD" in text
    assert "lr: 0.1" in text


def test_configured_wrapper_builds_its_base_from_parameters_or_groups() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    perturbation = Perturbation(strength=0.1)
    optimizer = ConfiguredPerturbedOptimizer(
        [{"params": [parameter], "lr": 0.3}],
        base=lambda params: torch.optim.SGD(params, lr=0.1),
        perturbation=perturbation,
    )
    assert isinstance(optimizer.base, torch.optim.SGD)
    assert optimizer.param_groups[0]["lr"] == 0.3
    assert optimizer.perturbation is perturbation


@pytest.mark.parametrize("base", ["SGD", 3])
def test_configured_wrapper_refuses_a_base_that_cannot_be_called(base: Any) -> None:
    with pytest.raises(TypeError, match=r"Expected `base` to make an optimizer .* not callable"):
        ConfiguredPerturbedOptimizer([torch.nn.Parameter(torch.ones(2))], base=base)


def test_configured_wrapper_refuses_a_factory_of_something_else() -> None:
    not_an_optimizer: Any = list
    with pytest.raises(
        TypeError, match=r"Expected `base` to be a torch.optim.Optimizer, got .*list"
    ):
        ConfiguredPerturbedOptimizer([torch.nn.Parameter(torch.ones(2))], base=not_an_optimizer)


def test_a_state_that_is_replaced_is_the_base_s_own() -> None:
    _, optimizer = one()
    optimizer.state = defaultdict(dict)
    assert optimizer.base.state is optimizer.state

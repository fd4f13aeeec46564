"""A wrapper stands in for its base: nested optimizers, global hooks, trainers' own wrappers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from lightning_qsgd.optimizers import SAM, PerturbedOptimizer
from lightning_qsgd.optimizers import motion as motion_module
from lightning_qsgd.optimizers.motion import fingerprint, moved
from lightning_qsgd.perturbations import (
    AllEntries,
    GradientInjection,
    Perturbation,
    RelativeInjection,
    Strength,
    UpdateInjection,
)
from tests.cases import dense_problem

ON = Perturbation(coordinates=AllEntries())
OFF = Perturbation(strength=0.0)


class Around(Optimizer):
    """Holds an optimizer, as Lookahead does."""

    def __init__(self, inner: Optimizer) -> None:
        super().__init__(inner.param_groups, inner.defaults)
        self.inner = [inner]

    def step(self, closure: Any = None) -> Any:
        return self.inner[0].step(closure)


def sgd(**options: Any) -> SGD:
    return SGD([nn.Parameter(torch.full((4,), 0.5))], lr=0.1, **options)


@pytest.mark.parametrize(
    "around",
    [Around, lambda inner: SAM(inner.param_groups, lambda groups: inner)],
)
def test_what_is_perturbed_inside_is_not_perturbed_again(around: Callable[..., Optimizer]) -> None:
    whole = around(PerturbedOptimizer(sgd(), ON))
    with pytest.raises(TypeError, match=r"the SGD inside it is perturbed already.*one of the two"):
        PerturbedOptimizer(whole, Perturbation(strength=0.1))
    assert PerturbedOptimizer(whole, OFF).perturbation.is_off
    assert PerturbedOptimizer(around(PerturbedOptimizer(sgd(), OFF)), ON).own_state.steps == 0


class Refers(SGD):
    """Knows the other side of a GAN, and does not step it."""

    partner: Any = None


def test_a_perturbed_optimizer_of_other_parameters_may_be_referred_to() -> None:
    other = sgd()
    refers = Refers([nn.Parameter(torch.ones(2))], lr=0.1)
    refers.partner = PerturbedOptimizer(other, ON)
    assert PerturbedOptimizer(refers, ON).partner is refers.partner


@pytest.mark.parametrize(("name", "value"), [("perturbation", OFF), ("base", None)])
def test_parts_are_not_replaced_in_place(name: str, value: Any) -> None:
    optimizer = PerturbedOptimizer(sgd(), ON)
    for each in (optimizer, LightningOptimizer(optimizer)):
        with pytest.raises(AttributeError, match=rf"Cannot replace the `{name}` of a wrapped SGD"):
            setattr(each, name, value)
    assert optimizer.perturbation is ON
    assert isinstance(optimizer.base, SGD)


def test_a_step_that_is_differentiated_through_is_refused() -> None:
    with pytest.raises(ValueError, match=r"differentiable=True.*Leave `differentiable` out"):
        PerturbedOptimizer(sgd(differentiable=True), ON)
    optimizer = PerturbedOptimizer(sgd(), ON)
    group = {"params": [nn.Parameter(torch.ones(1))], "differentiable": True}
    with pytest.raises(ValueError, match="differentiable=True"):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1
    assert PerturbedOptimizer(sgd(differentiable=True), OFF).defaults["differentiable"]


class InTwos(SGD):
    """Adds a group for each tensor."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        params = param_group["params"]
        for each in params if isinstance(params, list) else [params]:
            super().add_param_group({**param_group, "params": [each]})


def test_all_groups_that_a_refused_one_became_are_taken_back() -> None:
    optimizer = PerturbedOptimizer(InTwos([nn.Parameter(torch.ones(1))], lr=0.1), ON)
    new = [nn.Parameter(torch.ones(1)) for _ in range(3)]
    with pytest.raises(ValueError, match="differentiable"):
        optimizer.add_param_group({"params": new, "differentiable": True})
    assert len(optimizer.param_groups) == 1


class Narrow(SGD):
    """Takes other arguments than torch's optimizers do."""

    cleared: Any = None

    def zero_grad(self) -> None:  # type: ignore[override]
        self.cleared = "all"

    def state_dict(self, extra: int = 0) -> dict[str, Any]:  # type: ignore[override]
        return {**super().state_dict(), "extra": extra}

    def load_state_dict(self, state: Any, strict: bool = True) -> None:  # type: ignore[override]
        self.strict = strict
        super().load_state_dict(state)


def test_methods_are_called_on_the_base_as_they_were_called() -> None:
    optimizer: Any = PerturbedOptimizer(Narrow([nn.Parameter(torch.ones(1))], lr=0.1), ON)
    optimizer.zero_grad()
    assert optimizer.base.cleared == "all"
    state = optimizer.state_dict(extra=3)
    assert state["extra"] == 3
    optimizer.load_state_dict(state, strict=False)
    assert optimizer.base.strict is False
    plain: Any = PerturbedOptimizer(sgd(), ON)
    plain.param_groups[0]["params"][0].grad = torch.ones(4)
    plain.zero_grad(set_to_none=False)
    assert torch.equal(plain.param_groups[0]["params"][0].grad, torch.zeros(4))


def clip(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1e-3)


def project(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    with torch.no_grad():
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.clamp_(-0.1, 0.1)


@pytest.fixture
def global_hooks() -> Iterator[list[Any]]:
    handles: list[Any] = []
    yield handles
    for handle in handles:
        handle.remove()


def run(optimizer: Optimizer, problem: Any, closure: bool) -> Tensor:
    for _ in range(3):
        if closure:
            optimizer.step(problem.backward)
        else:
            problem.backward()
            optimizer.step()
    flat: Tensor = problem.flat()
    return flat


@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize(
    "injection", [UpdateInjection(), RelativeInjection(), GradientInjection()], ids=repr
)
@pytest.mark.parametrize("hook", [clip, project])
def test_global_hooks_act_as_the_optimizers_own(
    hook: Any, injection: Any, closure: bool, global_hooks: list[Any]
) -> None:
    """With a closure torch runs pre-hooks before there are gradients: on those of the last step."""
    perturbation = Perturbation(coordinates=AllEntries(), injection=injection)
    pre = hook is clip

    def made(problem: Any) -> PerturbedOptimizer:
        return PerturbedOptimizer(AdamW(problem.parameters, lr=1e-2), perturbation)

    own, everywhere = dense_problem(), dense_problem()
    optimizer = made(own)
    (optimizer.register_step_pre_hook if pre else optimizer.register_step_post_hook)(hook)
    expected = run(optimizer, own, closure)
    other = made(everywhere)
    register = register_optimizer_step_pre_hook if pre else register_optimizer_step_post_hook
    global_hooks.append(register(hook))
    assert torch.equal(run(other, everywhere, closure), expected)
    assert other.own_state.applied == 3
    assert not other.base.__dict__["_optimizer_step_pre_hooks"]
    if not pre:
        assert expected.abs().max() <= 0.1


def test_a_global_hook_that_fails_leaves_nothing_behind(global_hooks: list[Any]) -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(SGD(problem.parameters, lr=0.1), ON)
    problem.backward()
    start = problem.flat()

    def fail(*_: Any) -> None:
        raise OSError("no disk")

    handle = register_optimizer_step_pre_hook(fail)
    global_hooks.append(handle)
    with pytest.raises(OSError, match="no disk"):
        optimizer.step()
    assert torch.equal(problem.flat(), start)
    assert optimizer.own_state.steps == 0
    handle.remove()
    global_hooks.append(register_optimizer_step_post_hook(fail))
    with pytest.raises(OSError, match="no disk"):
        optimizer.step()
    assert (optimizer.own_state.steps, optimizer.own_state.applied) == (1, 1)
    assert not optimizer.base.__dict__["_optimizer_step_pre_hooks"]


@pytest.mark.parametrize("strength", [None, 0.0, 0.5])
def test_own_and_global_hooks_run_in_the_order_of_torch(
    strength: float | None, global_hooks: list[Any]
) -> None:
    order: list[str] = []

    def noting(name: str) -> Callable[..., None]:
        return lambda *_: order.append(name)

    base = sgd()
    base.register_step_pre_hook(noting("own before"))
    base.register_step_post_hook(noting("own after"))
    global_hooks.append(register_optimizer_step_pre_hook(noting("global before")))
    global_hooks.append(register_optimizer_step_post_hook(noting("global after")))
    optimizer: Optimizer = base
    if strength is not None:
        optimizer = PerturbedOptimizer(base, Perturbation(strength=strength))
    base.param_groups[0]["params"][0].grad = torch.ones(4)
    optimizer.step()
    assert order == ["global before", "own before", "own after", "global after"]


def test_what_own_and_global_hooks_do_to_gradients_is_done_in_that_order(
    global_hooks: list[Any],
) -> None:
    def tenfold(optimizer: Optimizer, *_: Any) -> None:
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad.mul_(10)

    def clamp(optimizer: Optimizer, *_: Any) -> None:
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad.clamp_(-0.5, 0.5)

    global_hooks.append(register_optimizer_step_pre_hook(clamp))
    moved = []
    for strength in (0.0, 0.5):
        base = sgd()
        base.register_step_pre_hook(tenfold)
        parameter = base.param_groups[0]["params"][0]
        parameter.grad = torch.ones(4)
        PerturbedOptimizer(base, Perturbation(strength=strength, coordinates=AllEntries())).step()
        moved.append(parameter[0].item() - 0.5)
    assert moved[0] == pytest.approx(-0.1 * 5)  # clipped to 0.5, then tenfold
    assert moved[1] == pytest.approx(-0.1 * 5 * 1.5)  # sin(pi/2) of it on top, half as strong


class Twice(SGD):
    """Runs the hooks of the class above within its own."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter.mul_(0.5)
        return loss


def test_global_hooks_around_a_step_inside_a_step(global_hooks: list[Any]) -> None:
    SGD([nn.Parameter(torch.ones(1))], lr=0.1)  # torch patches the class above when it is made
    global_hooks.append(register_optimizer_step_post_hook(lambda *_: None))
    problem, plain = dense_problem(), dense_problem()
    step_size = Perturbation(coordinates=AllEntries(), injection=UpdateInjection(step_size=0.1))
    optimizer = PerturbedOptimizer(Twice(problem.parameters, lr=0.1), step_size)
    base = Twice(plain.parameters, lr=0.1)
    for each, stepped in ((problem, optimizer), (plain, base)):
        each.backward()
        stepped.step()
    theta, g = dense_problem(), dense_problem()
    g.backward()
    gradient = torch.cat([p.grad.flatten() for p in g.parameters])
    added = -0.1 * 0.5 * torch.sin(torch.pi * theta.flat()) * gradient
    torch.testing.assert_close(problem.flat(), plain.flat() + added)
    assert optimizer.own_state.applied == 1


def test_a_hook_that_is_removed_during_the_step_does_not_come_back() -> None:
    calls: list[str] = []
    optimizer = PerturbedOptimizer(sgd(), ON)
    own = optimizer.register_step_post_hook(lambda *_: calls.append("own"))
    base = optimizer.base.register_step_post_hook(lambda *_: calls.append("base"))
    parameter = optimizer.param_groups[0]["params"][0]

    def closure() -> float:
        own.remove()
        base.remove()
        parameter.grad = torch.ones(4)
        return 0.0

    optimizer.step(closure)
    optimizer.step(lambda: 0.0)
    assert calls == []


def wrappers(optimizer: PerturbedOptimizer) -> list[Any]:
    fabric = Fabric(accelerator="cpu", devices=1)
    return [LightningOptimizer(optimizer), fabric.setup_optimizers(optimizer)]


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_set_on_a_trainers_wrapper_arrives(which: int) -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(SGD(problem.parameters, lr=0.1), ON)
    outer = wrappers(optimizer)[which]
    outer.measure_every = 0
    assert optimizer.measure_every == 0
    optimizer.measure_every = 50
    assert outer.measure_every == 50
    optimizer.own_state.due = 1  # not measured by itself
    outer.measure_next()
    problem.backward()
    optimizer.step()
    assert outer.report is optimizer.report
    assert optimizer.report is not None


@pytest.mark.parametrize("which", [0, 1])
def test_a_state_that_a_trainers_wrapper_loads_is_the_one_that_steps(which: int) -> None:
    late = Perturbation(strength=Strength(5.0, start_step=6), coordinates=AllEntries())
    whole, parted = dense_problem(), dense_problem()
    uninterrupted = PerturbedOptimizer(SGD(whole.parameters, lr=0.1), late)
    for _ in range(3):
        expected = run(uninterrupted, whole, False)
    first = PerturbedOptimizer(SGD(parted.parameters, lr=0.1), late)
    run(first, parted, False)
    resumed = PerturbedOptimizer(SGD(parted.parameters, lr=0.1), late)
    outer = wrappers(resumed)[which]
    outer.load_state_dict(first.state_dict())
    assert outer.own_state is resumed.own_state
    assert outer.state_dict()["quantum_perturbation"]["steps"] == 3
    run(resumed, parted, False)
    assert torch.equal(run(resumed, parted, False), expected)
    assert (resumed.own_state.steps, resumed.own_state.applied) == (9, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_without_float64_the_least_move_of_one_entry_is_seen(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(motion_module, "WITHOUT_FLOAT64", ("cpu",))
    parameter = nn.Parameter(torch.linspace(1, 2, 2**20).to(dtype))
    before = fingerprint([parameter])
    assert not moved(before, fingerprint([parameter]))
    parameter.data[7] = torch.nextafter(parameter.data[7], torch.tensor(9.0, dtype=dtype))
    assert moved(before, fingerprint([parameter])) == {id(parameter)}

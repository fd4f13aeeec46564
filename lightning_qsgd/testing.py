"""Laws that a wrapper of torch optimizers should keep, for any wrapper and any optimizer.

A wrapper takes an optimizer and returns one: a perturbation, sharpness-aware steps, a slow average.
Programs around it, from gradient scalers to checkpoints, expect what the bare optimizer does.
Nothing here knows this package, and a law that the bare optimizer breaks is not asked of its
wrapper.
"""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Make = Callable[[Any], Optimizer]
Wrap = Callable[[Optimizer], Optimizer]
Law = Callable[[Wrap, Make], None]


def broken_laws(wrap: Wrap, make: Make, neutral: Wrap | None = None) -> dict[str, str]:
    """Return the laws that a wrapper breaks and the bare optimizer keeps, with the first reason.

    Args:
        wrap: Wraps an optimizer.
        make: Makes an optimizer from parameters or parameter groups.
        neutral: Wraps it such that nothing should change (strength 0, a radius of 0); laws of
            equality are asked of it. None leaves them out.

    Example:
        >>> broken_laws(lambda base: base, lambda params: torch.optim.SGD(params, lr=0.1))
        {}
    """
    found = {}
    for name in LAWS:
        try:
            check_law(name, wrap, make, neutral)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found


def check_law(name: str, wrap: Wrap, make: Make, neutral: Wrap | None = None) -> None:
    """Raise if a wrapper breaks a law that the bare optimizer keeps; made for pytest.

    Args:
        name: One of `LAWS`.
        wrap: Wraps an optimizer.
        make: Makes an optimizer from parameters or parameter groups.
        neutral: As for `broken_laws`.

    Raises:
        AssertionError: If the law is broken.
        Exception: What the wrapper raises.

    Example:
        >>> check_law("a closure's loss is returned", lambda base: base, torch.optim.AdamW)
    """
    law, of_neutral = LAWS[name]
    asked = neutral if of_neutral else wrap
    if asked is None:
        return
    try:
        law(lambda base: base, make)
    except Exception:
        return  # the bare optimizer breaks it as well
    law(asked, make)


class _Problem:
    """A small network, its data, and runs of an optimizer on them."""

    def __init__(self, make: Make, wrap: Wrap, seed: int = 0) -> None:
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
        self.data = torch.rand(6, 3, generator=generator)
        self.wrap, self.make = wrap, make
        self.optimizer: Any = wrap(make(list(self.model.parameters())))

    def loss(self) -> Tensor:
        self.optimizer.zero_grad()
        loss: Tensor = self.model(self.data).square().sum()
        loss.backward()
        return loss

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.optimizer.step(self.loss)

    def flat(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.model.parameters()]).clone()


def _bare(make: Make) -> _Problem:
    return _Problem(make, lambda base: base)


def _equal(first: Tensor, second: Tensor, what: str) -> None:
    assert torch.equal(first, second), f"{what} differs by {(first - second).abs().max():.1e}"


def _neutral_is_the_base(wrap: Wrap, make: Make) -> None:
    problem, bare = _Problem(make, wrap), _bare(make)
    problem.step(4)
    bare.step(4)
    _equal(problem.flat(), bare.flat(), "a neutral run")


def _neutral_follows_schedules(wrap: Wrap, make: Make) -> None:
    flats = []
    for problem in (_Problem(make, wrap), _bare(make)):
        scheduler = torch.optim.lr_scheduler.StepLR(problem.optimizer, 1, gamma=0.5)
        for _ in range(3):
            problem.step()
            scheduler.step()
        flats.append(problem.flat())
    _equal(flats[0], flats[1], "a neutral run with a schedule")


def _neutral_sees_gradients_as_applied(wrap: Wrap, make: Make) -> None:
    flats = []
    for problem in (_Problem(make, wrap), _bare(make)):
        for _ in range(2):
            problem.loss()
            (problem.model(problem.data[:2]).sum()).backward()  # accumulated
            nn.utils.clip_grad_norm_(problem.model.parameters(), 0.1)
            problem.optimizer.step()
        flats.append(problem.flat())
    _equal(flats[0], flats[1], "a neutral run with accumulation and clipping")


def _neutral_exchanges_states(wrap: Wrap, make: Make) -> None:
    for first, second in ((wrap, lambda base: base), (lambda base: base, wrap)):
        source, target, whole = _Problem(make, first), _Problem(make, second), _bare(make)
        whole.step(4)
        source.step(2)
        target.model.load_state_dict(source.model.state_dict())
        target.optimizer.load_state_dict(copy.deepcopy(source.optimizer.state_dict()))
        target.step(2)
        _equal(target.flat(), whole.flat(), "a run that was resumed with the other one")


def _returns_the_loss(wrap: Wrap, make: Make) -> None:
    problem = _Problem(make, wrap)
    expected = problem.loss().item()
    returned = problem.optimizer.step(problem.loss)
    assert returned is not None, "step(closure) returned None"
    assert abs(float(returned) - expected) < 1e-6, f"returned {returned}, the loss is {expected}"


def _takes_keyword_closures(wrap: Wrap, make: Make) -> None:
    problem, other = _Problem(make, wrap), _Problem(make, wrap)
    problem.optimizer.step(closure=problem.loss)
    other.step()
    _equal(problem.flat(), other.flat(), "a step with the closure by keyword")


def _skips_overflows(wrap: Wrap, make: Make) -> None:
    problem = _Problem(make, wrap)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = problem.flat()
    for factor in (torch.inf, 1.0):
        problem.optimizer.zero_grad()
        scaler.scale(problem.model(problem.data).square().sum()).backward()
        for parameter in problem.model.parameters():
            parameter.grad = None if parameter.grad is None else parameter.grad * factor
        scaler.step(problem.optimizer)
        scaler.update()
        if factor == torch.inf:
            _equal(problem.flat(), before, "parameters after an overflow")
    assert not torch.equal(problem.flat(), before), "the step after an overflow moved nothing"


def _survives_a_failing_closure(wrap: Wrap, make: Make) -> None:
    problem = _Problem(make, wrap)
    before = problem.flat()

    def broken() -> Tensor:
        raise ZeroDivisionError

    try:
        problem.optimizer.step(broken)
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("the closure's exception was swallowed, or it was not evaluated")
    _equal(problem.flat(), before, "parameters after a failing closure")
    problem.step()
    assert not torch.equal(problem.flat(), before), "the next step moved nothing"


def _resumes(wrap: Wrap, make: Make) -> None:
    whole, first, second = (_Problem(make, wrap) for _ in range(3))
    whole.step(4)
    first.step(2)
    buffer = io.BytesIO()
    torch.save(first.optimizer.state_dict(), buffer)
    buffer.seek(0)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(torch.load(buffer, weights_only=True))
    second.step(2)
    _equal(second.flat(), whole.flat(), "a resumed run")


def _copied(wrap: Wrap, make: Make, again: Callable[[Any], Any]) -> None:
    whole, original = _Problem(make, wrap), _Problem(make, wrap)
    whole.step(4)
    original.step(2)
    before = original.flat()
    twin = _Problem(make, wrap)
    twin.model, twin.optimizer = again((original.model, original.optimizer))
    twin.step(2)
    _equal(twin.flat(), whole.flat(), "a run of the copy")
    _equal(original.flat(), before, "the original while its copy trained")


def _deepcopies(wrap: Wrap, make: Make) -> None:
    _copied(wrap, make, copy.deepcopy)


def _pickles(wrap: Wrap, make: Make) -> None:
    _copied(wrap, make, lambda pair: pickle.loads(pickle.dumps(pair)))


def _fires_hooks_once(wrap: Wrap, make: Make) -> None:
    problem = _Problem(make, wrap)
    seen: list[str] = []
    problem.optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    problem.optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    problem.step()
    assert seen == ["before", "after"], f"hooks fired as {seen}"


def _trains_groups_added_later(wrap: Wrap, make: Make) -> None:
    problem = _Problem(make, wrap)
    late = nn.Parameter(torch.ones(2))
    problem.step()
    problem.optimizer.add_param_group({"params": [late]})

    def loss() -> Tensor:
        value = problem.loss()
        extra = late.square().sum()
        extra.backward()
        return value + extra.detach()

    problem.optimizer.step(loss)
    assert not torch.equal(late.detach(), torch.ones(2)), "a group that was added did not move"


def _takes_odd_tensors(wrap: Wrap, make: Make) -> None:
    scalar, empty = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.ones(0))
    turned = nn.Parameter(torch.rand(4, 3, generator=torch.Generator().manual_seed(0)).t())
    frozen, unused = nn.Parameter(torch.ones(2), requires_grad=False), nn.Parameter(torch.ones(2))
    optimizer: Any = wrap(make([scalar, empty, turned, frozen, unused]))
    before = turned.detach().clone()

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = scalar.square() + turned.square().sum() + empty.sum()
        value.backward()
        return value

    for _ in range(2):
        optimizer.step(loss)
    assert not torch.equal(turned.detach(), before), "a transposed parameter did not move"
    for still in (frozen, unused):
        _equal(still.detach(), torch.ones(2), "a parameter without gradient")


def _passes_for_its_base(wrap: Wrap, make: Make) -> None:
    base = make([nn.Parameter(torch.ones(2))])
    optimizer = wrap(base)
    assert isinstance(optimizer, Optimizer), "it is no torch.optim.Optimizer"
    assert isinstance(optimizer, type(base)), f"it is no {type(base).__name__}"
    assert type(optimizer).__name__ == type(base).__name__, f"it is a {type(optimizer).__name__}"


def _shares_attributes(wrap: Wrap, make: Make) -> None:
    base: Any = make([nn.Parameter(torch.ones(2))])
    optimizer: Any = wrap(base)
    base.knob = 1
    assert optimizer.knob == 1, "an attribute of the base is not read"
    optimizer.knob = 2
    assert base.knob == 2, "an attribute that is set does not reach the base"


LAWS: dict[str, tuple[Law, bool]] = {
    "neutral settings give the base, bit for bit": (_neutral_is_the_base, True),
    "learning-rate schedules reach the base": (_neutral_follows_schedules, True),
    "accumulated and clipped gradients are used": (_neutral_sees_gradients_as_applied, True),
    "states are exchanged with the base": (_neutral_exchanges_states, True),
    "a closure's loss is returned": (_returns_the_loss, False),
    "a closure may be passed by keyword": (_takes_keyword_closures, False),
    "a failing closure moves nothing": (_survives_a_failing_closure, False),
    "an overflow under a gradient scaler moves nothing": (_skips_overflows, False),
    "a resumed run equals an uninterrupted one": (_resumes, False),
    "a deep copy continues by itself": (_deepcopies, False),
    "a pickle continues by itself": (_pickles, False),
    "step hooks fire once": (_fires_hooks_once, False),
    "groups that are added later are trained": (_trains_groups_added_later, False),
    "scalar, empty, transposed, frozen and unused tensors are taken": (_takes_odd_tensors, False),
    "it is an instance of the base's class, with its name": (_passes_for_its_base, False),
    "attributes are read and written on the base": (_shares_attributes, False),
}
"""Each law by its sentence: the check, and whether it is asked of a neutral wrapper."""

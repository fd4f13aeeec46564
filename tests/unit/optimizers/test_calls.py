"""How `step` is called reaches the base as it is; a closure may be heeded or not."""

import functools
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    Coordinates,
    GradientInjection,
    Injection,
    LargestGradient,
    Learning,
    Perturbation,
    RandomEntries,
    RelativeInjection,
    UpdateInjection,
)
from lightning_qsgd.perturbations.step import TouchedStep
from tests.cases import dense_problem


class Recording(SGD):
    """Notes the form in which its step is called."""

    got: Any = None

    def note(self, *args: Any, **kwargs: Any) -> None:
        shapes = [callable(value) for value in args]
        self.got = (shapes, {name: callable(value) for name, value in kwargs.items()})


class Positional(Recording):
    def step(self, *args: Any, **kwargs: Any) -> Any:
        self.note(*args, **kwargs)
        return super().step(kwargs.get("closure", args[0] if args else None))


class KeywordOnly(Recording):
    def step(self, *, closure: Any = None) -> Any:  # type: ignore[override]
        self.note(closure=closure)
        return super().step(closure)


class ScaleFirst(Recording):
    def step(self, scale: Any = 1.0, closure: Any = None) -> Any:
        self.note(scale, closure)
        return super().step(closure)


class ClosureFirst(Recording):
    def step(self, closure: Any = None, extra: Any = None) -> Any:
        self.note(closure, extra)
        return super().step(closure)


class OtherName(Recording):
    def step(self, evaluate: Any = None) -> Any:
        self.note(evaluate)
        return super().step(evaluate)


class CallableFirst(Recording):
    def step(self, rate: Any, *, closure: Any = None) -> Any:  # type: ignore[override]
        self.note(rate, closure=closure)
        return super().step(closure)


Step = Callable[[Optimizer, Any], Any]
FORMS: dict[str, tuple[type[Recording], Step]] = {
    "positional": (Positional, lambda o, c: o.step(c)),
    "keyword": (Positional, lambda o, c: o.step(closure=c)),
    "keyword-only": (KeywordOnly, lambda o, c: o.step(closure=c)),
    "after another argument": (ScaleFirst, lambda o, c: o.step(2.0, c)),
    "by name, after a default": (ScaleFirst, lambda o, c: o.step(closure=c)),
    "before another argument": (ClosureFirst, lambda o, c: o.step(c, 5)),
    "under another name": (OtherName, lambda o, c: o.step(c)),
    "under another name by keyword": (OtherName, lambda o, c: o.step(evaluate=c)),
    "beside another function": (CallableFirst, lambda o, c: o.step(abs, closure=c)),
}
INJECTIONS: dict[str, Injection] = {
    "update": UpdateInjection(),
    "gradient": GradientInjection(),
    "relative": RelativeInjection(),
}


def trained(kind: type[Optimizer], step: Step, wrap: Any, steps: int = 3) -> tuple[Any, Any]:
    problem = dense_problem()
    optimizer = wrap(kind(problem.parameters, lr=1e-2))
    for _ in range(steps):
        step(optimizer, problem.backward)
    return problem.flat(), getattr(optimizer, "base", optimizer)


def visible(base: Optimizer, injection: Injection = INJECTIONS["update"]) -> PerturbedOptimizer:
    return PerturbedOptimizer(base, Perturbation(coordinates=AllEntries(), injection=injection))


@pytest.mark.parametrize("form", FORMS)
def test_the_base_is_called_in_the_form_of_the_caller_and_perturbed(form: str) -> None:
    kind, step = FORMS[form]
    _, bare = trained(kind, step, lambda base: base)
    perturbed, base = trained(kind, step, visible)
    assert base.got == bare.got
    plain, _ = trained(SGD, lambda o, c: o.step(c), visible)
    assert torch.equal(perturbed, plain)


def in_a_function(base: Optimizer) -> Any:
    step = base.step

    def mine(scale: Any = 1.0, closure: Any = None) -> Any:
        return step(scale, closure)  # type: ignore[call-arg,arg-type]

    return mine


def wrapping(step: Any) -> Any:
    """Wrap as a decorator does: the wrapper takes anything, and says by its names what."""
    return functools.wraps(step)(lambda *args, **kwargs: step(*args, **kwargs))


def as_a_method(base: Optimizer) -> Any:
    step = base.step
    mine = functools.wraps(step)(lambda self, *args, **kwargs: step(*args, **kwargs))
    return types.MethodType(mine, base)


def of_the_class(base: Optimizer) -> Any:
    """Wrap the function of the class and add the optimizer, as schedulers of torch do."""
    function = type(base).step
    return functools.wraps(function)(lambda *args: function(base, *args))


def told_nothing(base: Optimizer) -> Any:
    """Like compiled code, whose arguments cannot be read."""

    class Mute:
        def __init__(self, step: Any) -> None:
            self.step = step

        @property
        def __signature__(self) -> Any:
            raise ValueError("no signature found")

        def __call__(self, *args: Any) -> Any:
            return self.step(*args)

    return Mute(base.step)


IN_PLACE_OF_THE_STEP: dict[str, tuple[Any, Step]] = {
    "a function": (in_a_function, lambda o, c: o.step(2.0, c)),
    "a partial": (lambda o: functools.partial(o.step), lambda o, c: o.step(2.0, c)),
    "a partial with an argument": (
        lambda o: functools.partial(o.step, 2.0),
        lambda o, c: o.step(c),
    ),
    "a decorated method": (lambda o: wrapping(o.step), lambda o, c: o.step(2.0, c)),
    "a method around a method": (as_a_method, lambda o, c: o.step(2.0, c)),
    "around the class's function": (of_the_class, lambda o, c: o.step(2.0, c)),
    "a partial of that": (
        lambda o: functools.partial(of_the_class(o), 2.0),
        lambda o, c: o.step(c),
    ),
    "without a signature": (told_nothing, lambda o, c: o.step(2.0, c)),
}


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("way", IN_PLACE_OF_THE_STEP)
def test_the_closure_is_found_whatever_stands_in_place_of_the_step(
    way: str, injection: str
) -> None:
    replace, step = IN_PLACE_OF_THE_STEP[way]

    def wrap(base: Any) -> PerturbedOptimizer:
        base.step = replace(base)
        return visible(base, INJECTIONS[injection])

    perturbed, _ = trained(ScaleFirst, step, wrap)
    plain, _ = trained(SGD, lambda o, c: o.step(c), lambda o: visible(o, INJECTIONS[injection]))
    assert torch.equal(perturbed, plain)


@pytest.mark.filterwarnings("ignore")  # Dynamo warns of what it traces
def test_the_closure_is_found_where_the_step_is_compiled() -> None:
    def wrap(base: Any) -> PerturbedOptimizer:
        base.step = torch.compile(base.step, backend="eager")
        return visible(base)

    perturbed, _ = trained(ScaleFirst, lambda o, c: o.step(2.0, c), wrap)
    plain, _ = trained(SGD, lambda o, c: o.step(c), visible)
    torch.testing.assert_close(perturbed, plain, rtol=0, atol=1e-7)


def test_the_closure_is_found_where_a_scheduler_counts_the_steps_of_the_base() -> None:
    def wrap(base: Any) -> PerturbedOptimizer:
        torch.optim.lr_scheduler.StepLR(base, 100)
        return visible(base)

    perturbed, _ = trained(ScaleFirst, lambda o, c: o.step(2.0, c), wrap)
    plain, _ = trained(SGD, lambda o, c: o.step(c), visible)
    assert torch.equal(perturbed, plain)


@pytest.mark.parametrize("place", [(), (None,), (None, 5)])
def test_a_closure_of_none_is_passed_on_as_it_is(place: tuple[Any, ...]) -> None:
    problem = dense_problem()
    optimizer: Any = visible(ClosureFirst(problem.parameters, lr=1e-2))
    problem.backward()
    optimizer.step(*place)
    assert optimizer.got == ([False, False], {})
    assert optimizer.own_state.applied == 1


def test_a_function_that_is_no_closure_is_left_alone() -> None:
    problem = dense_problem()
    optimizer: Any = visible(CallableFirst(problem.parameters, lr=1e-2))
    problem.backward()
    optimizer.step(abs)
    assert optimizer.got == ([True], {"closure": False})
    assert optimizer.own_state.applied == 1


def test_a_wrong_call_fails_as_for_the_base_and_moves_nothing() -> None:
    problem = dense_problem()
    problem.backward()
    before = problem.flat()
    optimizer = visible(KeywordOnly(problem.parameters, lr=1e-2))
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        optimizer.step(problem.backward)
    assert torch.equal(problem.flat(), before)
    assert optimizer.own_state.steps == 0


def test_hooks_of_base_and_wrapper_see_the_call_as_it_was() -> None:
    problem = dense_problem()
    seen: list[Any] = []

    def note(optimizer: Any, args: Any, kwargs: Any) -> None:
        seen.append((args[0], len(args), sorted(kwargs)))

    optimizer = visible(SGD(problem.parameters, lr=1e-2))
    optimizer.register_step_pre_hook(note)
    optimizer.base.register_step_pre_hook(note)
    optimizer.step(closure=problem.backward)
    optimizer.step(problem.backward)
    owners = [optimizer, optimizer.base] * 2
    assert seen == [
        (owner, *form)
        for owner, form in zip(owners, [(1, ["closure"])] * 2 + [(2, [])] * 2, strict=True)
    ]


def test_a_closure_gets_what_the_base_passes_to_it() -> None:
    class Asking(SGD):
        def step(self, closure: Any = None) -> Any:
            loss = closure("again", times=2)
            super().step()
            return loss

    problem = dense_problem()
    optimizer = visible(Asking(problem.parameters, lr=1e-2))

    def closure(word: str, times: int) -> str:
        problem.backward()
        return word * times

    assert optimizer.step(closure) == "againagain"
    assert optimizer.own_state.applied == 1


class Deaf(SGD):
    """Written by hand; ignores its closure, as many do."""

    def step(self, closure: Any = None) -> Any:
        return super().step()


@pytest.mark.parametrize("injection", INJECTIONS)
def test_a_base_that_ignores_its_closure_is_perturbed_from_the_gradients_there(
    injection: str,
) -> None:
    def run(kind: type[Optimizer], closure: Any) -> Any:
        problem = dense_problem()
        optimizer = visible(kind(problem.parameters, lr=1e-2), INJECTIONS[injection])
        for _ in range(3):
            problem.backward()
            optimizer.step(closure) if closure else optimizer.step()
        assert optimizer.own_state.applied == 3
        return problem.flat()

    assert torch.equal(run(Deaf, lambda: None), run(SGD, None))


def test_a_base_that_ignores_its_closure_and_has_no_gradients_is_not_perturbed() -> None:
    problem = dense_problem()
    before = problem.flat()
    optimizer = visible(Deaf(problem.parameters, lr=1e-2))
    optimizer.step(problem.backward)
    assert torch.equal(problem.flat(), before)
    assert (optimizer.own_state.due, optimizer.own_state.applied) == (1, 0)


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("learning", [None, Learning(0.05)])
def test_stale_gradients_before_a_closure_leave_no_trace(
    injection: str, learning: Learning | None
) -> None:
    if learning is not None and not INJECTIONS[injection].can_be_learned:
        pytest.skip("cannot be learned")

    def run(stale: bool) -> Any:
        problem = dense_problem()
        parts = {"injection": INJECTIONS[injection], "learning": learning}
        perturbation = Perturbation(coordinates=AllEntries(), **parts)  # type: ignore[arg-type]
        optimizer = PerturbedOptimizer(SGD(problem.parameters, lr=1e-2), perturbation)
        if stale:
            for parameter in problem.parameters:
                parameter.grad = torch.full_like(parameter, 100.0)
        for _ in range(3):
            optimizer.step(problem.backward)
        return problem.flat(), optimizer.own_state

    (with_stale, state), (without, expected) = run(stale=True), run(stale=False)
    assert torch.equal(with_stale, without)
    assert (state.steps, state.applied) == (expected.steps, expected.applied)


def test_a_base_that_ignores_its_closure_later_on_warns_once_and_is_perturbed_then() -> None:
    class Fickle(SGD):
        deaf = False

        def step(self, closure: Any = None) -> Any:
            return super().step(None if self.deaf else closure)

    problem = dense_problem()
    optimizer: Any = visible(Fickle(problem.parameters, lr=1e-2))
    optimizer.step(problem.backward)
    optimizer.deaf = True
    problem.backward()
    with pytest.warns(UserWarning, match="Fickle did not evaluate its closure at this step"):
        optimizer.step(problem.backward)
    assert (optimizer.own_state.steps, optimizer.own_state.applied) == (2, 1)
    problem.backward()
    optimizer.step(problem.backward)
    optimizer.deaf = False
    optimizer.step(problem.backward)
    assert (optimizer.own_state.steps, optimizer.own_state.applied) == (4, 3)


@pytest.mark.parametrize("attribute", ["grad_scale", "found_inf"])
def test_gradients_that_the_base_would_unscale_itself_are_refused(attribute: str) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer: Any = visible(torch.optim.AdamW([parameter], fused=True))
    parameter.grad = torch.ones(3)
    setattr(optimizer, attribute, torch.tensor(1.0))
    with pytest.raises(RuntimeError, match=rf"step of scaled gradients: `{attribute}` is set.*Uns"):
        optimizer.step()
    assert parameter.tolist() == [1.0] * 3
    delattr(optimizer, attribute)
    optimizer.step()
    assert optimizer.own_state.applied == 1


def test_what_an_injection_keeps_is_kept_of_steps_that_were_taken_alone() -> None:
    class Counting(UpdateInjection):
        def coefficients(self, step: TouchedStep) -> Tensor:
            step.memory["count"] = step.memory.get("count", torch.zeros(())) + 1
            return super().coefficients(step)

    class Raising(SGD):
        broken = True

        def step(self, closure: Any = None) -> Any:
            closure()
            if self.broken:
                raise ValueError("a bug in the base")

    problem = dense_problem()
    optimizer: Any = visible(Raising(problem.parameters, lr=1e-2), Counting())
    problem.backward()
    with pytest.raises(ValueError, match="a bug in the base"):
        optimizer.step(problem.backward)
    assert optimizer.own_state.memory == {}
    optimizer.broken = False
    optimizer.step(problem.backward)
    assert optimizer.own_state.memory["count"] == 1


class Climbing(SGD):
    """Climbs along the gradient that is there, and evaluates its closure only then."""

    in_place = True

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        moving = self.param_groups[0]["params"]
        kept = [parameter.detach().clone() for parameter in moving]
        for parameter in moving:
            climbed = parameter.data + 0.1 * (1 if parameter.grad is None else parameter.grad)
            if self.in_place:
                parameter.data.copy_(climbed)
            else:
                parameter.data = climbed
        with torch.enable_grad():
            loss = closure()
        for parameter, value in zip(moving, kept, strict=True):
            parameter.copy_(value)
        super().step()
        return loss


class ClimbingElsewhere(Climbing):
    in_place = False


@pytest.mark.parametrize("coordinates", [AllEntries(), RandomEntries(), LargestGradient()])
@pytest.mark.parametrize("kind", [Climbing, ClimbingElsewhere])
def test_theta_is_where_the_step_was_called_though_the_base_climbs_first(
    kind: type[SGD], coordinates: Coordinates
) -> None:
    problem, seen = dense_problem(), []

    class Watching(RelativeInjection):
        def coefficients(self, step: TouchedStep) -> Tensor:
            seen.append(step.base_step)
            return super().coefficients(step)

    perturbation = Perturbation(coordinates=coordinates, injection=Watching(), strength=1e-9)
    optimizer = PerturbedOptimizer(kind(problem.parameters, lr=1e-3), perturbation)
    optimizer.measure_model_every = 1
    for _ in range(3):
        for parameter in problem.parameters:
            parameter.grad = None
        before = problem.flat()
        optimizer.step(problem.backward)
        step = problem.flat() - before
        if isinstance(coordinates, AllEntries):
            torch.testing.assert_close(seen[-1], step, rtol=0, atol=1e-8)
        assert seen[-1].abs().max() <= step.abs().max() + 1e-8
        assert optimizer.report is not None
        whole = float(optimizer.report.base_sum or 0)
        assert whole == pytest.approx(float(step.square().sum()), rel=1e-4)

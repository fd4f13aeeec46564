"""Steps past the wrapper are seen, and so are parameters that moved."""

import gc
import pickle
import warnings
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from lightning_qsgd.optimizers import SAM, PerturbedOptimizer
from lightning_qsgd.optimizers.motion import fingerprint, moved
from lightning_qsgd.perturbations import AllEntries, GradientInjection, Perturbation
from tests.cases import dense_problem


class Holder(Optimizer):
    """Holds an inner optimizer where a test wants it."""

    def __init__(self, params: Any, place: str = "attribute") -> None:
        params = list(params)
        super().__init__(params, {"lr": 1e-2})
        inner = SGD(params, lr=1e-2)
        self.inner: Any = {"attribute": inner, "list": [inner], "dict": {"one": inner}}[place]
        self.own = inner

    def step(self, closure: Any = None) -> Any:
        return self.own.step(closure)

    def second_step(self) -> None:
        self.own.step()


def wrapped(base: Optimizer) -> Any:
    return PerturbedOptimizer(base, Perturbation(strength=0.5))


def test_own_steps_are_no_motion_past_the_wrapper() -> None:
    problem = dense_problem()
    for base in (SGD(problem.parameters), SAM(problem.parameters), Holder(problem.parameters)):
        optimizer = wrapped(base)
        optimizer.step(problem.backward)
        assert optimizer._motion.past == 0


@pytest.mark.parametrize("place", ["attribute", "list", "dict"])
def test_steps_past_the_wrapper_are_counted_and_warned_of_once(place: str) -> None:
    problem = dense_problem()
    optimizer = wrapped(Holder(problem.parameters, place))
    problem.backward()
    optimizer.base.step()
    assert optimizer._motion.past == 2  # the base and the optimizer inside it
    optimizer.second_step()
    assert (optimizer._motion.past, optimizer._motion.last) == (3, "SGD")
    with pytest.warns(UserWarning, match="SGD took a step past the wrapper.*Call `step` of the"):
        optimizer.step()
    optimizer.second_step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()


class Partner(SGD):
    """Knows the other side of a GAN, whose parameters it does not hold."""

    def __init__(self, params: Any, partner: Optimizer) -> None:
        self.partner = partner
        super().__init__(params, lr=1e-2)


def test_steps_of_an_optimizer_of_other_parameters_are_not_past_the_wrapper() -> None:
    problem, other = dense_problem(), dense_problem()
    bare = SGD(other.parameters, lr=1e-2)
    optimizer = wrapped(Partner(problem.parameters, bare))
    for _ in range(3):  # a step past the wrapper would be warned of
        problem.backward()
        other.backward()
        bare.step()
        optimizer.step()
    assert (optimizer.steps_past, optimizer.own_state.applied) == (0, 3)
    optimizer.base.step()
    assert (optimizer.steps_past, optimizer._motion.last) == (1, "Partner")


def test_a_base_whose_parameters_come_later_is_watched() -> None:
    problem = dense_problem()
    base = SGD([{"params": []}], lr=1e-2)
    optimizer = wrapped(base)
    optimizer.add_param_group({"params": problem.parameters})
    base.step()
    assert optimizer.steps_past == 1


@pytest.mark.parametrize("again", [deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_watched_apart(again: Any) -> None:
    problem = dense_problem()
    optimizer = wrapped(SGD(problem.parameters, lr=1e-2))
    twin = again(optimizer)
    optimizer.base.step()
    assert (optimizer._motion.past, twin._motion.past) == (1, 0)
    twin.base.step()
    assert (optimizer._motion.past, twin._motion.past) == (1, 1)


def test_a_base_that_pickles_all_it_has_can_be_copied() -> None:
    class Whole(SGD):
        def __getstate__(self) -> dict[str, Any]:
            return dict(vars(self))

    twin = deepcopy(wrapped(Whole(dense_problem().parameters, lr=1e-2)))
    twin.base.step()
    assert twin._motion.past == 1


def test_a_wrapper_that_is_gone_leaves_no_hook_on_its_base() -> None:
    base = SGD(dense_problem().parameters, lr=1e-2)
    optimizer = wrapped(base)
    assert len(base._optimizer_step_post_hooks) == 1
    del optimizer
    gc.collect()
    assert len(base._optimizer_step_post_hooks) == 0


def test_fingerprints_see_any_motion_of_what_is_trained() -> None:
    trained = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.full((2,), torch.nan))]
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    lazy = nn.LazyLinear(2).weight
    parameters = [*trained, frozen, nn.Parameter(torch.ones(2, dtype=torch.cfloat)), lazy]
    before = fingerprint(parameters)
    assert not moved(before, fingerprint(parameters))
    frozen.data.add_(1.0)
    assert not moved(before, fingerprint(parameters))
    trained[0].data[1] += 1e-7
    assert moved(before, fingerprint(parameters)) == {id(trained[0])}
    assert not moved(before, fingerprint(trained[1:]))


class Kept(SGD):
    """Keeps a tensor per parameter; `update` says what it does with it."""

    def __init__(self, params: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(params, lr=0.1)
        self.dtype, self.count = dtype, 0
        self.copies: list[torch.Tensor] = []

    def copy_of(self, parameter: torch.Tensor) -> torch.Tensor:
        state = self.state[parameter]
        return state.setdefault("kept", parameter.detach().to(self.dtype, copy=True))  # type: ignore[no-any-return]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.count += 1
        for parameter in self.param_groups[0]["params"]:
            self.update(parameter, self.copy_of(parameter), parameter.grad.to(self.dtype))
        return loss

    def update(self, parameter: torch.Tensor, kept: torch.Tensor, grad: torch.Tensor) -> None:
        """Write a parameter from its master."""
        parameter.copy_(kept.sub_(grad, alpha=0.1))


class InAList(Kept):
    """Keeps its masters beside its state."""

    def copy_of(self, parameter: torch.Tensor) -> torch.Tensor:
        own = self.param_groups[0]["params"]
        if not self.copies:
            self.copies = [each.detach().to(self.dtype, copy=True) for each in own]
        return self.copies[[each is parameter for each in own].index(True)]


class Averaging(Kept):
    """Its average equals the parameter at the first step."""

    def update(self, parameter: torch.Tensor, kept: torch.Tensor, grad: torch.Tensor) -> None:
        parameter.sub_(grad.to(parameter), alpha=0.1)
        kept.lerp_(parameter.to(kept), 1 / self.count)


class LookingAhead(Kept):
    """At each second step the parameters are set to the slow weights."""

    def update(self, parameter: torch.Tensor, kept: torch.Tensor, grad: torch.Tensor) -> None:
        parameter.sub_(grad.to(parameter), alpha=0.1)
        if self.count % 2 == 0:
            parameter.copy_(kept.lerp_(parameter.to(kept), 0.5))


class FromTheStart(Kept):
    """Keeps where the training started, which stays 0 for parameters that do not move."""

    def update(self, parameter: torch.Tensor, kept: torch.Tensor, grad: torch.Tensor) -> None:
        parameter.sub_(grad.to(parameter), alpha=0.1)


class KeepsOddThings(FromTheStart):
    """Keeps tensors that are no dense copies, and refers to itself."""

    def update(self, parameter: torch.Tensor, kept: torch.Tensor, grad: torch.Tensor) -> None:
        super().update(parameter, kept, grad)
        odd = (grad.to_sparse(), parameter.view(2, 2), parameter.round().int(), None, self)
        self.state[parameter]["odd"] = [odd]
        self.state["whole"] = {"itself": self.state}


class ScheduleFree(Kept):
    """Takes gradients between its average and z, both of which equal the parameter at first."""

    def update(self, parameter: torch.Tensor, kept: torch.Tensor, grad: torch.Tensor) -> None:
        average = (parameter - 0.1 * kept) / 0.9
        kept.sub_(grad, alpha=0.1)
        average.lerp_(kept.to(average), 1 / self.count)
        parameter.copy_(average.lerp(kept.to(average), 0.1))


def trained_on_ramps(
    base: Any, dtype: torch.dtype, injection: Any = None, strength: float = 0.5
) -> tuple[Any, list[str]]:
    """Train on losses whose gradients do not depend on where the parameters are."""
    generator = torch.Generator().manual_seed(0)
    moving = nn.Parameter((torch.randn(4, generator=generator) + 1).to(dtype))
    idle = nn.Parameter(torch.zeros(4, dtype=dtype))
    given = {} if injection is None else {"injection": injection}
    perturbation = Perturbation(coordinates=AllEntries(), strength=strength, **given)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer = PerturbedOptimizer(base([moving, idle]), perturbation)
        for slope in torch.randn(8, 4, generator=generator).to(dtype):

            def closure(slope: torch.Tensor = slope) -> torch.Tensor:
                optimizer.zero_grad()
                loss = (moving * slope).sum() + (idle * 0).sum()
                loss.backward()
                return loss

            optimizer.step(closure)
        assert optimizer.own_state.steps == 8
    told = [str(w.message) for w in caught if "copies that it keeps" in str(w.message)]
    return optimizer, told


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("base", [Kept, InAList])
def test_a_base_that_writes_parameters_from_its_own_copies_is_warned_of_once(
    base: Any, dtype: torch.dtype
) -> None:
    def master(optimizer: Any) -> torch.Tensor:
        copy: torch.Tensor = optimizer.copy_of(optimizer.param_groups[0]["params"][0])
        return copy

    perturbed, told = trained_on_ramps(base, dtype)
    assert len(told) == 1
    assert told[0].startswith(f"{base.__name__} seems to write its parameters from copies that it")
    assert "Use GradientInjection" in told[0]
    bare, told = trained_on_ramps(base, dtype, strength=0.0)
    assert told == []
    assert torch.equal(master(perturbed), master(bare))  # what the warning says
    in_gradient, told = trained_on_ramps(base, dtype, GradientInjection())
    assert told == []
    assert (master(in_gradient) - master(bare)).abs().min() > 1e-3  # what its remedy says


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "base",
    [
        Averaging,
        LookingAhead,
        FromTheStart,
        KeepsOddThings,
        ScheduleFree,
        SAM,
        lambda p: torch.optim.ASGD(p, lr=0.1),  # notes where each step ended, too
        lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    ],
)
def test_a_tensor_that_equals_the_parameters_for_other_reasons_is_no_copy(
    base: Any, dtype: torch.dtype
) -> None:
    assert trained_on_ramps(base, dtype)[1] == []

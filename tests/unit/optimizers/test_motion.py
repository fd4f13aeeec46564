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
from lightning_qsgd.perturbations import Perturbation
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

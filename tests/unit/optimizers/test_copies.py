"""Copies and pickles keep working and go their own way."""

import io
import pickle
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import (
    ConfiguredPerturbedOptimizer,
    PerturbedOptimizer,
    SuperpositionalAdam,
)
from lightning_qsgd.perturbations import Perturbation, RandomEntries

COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": deepcopy,
    "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),
}


def trained(steps: int = 2) -> tuple[nn.Module, PerturbedOptimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    perturbation = Perturbation(
        backend=SamplerBackend(SuperpositionCircuit(2), sampling=10), coordinates=RandomEntries()
    )
    optimizer = PerturbedOptimizer(torch.optim.AdamW(model.parameters(), lr=1e-2), perturbation)
    train(model, optimizer, steps)
    return model, optimizer


def train(model: nn.Module, optimizer: Any, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).clone()


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("steps", [0, 2])
def test_copies_continue_like_the_original_and_stay_independent(copy: str, steps: int) -> None:
    model, optimizer = trained(steps)
    twin_model, twin = COPIES[copy]((model, optimizer))
    assert type(twin) is type(optimizer)
    assert twin.perturbation == optimizer.perturbation
    assert twin.own_state == optimizer.own_state
    before = flat(model)
    train(twin_model, twin, 3)
    assert torch.equal(flat(model), before)
    assert optimizer.own_state.steps == steps
    train(model, optimizer, 3)
    assert torch.equal(flat(model), flat(twin_model))
    assert twin.own_state == optimizer.own_state


@pytest.mark.parametrize("copy", COPIES)
def test_copies_keep_their_class_and_their_measuring_intervals(copy: str) -> None:
    parameter = nn.Parameter(torch.ones(3))
    for optimizer in (SuperpositionalAdam([parameter]), ConfiguredPerturbedOptimizer([parameter])):
        optimizer.measure_every = 3
        optimizer.measure_model_every = 6
        twin = COPIES[copy](optimizer)
        assert type(twin) is type(optimizer)
        assert (twin.measure_every, twin.measure_model_every) == (3, 6)
        assert twin.base is not optimizer.base


def test_a_base_with_its_own_deepcopy_stays_wrapped_in_the_copy() -> None:
    class Copyable(torch.optim.SGD):
        def __deepcopy__(self, memo: dict[int, Any]) -> "Copyable":
            return Copyable(deepcopy(self.param_groups, memo))

    optimizer = PerturbedOptimizer(Copyable([nn.Parameter(torch.ones(3))], lr=0.1))
    assert type(deepcopy(optimizer)) is type(optimizer)


def test_an_optimizer_can_be_saved_whole() -> None:
    _, optimizer = trained()
    buffer = io.BytesIO()
    torch.save(optimizer, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    assert loaded.own_state == optimizer.own_state


def test_a_state_that_is_set_from_outside_reaches_the_base() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = PerturbedOptimizer(torch.optim.Adam([parameter], lr=0.1))
    parameter.grad = torch.ones(2)
    optimizer.step()
    optimizer.__setstate__({"state": defaultdict(dict)})
    assert not optimizer.state
    assert not optimizer.base.state
    assert optimizer.own_state.steps == 1

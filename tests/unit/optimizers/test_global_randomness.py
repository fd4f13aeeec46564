"""Strength 0 is the base bit for bit, and no strength touches a global generator."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_qsgd.backends import ExactSampling, SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation, RandomEntries, Strength
from tests.cases import INJECTIONS


def states() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), kind, np.asarray(keys).tolist(), rest


def train(wrap: Perturbation | None, steps: int = 5) -> tuple[torch.Tensor, tuple[Any, ...]]:
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=1e-2)
    if wrap is not None:
        optimizer = PerturbedOptimizer(optimizer, wrap)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().sum().backward()
        optimizer.step()
    return torch.cat([p.detach().view(-1) for p in model.parameters()]), states()


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize(
    "strength", [0.0, Strength(0.5, start_step=99), Strength(0.0, warmup_steps=2)], ids=str
)
def test_strength_zero_is_bit_equal_to_a_run_without_the_package(
    strength: float | Strength, injection: str
) -> None:
    perturbation = Perturbation(
        backend=SamplerBackend(SuperpositionCircuit(2), sampling=5),
        strength=strength,
        injection=INJECTIONS[injection],
    )
    plain, wrapped = train(None), train(perturbation)
    assert torch.equal(plain[0], wrapped[0])
    assert plain[1] == wrapped[1]


@pytest.mark.parametrize("sampling", [ExactSampling(), 20])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_positive_strength_leaves_every_global_generator_alone(
    injection: str, sampling: Any
) -> None:
    perturbation = Perturbation(
        backend=SamplerBackend(SuperpositionCircuit(2), sampling=sampling, weight_seed=1),
        coordinates=RandomEntries(),
        injection=INJECTIONS[injection],
    )
    plain, wrapped = train(None), train(perturbation)
    assert not torch.equal(plain[0], wrapped[0])
    assert plain[1] == wrapped[1]


def test_steps_of_strength_zero_are_counted_as_steps_only() -> None:
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    perturbation = Perturbation(strength=Strength(0.5, every=2))
    optimizer = PerturbedOptimizer(torch.optim.SGD([parameter], lr=0.1), perturbation)
    for _ in range(5):
        optimizer.step()
    state = optimizer.own_state
    assert (state.steps, state.due, state.applied) == (5, 3, 3)


def test_the_same_seed_draws_the_same_run_and_another_seed_another() -> None:
    def run(seed: int) -> torch.Tensor:
        backend = SamplerBackend(SuperpositionCircuit(2), sampling=10)
        return train(Perturbation(backend=backend, coordinates=RandomEntries(), seed=seed))[0]

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))

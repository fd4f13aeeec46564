"""Strength 0 is a run without the package: the same weights and the same random numbers."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_qsgd.backends import ExactSampling, SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    GradientInjection,
    Perturbation,
    RandomEntries,
    RelativeInjection,
    Strength,
)
from lightning_qsgd.training import PerturbationCallback, RandomStateCallback
from tests.integration.modules import Finished, Perturbed, adamw, fit, sgd

OFF = {
    "closed form": Perturbation(strength=0.0),
    "shots": Perturbation(
        SamplerBackend(SuperpositionCircuit(2), sampling=8), AllEntries(), strength=0.0
    ),
    "random entries": Perturbation(coordinates=RandomEntries(), strength=0.0),
    "gradient": Perturbation(strength=0.0, injection=GradientInjection()),
    "relative": Perturbation(strength=0.0, injection=RelativeInjection()),
    "not yet started": Perturbation(strength=Strength(0.5, start_step=10**6)),
}
FRONT_ENDS: dict[str, Callable[[Perturbation, Any], tuple[nn.Module, list[Any]]]] = {
    "mixin": lambda p, make: (Perturbed(perturbation=p, make=make, dropout=0.5), []),
    "callback": lambda p, make: (Finished(make, dropout=0.5), [PerturbationCallback(p)]),
    "optimizer": lambda p, make: (
        Finished(lambda ps: PerturbedOptimizer(make(ps), p), dropout=0.5),
        [],
    ),
}


def seed_all() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator is meant
    random.seed(1)


def drawn() -> tuple[float, float, float]:
    """The next number of each global generator: equal if the states are."""
    return torch.rand(()).item(), float(np.random.rand()), random.random()  # noqa: NPY002


def train(module: Any, callbacks: list[Any]) -> tuple[Tensor, tuple[float, float, float]]:
    seed_all()
    trained = fit(module, *callbacks, max_epochs=2)
    return trained, drawn()


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("perturbation", OFF.values(), ids=OFF)
@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_strength_zero_equals_a_run_without_the_package(
    front_end: Any, perturbation: Perturbation, make: Any
) -> None:
    bare, bare_drawn = train(Finished(make, dropout=0.5), [])
    off, off_drawn = train(*front_end(perturbation, make))
    assert torch.equal(off, bare)
    assert off_drawn == bare_drawn


@pytest.mark.parametrize("sampling", [ExactSampling(), 8])
def test_a_perturbed_run_draws_nothing_from_the_global_generators(sampling: Any) -> None:
    perturbation = Perturbation(
        SamplerBackend(SuperpositionCircuit(2), sampling=sampling), RandomEntries()
    )
    callbacks = [PerturbationCallback(perturbation), RandomStateCallback()]
    _, perturbed_drawn = train(Finished(dropout=0.5), callbacks)
    assert perturbed_drawn == train(Finished(dropout=0.5), [])[1]

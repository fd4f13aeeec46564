"""Wrapping what `configure_optimizers` returns, without a trainer."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training.wrapping import (
    describe_optimizers,
    follows_schedule,
    has_parts,
    perturb,
    perturb_configured,
    refuse_conflict,
    schedules_of,
)

PERTURBATION = Perturbation(strength=0.25)


def sgd() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], lr=0.1)


def test_structure_is_kept_and_each_optimizer_wrapped() -> None:
    one, two = sgd(), sgd()
    configured = [{"optimizer": one, "frequency": 2}, {"optimizer": two}]
    result = perturb_configured(configured, PERTURBATION)
    assert all(isinstance(entry["optimizer"], PerturbedOptimizer) for entry in result)
    assert [entry["optimizer"].base for entry in result] == [one, two]
    assert result[0]["frequency"] == 2
    assert configured[0]["optimizer"] is one


@pytest.mark.parametrize("make", [lambda o: StepLR(o, 1), ReduceLROnPlateau])
def test_scheduler_is_pointed_to_the_wrapper(make) -> None:
    optimizer = sgd()
    scheduler = make(optimizer)
    (wrapped,), (same,) = perturb_configured(([optimizer], [scheduler]), PERTURBATION)
    assert same is scheduler
    assert scheduler.optimizer is wrapped


def test_scheduler_of_another_optimizer_is_left_alone() -> None:
    other = sgd()
    scheduler = StepLR(other, 1)
    perturb_configured({"optimizer": sgd(), "lr_scheduler": scheduler}, PERTURBATION)
    assert scheduler.optimizer is other


def test_an_optimizer_with_the_same_perturbation_is_returned_as_it_is() -> None:
    wrapped = PerturbedOptimizer(sgd(), PERTURBATION)
    assert perturb(wrapped, Perturbation(strength=0.25)) is wrapped


def test_lightnings_own_wrapper_is_looked_through() -> None:
    wrapped = PerturbedOptimizer(sgd(), PERTURBATION)
    assert perturb(LightningOptimizer(wrapped), PERTURBATION) is wrapped


def test_an_optimizer_with_another_perturbation_is_refused() -> None:
    wrapped = PerturbedOptimizer(sgd(), PERTURBATION)
    with pytest.raises(ValueError, match=r"strength=0.25.*strength=0.5.*Configure it in one place"):
        perturb(wrapped, Perturbation())


def test_equal_perturbations_are_no_conflict() -> None:
    refuse_conflict(Perturbation(), Perturbation())


@pytest.mark.parametrize("nothing", [None, [], (), {}, 3, "adam"])
def test_what_holds_no_optimizer_is_returned_unchanged(nothing) -> None:
    assert perturb_configured(nothing, PERTURBATION) == nothing


@pytest.mark.parametrize(
    ("decays", "words"),
    [
        ((0.1, 0.1), "SGD (lr 0.1, weight decay 0.1), no schedule"),
        ((0.1, 0.0), "SGD (lr 0.1, weight decay 0.1, 0), 2 groups, no schedule"),
    ],
)
def test_groups_that_differ_are_named(decays: tuple[float, float], words: str) -> None:
    layer = torch.nn.Linear(2, 2)
    groups = [
        {"params": [p], "weight_decay": d} for p, d in zip(layer.parameters(), decays, strict=True)
    ]
    trainer: Any = SimpleNamespace(
        optimizers=[torch.optim.SGD(groups, lr=0.1)], lr_scheduler_configs=[]
    )
    assert describe_optimizers(trainer) == words
    assert has_parts(words) == (decays[0] != decays[1])
    assert not follows_schedule(words)


def test_a_schedule_of_one_of_several_optimizers_is_one() -> None:
    words = "SGD (lr 0.1), no schedule; Adam (lr 0.1), StepLR"
    assert follows_schedule(words)
    assert has_parts(words)
    assert not follows_schedule("")


@pytest.mark.parametrize(
    ("pace", "is_automatic", "words"),
    [
        ({}, True, "StepLR"),
        ({"interval": "step"}, True, "StepLR every step"),
        ({"frequency": 3}, True, "StepLR every 3 epochs"),
        ({"interval": "step", "frequency": 2}, True, "StepLR every 2 steps"),
        ({"interval": "step"}, False, "StepLR by hand"),
    ],
)
def test_schedules_say_how_often_they_step(pace: Any, is_automatic: bool, words: str) -> None:
    optimizer = sgd()
    trainer: Any = SimpleNamespace(
        optimizers=[PerturbedOptimizer(optimizer, PERTURBATION)],
        lr_scheduler_configs=[LRSchedulerConfig(StepLR(optimizer, 1), **pace)],
        lightning_module=SimpleNamespace(automatic_optimization=is_automatic),
    )
    assert describe_optimizers(trainer) == f"SGD (lr 0.1, weight decay 0), {words}"
    assert schedules_of(describe_optimizers(trainer)) == {words}


def test_all_schedules_of_one_optimizer_are_named() -> None:
    optimizer = sgd()
    configs = [LRSchedulerConfig(StepLR(optimizer, 1), interval="step")]
    configs += [LRSchedulerConfig(ReduceLROnPlateau(optimizer))]
    trainer: Any = SimpleNamespace(
        optimizers=[optimizer],
        lr_scheduler_configs=configs,
        lightning_module=SimpleNamespace(automatic_optimization=True),
    )
    described = describe_optimizers(trainer)
    assert described.endswith("), StepLR every step + ReduceLROnPlateau")
    assert follows_schedule(described)
    assert not has_parts(described)

"""The configuration of a baseline and how its record is found again."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningCLI

from lightning_qsgd.cli.baseline import (
    Baseline,
    Unperturbed,
    baseline_config,
    find_recorded,
    words_for_replaced,
)
from lightning_qsgd.compare.planning.job import what_determines
from lightning_qsgd.nn import MLP
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import Learning, Perturbation
from lightning_qsgd.training import Classifier
from lightning_qsgd.training.recorded_run import RecordedRun, fingerprint, save_run


def config(optimizer: Any) -> dict[str, Any]:
    return {
        "optimizer": optimizer,
        "perturbation": {"strength": 0.5},
        "baseline": {"lr": None, "weight_decay": None, "reuse": True},
        "run": {"root": "runs", "experiment": "e", "arm": "mine", "name": "n"},
        "ckpt_path": "x.ckpt",
    }


def sgd(**arguments: float) -> dict[str, Any]:
    return {"class_path": "torch.optim.SGD", "init_args": arguments}


@pytest.mark.parametrize(
    ("optimizer", "asked", "expected"),
    [
        (None, {}, (1e-3, 0.01)),
        (sgd(lr=0.5), {}, (0.5, 0.01)),
        (sgd(lr=0.5, weight_decay=0.2), {}, (0.5, 0.2)),
        (sgd(lr=0.5, weight_decay=0.2), {"lr": 0.1}, (0.1, 0.2)),
        (sgd(lr=0.5, weight_decay=0.2), {"lr": 0.0, "weight_decay": 0.0}, (0.0, 0.0)),
    ],
)
def test_baseline_is_adamw_with_the_arms_rates_or_those_asked_for(
    optimizer: Any, asked: dict[str, float], expected: tuple[float, float]
) -> None:
    changed = baseline_config(config(optimizer), Baseline("adamw", **asked))
    arguments = changed["optimizer"]["init_args"]
    assert changed["optimizer"]["class_path"] == "torch.optim.AdamW"
    assert (arguments["lr"], arguments["weight_decay"]) == expected
    assert changed["perturbation"] is changed["baseline"] is changed["ckpt_path"] is None
    assert (changed["run"]["arm"], changed["run"]["name"]) == ("adamw", None)


def test_arm_that_perturbs_adamw_hands_on_its_other_arguments() -> None:
    own = {"lr": 0.5, "weight_decay": 0.1, "betas": [0.5, 0.9]}
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": own}
    arguments = baseline_config(config(optimizer), Baseline(lr=0.2))["optimizer"]["init_args"]
    assert arguments == {"lr": 0.2, "weight_decay": 0.1, "betas": [0.5, 0.9]}


def test_own_baseline_keeps_the_arms_optimizer() -> None:
    changed = baseline_config(config(sgd(lr=0.5)), Baseline("own"))
    assert changed["optimizer"] == sgd(lr=0.5)
    assert changed["perturbation"] is None
    assert changed["run"]["arm"] == "own"


def test_own_baseline_switches_off_the_very_optimizer_that_a_module_may_hold() -> None:
    theta, hooked = torch.nn.Parameter(torch.full((4,), 0.5)), []
    asked = Perturbation(strength=0.5, learning=Learning(strength_rate=0.1))
    optimizer = PerturbedOptimizer(torch.optim.SGD([theta], lr=0.1), asked)
    optimizer.register_step_post_hook(lambda *_: hooked.append(1))
    trainer: Any = SimpleNamespace(optimizers=[optimizer])
    Unperturbed().on_fit_start(trainer, LightningModule())
    theta.grad = torch.ones(4)
    optimizer.step()
    assert torch.equal(theta.detach(), torch.full((4,), 0.4))
    assert hooked == [1]
    assert optimizer.perturbation == replace(asked, strength=0.0, learning=None)
    assert (optimizer.own_state.due, optimizer.own_state.learned) == (0, None)


def test_own_baseline_takes_no_rates() -> None:
    with pytest.raises(ValueError, match=r"no `baseline\.lr` with `baseline\.optimizer: own`"):
        Baseline("own", lr=0.1)


def test_configuration_of_the_arm_is_not_changed() -> None:
    arm = config(sgd(lr=0.5))
    before = deepcopy(arm)
    baseline_config(arm, Baseline("adamw", lr=0.1))
    assert arm == before


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_a_number_that_adamw_could_not_train_with_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"`baseline\.{name}` to be non-negative.*Leave it out"):
        Baseline(**{name: value})


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"run": {"root": "b"}}, True),
        ({"ckpt_path": "x"}, True),
        ({"trainer": {"logger": True, "max_epochs": 1}}, True),
        ({"trainer": {"max_epochs": 2}}, False),
        ({"seed_everything": 1}, False),
        ({"model": {"dropout": 0.1}}, False),
        ({"goal": {"metric": "val/acc", "higher_is_better": None}}, True),
        ({"goal": {"metric": "val/acc", "higher_is_better": False}}, False),
    ],
)
def test_fingerprint_is_of_what_determines_the_run(change: dict[str, Any], same: bool) -> None:
    plain = {"seed_everything": 0, "run": {"root": "a"}, "trainer": {"max_epochs": 1}}
    plain["goal"] = {"metric": "val/acc", "higher_is_better": True}  # as older versions wrote it
    ours, theirs = (what_determines(c) for c in (plain, {**plain, **change}))
    assert (fingerprint(ours) == fingerprint(theirs)) == same


def test_record_is_found_by_its_fingerprint_and_damaged_ones_are_passed_over(
    tmp_path: Path,
) -> None:
    for name, mark in (("seed0", "a"), ("seed0_2", "b"), ("seed1", "b")):
        (tmp_path / name).mkdir()
        save_run(RecordedRun(fingerprint=mark), tmp_path / name / "record.json")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "record.json").write_text("{")
    found = find_recorded(tmp_path, "b")
    assert found is not None
    assert found[0].name == "seed0_2"
    assert find_recorded(tmp_path, "c") is None
    assert find_recorded(tmp_path / "nowhere", "b") is None


class Scheduled(LightningModule):
    def configure_optimizers(self) -> Any:
        return None


@pytest.mark.parametrize(("kind", "is_said"), [(Scheduled, True), (Classifier, False)])
def test_fit_says_which_method_the_optimizer_of_a_config_replaces(
    kind: type[LightningModule], is_said: bool
) -> None:
    model = Classifier(MLP(in_features=2, num_classes=2), 2) if kind is Classifier else kind()
    assert words_for_replaced(model) == ""
    given = partial(LightningCLI.configure_optimizers, optimizer=None)
    model.configure_optimizers = MethodType(given, model)  # as LightningCLI does
    said = words_for_replaced(model)
    assert said.startswith("Scheduled.configure_optimizers is not called") == is_said
    assert bool(said) == is_said

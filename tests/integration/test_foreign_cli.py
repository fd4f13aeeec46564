"""A stranger's own LightningCLI, with this package named in the config only."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.cli import LightningCLI

from lightning_qsgd.cli import PerturbationCLI
from lightning_qsgd.data import DigitsDataModule
from lightning_qsgd.optimizers import ConfiguredPerturbedOptimizer, PerturbedOptimizer
from lightning_qsgd.training import Classifier, PerturbationCallback
from tests.integration.modules import PerturbedClassifier, is_wrapped, weights

BASE = """
seed_everything: 0
trainer:
  accelerator: cpu
  max_epochs: 1
  limit_train_batches: 4
  limit_val_batches: 1
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
model:
  network: {class_path: lightning_qsgd.nn.MLP}
"""
CALLBACK = """
trainer:
  callbacks:
    - class_path: lightning_qsgd.training.PerturbationCallback
      init_args: {perturbation: {strength: 0.5, coordinates: lightning_qsgd.AllEntries}}
"""
MIXIN = """
model:
  perturbation: {strength: 0.5, coordinates: lightning_qsgd.AllEntries}
"""
ADAMW = """
optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.001}}
"""
WRAPPED = """
optimizer:
  class_path: lightning_qsgd.optimizers.ConfiguredPerturbedOptimizer
  init_args:
    base: {class_path: torch.optim.AdamW, init_args: {lr: 0.001}}
    perturbation: {strength: 0.5, coordinates: lightning_qsgd.AllEntries}
"""
SCHEDULER = """
lr_scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 1}}
"""
PLATEAU = """
lr_scheduler:
  class_path: lightning.pytorch.cli.ReduceLROnPlateau
  init_args: {monitor: val/loss, patience: 0}
"""
MODELS = {"plain": Classifier, "mixin": PerturbedClassifier}
CONFIGS = {
    "callback": ("plain", [CALLBACK]),
    "callback and --optimizer": ("plain", [CALLBACK, ADAMW]),
    "callback, --optimizer and scheduler": ("plain", [CALLBACK, ADAMW, SCHEDULER]),
    "callback, --optimizer and plateau": ("plain", [CALLBACK, ADAMW, PLATEAU]),
    "wrapped --optimizer": ("plain", [WRAPPED]),
    "wrapped --optimizer and scheduler": ("plain", [WRAPPED, SCHEDULER]),
    "mixin": ("mixin", [MIXIN]),
    "mixin and --optimizer": ("mixin", [MIXIN, ADAMW]),
    "mixin, --optimizer and scheduler": ("mixin", [MIXIN, ADAMW, SCHEDULER]),
    "mixin, --optimizer and plateau": ("mixin", [MIXIN, ADAMW, PLATEAU]),
    "mixin and callback": ("mixin", [MIXIN, CALLBACK]),
    "mixin and wrapped --optimizer": ("mixin", [MIXIN, WRAPPED]),
}


class Stranger(LightningCLI):
    """Keeps the optimizers that were stepped, which a teardown would take away."""

    def before_fit(self) -> None:
        keep = self.trainer.strategy.optimizer_step

        def step(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            self.stepped = optimizer
            return keep(optimizer, *args, **kwargs)

        self.trainer.strategy.optimizer_step = step


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")
    monkeypatch.chdir(tmp_path)

    def run(model: str, parts: list[str], *more: str) -> Stranger:
        arguments = ["fit"]
        for number, part in enumerate([BASE, *parts]):
            (tmp_path / f"{number}.yaml").write_text(part)
            arguments += ["--config", str(tmp_path / f"{number}.yaml")]
        return Stranger(
            MODELS[model],
            DigitsDataModule,
            save_config_callback=None,
            args=[*arguments, *more],
        )

    return run


@pytest.mark.parametrize(("model", "parts"), CONFIGS.values(), ids=CONFIGS)
def test_every_step_is_perturbed_once(model: str, parts: list[str], fit: Any) -> None:
    cli = fit(model, parts)
    assert cli.trainer.global_step == 4
    assert isinstance(cli.stepped, PerturbedOptimizer)
    assert not is_wrapped(cli.stepped.base)
    assert cli.stepped.own_state.applied == 4
    expected = fit("plain", [CALLBACK])
    assert torch.equal(weights(cli.model), weights(expected.model))


def test_run_without_this_package_is_not_perturbed(fit: Any) -> None:
    bare, perturbed = fit("plain", []), fit("plain", [CALLBACK])
    assert not is_wrapped(bare.stepped)
    assert not torch.equal(weights(bare.model), weights(perturbed.model))


def test_base_of_the_wrapped_optimizer_takes_arguments_from_the_command_line(fit: Any) -> None:
    cli = fit("plain", [WRAPPED], "--optimizer.base=torch.optim.SGD", "--optimizer.base.lr=0.25")
    assert isinstance(cli.stepped, ConfiguredPerturbedOptimizer)
    assert type(cli.stepped.base) is torch.optim.SGD
    assert cli.stepped.param_groups[0]["lr"] == 0.25


def test_mixin_arguments_are_found_on_the_command_line(fit: Any) -> None:
    cli = fit("mixin", [MIXIN], "--model.perturbation.strength=0.125", "--model.learning_rate=0.5")
    assert cli.model.perturbation.strength == 0.125
    assert cli.model.learning_rate == 0.5


def test_callback_of_a_config_that_names_nothing_takes_the_papers_values(fit: Any) -> None:
    cli = fit("plain", [], "--trainer.callbacks+=lightning_qsgd.training.PerturbationCallback")
    (callback,) = [c for c in cli.trainer.callbacks if isinstance(c, PerturbationCallback)]
    assert callback.perturbation.strength == 0.5
    assert cli.stepped.own_state.applied == 4


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_command_line_keeps_what_it_says_of_other_commands(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the place of its checkpoints, which must be empty
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    (tmp_path / "usual.yaml").write_text(
        "trainer: {fast_dev_run: true, accelerator: cpu}\nmodel: {network: lightning_qsgd.nn.MLP}"
    )
    usual = {"default_config_files": [str(tmp_path / "usual.yaml")]}

    made = PerturbationCLI(
        MODELS["plain"],
        DigitsDataModule,
        parser_kwargs={"fit": usual, "validate": usual},
        args=kind(["fit"]),
    )

    assert made.config["fit"]["trainer"]["fast_dev_run"] is True
    assert set(made._subcommand_parsers) == {"fit"}

"""A run that kills its own process, and the run that goes on from what it left."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.data import CharactersDataModule, DigitsDataModule, SequencesDataModule
from lightning_qsgd.perturbations import Perturbation, RandomEntries
from lightning_qsgd.training import (
    Classifier,
    ConvergenceCallback,
    PerturbationCallback,
    RandomStateCallback,
    install_safe_checkpoints,
)
from tests.integration.modules import QUIET, weights

SHOTS = Perturbation(SamplerBackend(SuperpositionCircuit(2), sampling=16), RandomEntries(), seed=2)
TEXT = Path(__file__).parents[1] / "texts" / "harrow_point.txt"
DATA: dict[str, Any] = {
    "digits": lambda: DigitsDataModule(batch_size=64, order_seed=0),
    "sequences": lambda: SequencesDataModule(batch_size=32, order_seed=0),
    "characters": lambda: CharactersDataModule(str(TEXT), context=4, batch_size=64, order_seed=0),
    "workers": lambda: DigitsDataModule(batch_size=64, order_seed=0, num_workers=1),
}
SHAPES = {"digits": 64, "workers": 64, "sequences": 32, "characters": 4}
LIMIT = 8
LAST = "last.ckpt"


class Kill(Callback):
    """Kills the process without a warning at one batch, counted over the epochs."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        if trainer.current_epoch * LIMIT + index == self.batch:
            os.kill(os.getpid(), signal.SIGKILL)


class Floats(torch.nn.Sequential):
    """A perceptron with dropout over anything of a fixed number of entries."""

    def __init__(self, entries: int, classes: int) -> None:
        torch.manual_seed(3)
        super().__init__(
            torch.nn.Flatten(),
            torch.nn.Dropout(0.3),
            torch.nn.Linear(entries, 8),
            torch.nn.Tanh(),
            torch.nn.Linear(8, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = super().forward(x.float() / 100)
        return logits


def train(name: str, folder: Path, *more: Callback, ckpt: Path | None = None) -> dict[str, Any]:
    """Train two epochs of 8 batches with a checkpoint after each step; return what came out."""
    data = DATA[name]()
    module = Classifier(Floats(SHAPES[name], data.num_classes), num_classes=data.num_classes)
    record = ConvergenceCallback()
    every = {"every_n_train_steps": 1, "save_top_k": -1, "save_last": True}
    keep = ModelCheckpoint(folder, filename="{step}", **every)
    torch.manual_seed(5)
    trainer = Trainer(
        **{**QUIET, "enable_checkpointing": True},
        max_epochs=2,
        limit_train_batches=LIMIT,
        limit_val_batches=2,
        callbacks=[record, PerturbationCallback(SHOTS), RandomStateCallback(), *more, keep],
    )
    install_safe_checkpoints(trainer)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt)
    curves = record.run.curves.items()
    points = {tag: (curve.steps, curve.epochs, curve.values) for tag, curve in curves}
    return {"weights": weights(module), "points": points}


def be_killed(_: int, name: str, batch: int, folder: Path) -> None:
    """Train until the process is killed."""
    torch.set_num_threads(1)
    train(name, folder, Kill(batch))

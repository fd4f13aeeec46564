"""Modules whose runs fail, die, or are no pairs."""

import os
import signal
import time
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch import (
    Callback,
    LightningDataModule,
    LightningModule,
    Trainer,
    seed_everything,
)
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_qsgd.nn import MLP
from lightning_qsgd.training import Classifier


class Digits(Classifier):
    """A user's own module, which brings its own network and optimizer."""

    def __init__(self, learning_rate: float = 1e-2) -> None:
        super().__init__(MLP(in_features=64, num_classes=10), 10, learning_rate)


class FailsAtSeedOne(Digits):
    """Raises in one run of several."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if torch.initial_seed() == 1:
            raise ArithmeticError("the second seed is unlucky")
        return super().training_step(batch, batch_idx)


class DiesAtSeedOne(Digits):
    """Is killed in one run of several, as by a system without memory."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if torch.initial_seed() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, batch_idx)


class DrawsFromTheClock(Digits):
    """Starts from other weights whenever it is built."""

    def __init__(self, learning_rate: float = 1e-2) -> None:
        torch.manual_seed(time.time_ns() % 2**32)
        super().__init__(learning_rate)


class SeedsItself(Digits):
    """Sets a seed of its own, so that all seeds of a comparison train one run."""

    def __init__(self, learning_rate: float = 1e-2) -> None:
        seed_everything(42, verbose=False)
        super().__init__(learning_rate)


class Wider(Digits):
    """Has one hidden unit more: another network under the same names."""

    def __init__(self, learning_rate: float = 1e-2) -> None:
        super().__init__(learning_rate)
        self.network = MLP(in_features=64, num_classes=10, hidden=(65, 64))


class Renamed(Digits):
    """Has the same weights under another name, and what a renaming hides: nothing to compare."""

    def __init__(self, learning_rate: float = 1e-2) -> None:
        super().__init__(learning_rate)
        self.other, self.network = self.network, torch.nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.other(x)
        return logits


class Silent(Digits):
    """Logs no validation metric."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass


class Scheduled(Digits):
    """Its own optimizer follows a schedule of steps, and keeps its learning rate to itself."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.learning_rate)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Grouped(Digits):
    """Its own optimizer has another weight decay for biases."""

    def configure_optimizers(self) -> Any:
        weights = [p for p in self.parameters() if p.ndim > 1]
        biases = [p for p in self.parameters() if p.ndim < 2]
        groups = [{"params": weights}, {"params": biases, "weight_decay": 0.1}]
        return torch.optim.SGD(groups, lr=self.learning_rate)


class PlainOwn(Digits):
    """Its own optimizer is one without schedule and groups."""

    def __init__(self, learning_rate: float = 1e-2, decay: float = 1e-3) -> None:
        super().__init__(learning_rate)
        self.decay = decay

    def configure_optimizers(self) -> Any:
        rates = {"lr": self.learning_rate, "weight_decay": self.decay}
        return torch.optim.SGD(self.parameters(), **rates)


class WarmsUp(PlainOwn):
    """Sets the learning rate of whatever optimizer there is, as Lightning's page on it does."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = self.learning_rate, self.decay
        optimizer.step(closure=closure)


class DeafSGD(torch.optim.SGD):
    """Takes a learning rate and a weight decay, and trains with others."""

    def __init__(self, params: Any, lr: float = 0.01, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=0.01)


class Named(Digits):
    """Its own optimizer has two groups that differ in their names alone, for a monitor to show."""

    def configure_optimizers(self) -> Any:
        parameters = list(self.parameters())
        groups = [
            {"params": parameters[:1], "name": "first"},
            {"params": parameters[1:], "name": "others"},
        ]
        return torch.optim.SGD(groups, lr=self.learning_rate)


class Penalised(Digits):
    """Adds its weight decay to the loss, from an epoch on."""

    def __init__(self, decay: float = 0.1, since: int = 0) -> None:
        super().__init__(0.01)
        self.decay, self.since = decay, since

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        decay = self.decay if self.current_epoch >= self.since else 0.0
        penalty = sum(parameter.square().sum() for parameter in self.parameters())
        return super().training_step(batch, batch_idx) + decay * penalty


class EveryStep(Digits):
    """Its own schedule steps with every batch, around an optimizer that is an argument."""

    def __init__(self, optimizer: OptimizerCallable = torch.optim.SGD) -> None:
        super().__init__()
        self.make = optimizer

    def configure_optimizers(self) -> Any:
        optimizer = self.make(self.parameters())
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Made(Digits):
    """Its own optimizer is an argument, and has no schedule."""

    def __init__(self, optimizer: OptimizerCallable = torch.optim.SGD, rate: float = 0.01) -> None:
        super().__init__(rate)
        self.make = optimizer

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


class Lazy(Digits):
    """Learns the sizes of its layers from the first batch; one layer never sees any."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        layers = torch.nn.LazyLinear(width), torch.nn.LazyBatchNorm1d(), torch.nn.LazyLinear(10)
        self.network = torch.nn.Sequential(torch.nn.Flatten(), *layers)
        self.unused = torch.nn.LazyLinear(3)


class Accumulates(Callback):
    """Takes three batches per step, and says so to nobody."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.accumulate_grad_batches = 3


class Growing(LightningDataModule):
    """Begins with the same batches whatever it is told, and may go on with larger ones."""

    def __init__(self, late: int = 8) -> None:
        super().__init__()
        self.late = late
        generator = torch.Generator().manual_seed(0)
        pictures = torch.randn(96, 1, 8, 8, generator=generator)
        self.rows = TensorDataset(pictures, torch.arange(96) % 10)

    def train_dataloader(self) -> Any:
        ends = [*range(0, 72, 8), 72 + self.late]
        batches = [list(range(first, end)) for first, end in pairwise(ends)]
        return DataLoader(self.rows, batch_sampler=batches)

    def val_dataloader(self) -> Any:
        return DataLoader(self.rows, 32)

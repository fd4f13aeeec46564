"""Modules whose runs fail, die, or are no pairs."""

import os
import signal
import time
from typing import Any

import torch
from torch import Tensor

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

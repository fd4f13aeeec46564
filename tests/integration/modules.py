"""Tiny modules, data and runs that the integration tests share."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from lightning_qsgd.optimizers import SAM, ConfiguredPerturbedOptimizer, PerturbedOptimizer
from lightning_qsgd.perturbations import AllEntries, Perturbation, RandomEntries
from lightning_qsgd.training import Classifier, PerturbationMixin

BATCHES = 8
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
VISIBLE = Perturbation(coordinates=AllEntries(), strength=0.5)
"""Large enough to be seen beside SGD's own step at every entry."""

RANDOM = Perturbation(coordinates=RandomEntries(), strength=0.5, seed=3)

MakeOptimizer = Callable[[Any], Optimizer]


def sgd(parameters: Any) -> Optimizer:
    """The base optimizer of most runs: its steps are as large as the perturbation."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def adamw(parameters: Any) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-2)


def make_network(dropout: float = 0.0) -> nn.Sequential:
    """A network of 53 parameters, the same on every call."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 3))


def make_data(count: int = BATCHES, size: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(count * size, 4, generator=generator)
    return x, torch.randint(3, (count * size,), generator=generator)


def loader(count: int = BATCHES, size: int = 4) -> DataLoader[Any]:
    """Batches in a fixed order, without touching torch's global generator."""
    dataset = TensorDataset(*make_data(count, size))
    return DataLoader(dataset, batch_size=size, generator=torch.Generator().manual_seed(0))


class Finished(LightningModule):
    """A module that somebody else has written."""

    def __init__(self, make: MakeOptimizer = sgd, dropout: float = 0.0) -> None:
        super().__init__()
        self.network = make_network(dropout)
        self.make = make

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        x, y = batch
        loss = nn.functional.cross_entropy(self.network(x).float(), y)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        logits = self.network(x)
        self.log("val/loss", nn.functional.cross_entropy(logits.float(), y))
        self.log("val/accuracy", (logits.argmax(1) == y).float().mean())

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("test/loss", nn.functional.cross_entropy(self.network(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


class Perturbed(PerturbationMixin, Finished):
    """The mixin over a finished module."""


class PerturbedClassifier(PerturbationMixin, Classifier):
    """The mixin over the stock classifier, with all arguments left to its parents."""


class WrapsItself(Classifier):
    """Perturbs its own optimizer, in one of several ways; "" leaves it bare."""

    def __init__(self, network: nn.Module, way: str = "") -> None:
        super().__init__(network)
        self.way = way
        self.automatic_optimization = way != "by hand"

    def configure_optimizers(self) -> Any:
        make = partial(ConfiguredPerturbedOptimizer, base=adamw, perturbation=VISIBLE)
        if self.way.endswith("inside SAM"):
            return SAM(self.parameters(), make if self.way == "inside SAM" else adamw)
        return make(self.parameters()) if self.way else adamw(self.parameters())

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if not self.automatic_optimization:
            self.optimizers().zero_grad()
            self.manual_backward(loss)
            self.optimizers().step()
        return loss


class WrappedByTheMixin(PerturbationMixin, WrapsItself):
    """Has the mixin wrap what is made."""


class RateLess(Optimizer):
    """An optimizer whose groups have no `lr`."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})


class Broken(Classifier):
    """A model with a bug."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        raise ZeroDivisionError("a bug in the model")


class Probe(Callback):
    """Looks at the trainer's optimizers while it trains."""

    def __init__(self) -> None:
        self.optimizers: list[Any] = []
        self.scheduled: list[Any] = []
        self.lrs: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self.optimizers = list(trainer.strategy.optimizers)
        self.scheduled = [c.scheduler.optimizer for c in trainer.strategy.lr_scheduler_configs]
        groups = [group for o in self.optimizers for group in o.param_groups]
        self.lrs.extend(group["lr"] for group in groups)

    @property
    def applied(self) -> list[int]:
        """Perturbed steps of each optimizer; 0 for a bare one."""
        return [o.own_state.applied if is_wrapped(o) else 0 for o in self.optimizers]


def is_wrapped(optimizer: Any) -> bool:
    return isinstance(optimizer, PerturbedOptimizer)


def make_trainer(*callbacks: Callback, **settings: Any) -> Trainer:
    """A quiet trainer for one epoch on the CPU."""
    return Trainer(**{**QUIET, "max_epochs": 1, "callbacks": list(callbacks), **settings})


def fit(module: LightningModule, *callbacks: Callback, **settings: Any) -> Tensor:
    """Train for one epoch of `BATCHES` batches and return the weights."""
    make_trainer(*callbacks, **settings).fit(module, loader())
    return weights(module)


def weights(module: nn.Module) -> Tensor:
    """All parameters as one vector."""
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()]).clone()

"""Projects that ask the trainer how long a run will be, as schedules and callbacks do."""

from collections.abc import Iterator

import lightning as L
import torch
from lightning.pytorch.cli import LightningArgumentParser
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_qsgd.cli import PerturbationCLI
from tests.strangers.in_jobs import Plain, TwoByHand
from tests.strangers.projects import Points, points


class Asks(Plain):
    """Logs its learning rate, and what the trainer said when the schedule was made."""

    asked = 0.0

    def rate(self) -> float:
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.log_dict({"rate": self.rate(), "asked": float(self.asked)})


class Cosine(Asks):
    """Decays over the epochs of the trainer."""

    def configure_optimizers(self) -> object:
        self.asked = self.trainer.max_epochs
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.asked)]


class Line(Asks):
    """Decays to 0 over the steps of the trainer."""

    def configure_optimizers(self) -> object:
        self.asked = self.trainer.max_steps
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
        last = self.asked
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / last)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class OneCycle(Asks):
    """Has a schedule that refuses to go on past the steps of the trainer."""

    def configure_optimizers(self) -> object:
        self.asked = self.trainer.max_steps
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=self.asked)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Estimates(Asks):
    """Asks for the steps, and notes whether that has loaded the data."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.asked = self.trainer.estimated_stepping_batches
        self.has_loaded = self.trainer.train_dataloader is not None
        return torch.optim.SGD(self.parameters(), lr=0.05)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.log("loaded", float(self.has_loaded))


class Normed(Plain):
    """Has statistics that averaged weights need anew."""

    def __init__(self) -> None:
        super().__init__()
        self.net.insert(1, nn.BatchNorm1d(8))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class TooEarly(Asks):
    """Has its own data, and asks before they are there."""

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.asked = self.trainer.max_epochs
        self.rows = points(40, 1)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.rows, 8)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(points(24, 2), 8)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class LooksAfterSteps(TwoByHand):
    """Looks at the trainer's steps at the end of a batch, too."""

    def on_train_batch_end(self, *_: object) -> None:
        self.asked = max(self.asked, float(self.trainer.max_steps))


class AskedWhileLoading(Points):
    """Takes as many rows as the trainer will need."""

    def train_dataloader(self) -> DataLoader:
        wanted = self.trainer.max_epochs
        return DataLoader(points(40 if wanted == -1 else 8 * wanted, 1), 8)


class Rows(IterableDataset):
    """Rows whose number nobody tells."""

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return iter(points(40, 1))


class Stream(Points):
    """Trains on data without a length."""

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Rows(), 8)


class Told(Plain):
    """Is told its epochs by the command line."""

    def __init__(self, epochs: int = 7) -> None:
        super().__init__()
        self.epochs = epochs

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.log("asked", float(self.epochs))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Linking(PerturbationCLI):
    """Links the epochs of the model to those of the trainer."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("trainer.max_epochs", "model.epochs")


class Stops(L.Callback):
    """Ends training by lowering the number of epochs, after it has looked at it."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.max_epochs > 1:
            trainer.fit_loop.max_epochs = 1

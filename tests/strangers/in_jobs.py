"""Projects that train well by `fit` and meet others in a comparison: files, workers, loggers."""

import os
import time
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, default_collate

from tests.strangers.projects import Classifier, Points, points


class PerStep(Classifier):
    """Logs its metric per step as well as per epoch: loggers know it by other names then."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_nll", self.loss(batch), on_step=True, on_epoch=True)


class Hidden(Classifier):
    """Shows its metric in the progress bar, and to no logger."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_nll", self.loss(batch), logger=False, prog_bar=True)


class Plain(Classifier):
    """Logs its metric as most do."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_nll", self.loss(batch))


class RestoresBest(Plain):
    """Ends with the best weights that its checkpoint callback has written."""

    def on_train_end(self) -> None:
        best = self.trainer.checkpoint_callback.best_model_path
        self.load_state_dict(torch.load(best, weights_only=False)["state_dict"])


class Talks(Plain):
    """Uses what is behind its loggers in the ways that their libraries allow."""

    def on_train_start(self) -> None:
        first, second = self.loggers
        assert "best" not in first.experiment.summary
        assert os.path.join(second.experiment.log_dir, "x")
        for writer in first.experiment.all_writers.values():
            writer.flush()


class InWorkers(Points):
    """Reads its data in processes of its own, with a function that cannot be pickled."""

    def train_dataloader(self) -> DataLoader:
        return DataLoader(
            points(40, 1),
            8,
            shuffle=True,
            num_workers=2,
            persistent_workers=True,
            collate_fn=lambda rows: default_collate(rows),
        )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(points(24, 2), 8, num_workers=1)


class Downloads(Points):
    """Fetches a file unless it is there, and takes a while over it."""

    def prepare_data(self) -> None:
        if not Path("fetched").exists():
            Path("fetched").mkdir()
            time.sleep(1)
            torch.save(torch.ones(3), "fetched/x.pt")

    def setup(self, stage: str) -> None:
        torch.load("fetched/x.pt")


class Strict(Points):
    """Has data for the stages that it was written for."""

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.held_out = points(24, 2)

    def teardown(self, stage: str) -> None:
        if stage == "fit":
            del self.held_out

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.held_out, 8)


class Probe(Plain):
    """Trains its last layer alone, and leaves the others out of its optimizer."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.net[2].parameters(), lr=0.05)


HEAD = nn.Linear(8, 3)


class Shared(Plain):
    """Keeps a layer that all its instances train."""

    def __init__(self) -> None:
        super().__init__()
        self.net[2] = HEAD

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class Overlap(Plain):
    """Logs the same of training and of validation, under names that differ in one word."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log_dict({"train_loss": loss, "train/mean_overlap": -loss}, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/mean_overlap", -self.loss(batch))


class DownloadsOnce(Downloads):
    """Prepares for its module, too, and keeps the result."""

    @lru_cache  # noqa: B019 - as strangers write
    def prepare_data(self) -> None:
        super().prepare_data()


class Prepares(Plain):
    """Calls the preparation of its data from its own."""

    def prepare_data(self) -> None:
        self.trainer.datamodule.prepare_data()


class ByHand(Plain):
    """Steps one optimizer by hand, and schedules it over all steps."""

    def __init__(self, width: int = 8, lr: float = 0.05) -> None:
        super().__init__(width, lr)
        self.automatic_optimization = False
        self.batches = 0
        self.asked = 0.0

    def take(self, *optimizers: torch.optim.Optimizer, batch: list[Tensor]) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
            loss = self.loss(batch)
            self.manual_backward(loss)
            optimizer.step()
        self.batches += 1
        self.asked = max(self.asked, float(self.trainer.max_steps))  # as a schedule would
        self.log("train_loss", loss)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.take(self.optimizers(), batch=batch)
        self.lr_schedulers().step()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        counts = {"batches": float(self.batches), "asked": self.asked}
        self.log_dict({"val_nll": self.loss(batch), **counts})


class TwoByHand(ByHand):
    """The same with two optimizers, each stepped once per batch, as in a GAN."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.take(*self.optimizers(), batch=batch)

    def configure_optimizers(self) -> object:
        return [torch.optim.SGD(self.net[part].parameters(), lr=0.05) for part in (0, 2)]


class Seldom(ByHand):
    """Steps its optimizer at every other batch."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        if self.batches % 2:
            self.take(self.optimizers(), batch=batch)
        else:
            self.take(batch=batch)

    def take(self, *optimizers: torch.optim.Optimizer, batch: list[Tensor]) -> None:
        if optimizers:
            return super().take(*optimizers, batch=batch)
        self.batches += 1
        return None


class Raw(ByHand):
    """Steps past Lightning, which counts no step."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.take(self.optimizers(use_pl_optimizer=False), batch=batch)


class WhileItTrains(Plain):
    """Logs its metric in validations of a fit, and in no other."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        if self.trainer.state.fn == "fit":
            super().validation_step(batch, batch_idx)
        self.log("val_all", self.loss(batch))


class FewerHeldOut(Points):
    """Validates with the first 16 of the 24 points."""

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Subset(points(24, 2), range(16)), self.batch_size)


class Shuffled(Points):
    """Draws the order of its validation."""

    def val_dataloader(self) -> DataLoader:
        return DataLoader(points(24, 2), self.batch_size, shuffle=True)


class Averaged(Classifier):
    """Logs what it is judged by in validations of training, where there is something to average."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_nll_raw", self.loss(batch))
        if not self.trainer.sanity_checking:
            self.log("val_nll_ema", self.loss(batch) / 2)


class FromTheSecondEpoch(Classifier):
    """Logs its metric when it has trained for an epoch, and more than a probe does."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        if self.global_step > 4:
            self.log("val_nll", self.loss(batch))

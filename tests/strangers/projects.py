"""Projects as strangers write them: own modules and data, nothing of this package."""

import lightning as L
import torch
from lightning.pytorch.callbacks import BaseFinetuning, Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchmetrics import MeanMetric
from transformers import BatchEncoding


def points(size: int, seed: int) -> TensorDataset:
    """Three classes that a linear map tells apart."""
    stream = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 6, generator=stream)
    truth = torch.randn(6, 3, generator=torch.Generator().manual_seed(9))
    return TensorDataset(inputs, (inputs @ truth).argmax(1))


class Points(L.LightningDataModule):
    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        return DataLoader(points(40, 1), self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(points(24, 2), self.batch_size)


class Autoencoder(L.LightningModule):
    """Logs a picture through its logger, and its loss once per epoch from a metric object."""

    def __init__(self, width: int = 3, lr: float = 1e-2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder, self.decoder = nn.Linear(6, width), nn.Linear(width, 6)
        self.train_loss = MeanMetric()

    def reconstruct(self, batch: list[Tensor]) -> Tensor:
        return functional.mse_loss(self.decoder(self.encoder(batch[0])), batch[0])

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.reconstruct(batch)
        self.train_loss(loss)
        self.log("train/mse", self.train_loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/mse", self.reconstruct(batch))

    def on_validation_epoch_end(self) -> None:
        if self.logger is not None:
            self.logger.experiment.add_image("made", torch.zeros(3, 4, 4), self.current_epoch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


class Gan(L.LightningModule):
    """Two optimizers, stepped by hand; no validation."""

    def __init__(self, lr: float = 1e-2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator, self.critic = nn.Linear(4, 6), nn.Linear(6, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        of_generator, of_critic = self.optimizers()
        judge = functional.binary_cross_entropy_with_logits
        noise, one = torch.randn(len(batch[0]), 4), torch.ones(len(batch[0]), 1)
        self.toggle_optimizer(of_generator)
        fooled = judge(self.critic(self.generator(noise)), one)
        of_generator.zero_grad()
        self.manual_backward(fooled)
        of_generator.step()
        self.untoggle_optimizer(of_generator)
        self.toggle_optimizer(of_critic)
        made = self.critic(self.generator(noise).detach())
        told = (judge(self.critic(batch[0]), one) + judge(made, 0 * one)) / 2
        of_critic.zero_grad()
        self.manual_backward(told)
        of_critic.step()
        self.untoggle_optimizer(of_critic)
        self.log_dict({"g_loss": fooled, "d_loss": told})

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[object]]:
        rate = self.hparams.lr
        parts = (self.generator, self.critic)
        return [
            torch.optim.Adam(part.parameters(), lr=rate, betas=(0.5, 0.9)) for part in parts
        ], []


class Classifier(L.LightningModule):
    """A plain classifier with its own optimizer, schedule and names of metrics."""

    def __init__(self, width: int = 8, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))

    def loss(self, batch: list[Tensor]) -> Tensor:
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> object:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class ManualSam(Classifier):
    """Climbs, differentiates again, and steps from where it was."""

    def __init__(self, width: int = 8, lr: float = 0.05) -> None:
        super().__init__(width, lr)
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        with torch.no_grad():
            climbs = [0.05 * weight.grad for weight in self.parameters()]
            for weight, climb in zip(self.parameters(), climbs, strict=True):
                weight.add_(climb)
        optimizer.zero_grad()
        loss = self.loss(batch)
        self.manual_backward(loss)
        with torch.no_grad():
            for weight, climb in zip(self.parameters(), climbs, strict=True):
                weight.sub_(climb)
        optimizer.step()
        self.log("train_loss", loss)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Unfreeze(BaseFinetuning):
    """Trains the head alone for an epoch, then all."""

    def freeze_before_training(self, pl_module: L.LightningModule) -> None:
        self.freeze(pl_module.net[0])

    def finetune_function(
        self, pl_module: L.LightningModule, epoch: int, optimizer: object
    ) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.net[0], optimizer)


class Keeper(ModelCheckpoint):
    """A subclass whose name does not say what it is."""


class FineTuned(Classifier):
    """Optimizes what can be trained; its layers come from the config as a list."""

    def __init__(self, layers: list[nn.Module], lr: float = 0.05) -> None:
        super().__init__(lr=lr)
        self.net = nn.Sequential(*layers)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        free = [weight for weight in self.parameters() if weight.requires_grad]
        return torch.optim.AdamW(free, lr=self.hparams.lr)


class Episodes(IterableDataset):
    """An environment: no length, and an end that only the environment knows."""

    def __init__(self, steps: int = 20) -> None:
        super().__init__()
        self.steps = steps

    def __iter__(self) -> object:
        stream = torch.Generator().manual_seed(3)
        for _ in range(self.steps):
            state = torch.randn(6, generator=stream)
            yield state, state.sum() > 0


class Agent(L.LightningModule):
    """Policy gradient on its own data; logs its reward in training, and validates nothing."""

    def __init__(self, lr: float = 1e-2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.policy = nn.Linear(6, 2)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        chance = torch.distributions.Categorical(logits=self.policy(batch[0]))
        action = chance.sample()
        reward = (action == batch[1]).float()
        self.log("reward", reward.mean(), prog_bar=True)
        return -(chance.log_prob(action) * (reward - 0.5)).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Episodes(), batch_size=4)


class Sentences(L.LightningDataModule):
    """Batches as a tokenizer makes them: mappings of a library's own class."""

    def __init__(self, order: int = 0) -> None:
        super().__init__()
        self.order = order

    def pack(self, rows: list[tuple[Tensor, Tensor]]) -> BatchEncoding:
        words = torch.stack([(row[0] * 3).long().abs() % 10 for row in rows])
        return BatchEncoding({"input_ids": words, "labels": torch.stack([row[1] for row in rows])})

    def train_dataloader(self) -> DataLoader:
        stream = torch.Generator().manual_seed(self.order)
        rows = points(40, 1)
        return DataLoader(rows, 8, shuffle=True, generator=stream, collate_fn=self.pack)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(points(24, 2), 8, collate_fn=self.pack)


class Sequences(L.LightningModule):
    """Reads a batch by its keys; returns a mapping with extra outputs."""

    def __init__(self, lr: float = 1e-2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.words, self.head = nn.Embedding(10, 4), nn.Linear(4, 3)

    def scores(self, batch: BatchEncoding) -> Tensor:
        return self.head(self.words(batch["input_ids"]).mean(1))

    def training_step(self, batch: BatchEncoding, batch_idx: int) -> dict[str, Tensor]:
        scores = self.scores(batch)
        return {"loss": functional.cross_entropy(scores, batch["labels"]), "scores": scores}

    def validation_step(self, batch: BatchEncoding, batch_idx: int) -> None:
        loss = functional.cross_entropy(self.scores(batch), batch["labels"])
        self.log("val_loss", loss, batch_size=len(batch["labels"]))

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[object]]:
        optimizer = torch.optim.RMSprop(self.parameters(), lr=self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Linked(Classifier):
    """Cannot be built without a width, which a command line links to the data."""

    def __init__(self, width: int, lr: float = 0.05) -> None:
        super().__init__(width, lr)


class CountsFits(Callback):
    """A default callback that keeps what happened: shared between runs, it would tell."""

    def __init__(self) -> None:
        self.fits = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.fits += 1
        assert self.fits == 1, "one callback served two runs"


CALLBACKS: list[Callback] = [CountsFits(), EarlyStopping("val_acc", mode="max", patience=9)]

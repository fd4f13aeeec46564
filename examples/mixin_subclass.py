"""Perturb a LightningModule of your own: name the mixin first.

python examples/mixin_subclass.py
"""

import lightning as L
import torch
from torch import Tensor, nn

from lightning_qsgd import Perturbation, PerturbationMixin, SamplerBackend
from lightning_qsgd.data import DigitsDataModule


class DigitsModule(PerturbationMixin, L.LightningModule):
    """A module as in any project; only the bases and `perturbation` are new."""

    def __init__(self, perturbation: Perturbation | None = None) -> None:
        super().__init__(perturbation=perturbation)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.network(x), y)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val/accuracy", (self.network(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def main(max_epochs: int = 2) -> DigitsModule:
    """Train with the paper's circuit on a SamplerQNN and 128 shots per circuit."""
    L.seed_everything(0, verbose=False)
    module = DigitsModule(Perturbation(backend=SamplerBackend(sampling=128), strength=0.5))
    trainer = L.Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=DigitsDataModule())
    print(
        f"training loss after {trainer.global_step} steps: "
        f"{trainer.callback_metrics['train/loss']:.3f}"
    )
    return module


if __name__ == "__main__":
    main()

"""Perturb a LightningModule that you cannot or do not want to change: one callback.

python examples/callback_only.py
"""

import lightning as L

from lightning_qsgd import Perturbation, PerturbationCallback, RelativeInjection, SineBackend
from lightning_qsgd.data import DigitsDataModule
from lightning_qsgd.nn import MLP
from lightning_qsgd.training import Classifier


def main(max_epochs: int = 3) -> PerturbationCallback:
    """Train a stock classifier on digits and say how much the perturbation changed."""
    L.seed_everything(0, verbose=False)
    callback = PerturbationCallback(
        Perturbation(backend=SineBackend(), injection=RelativeInjection(), strength=0.5)
    )
    trainer = L.Trainer(
        max_epochs=max_epochs,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(MLP()), datamodule=DigitsDataModule())
    optimizer = callback.optimizers[0]
    print(f"perturbed {optimizer.own_state.applied} of {trainer.global_step} steps")
    print(f"last measured size: {optimizer.report.relative_size:.3f} of the optimizer's own step")
    print(f"validation accuracy: {trainer.callback_metrics['val/accuracy']:.3f}")
    return callback


if __name__ == "__main__":
    main()

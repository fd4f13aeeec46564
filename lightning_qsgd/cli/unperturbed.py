"""Makes sure that a baseline is not perturbed by the model's or the trainer's own doing."""

from dataclasses import replace

from lightning.pytorch import LightningModule, Trainer

from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training import PerturbationCallback, PerturbationMixin
from lightning_qsgd.training.callbacks_of import callbacks_of


def remove_perturbation(model: LightningModule, trainer: Trainer) -> None:
    """Set the strength of every perturbation that the config brought along to 0.

    A wrapped optimizer of strength 0 takes its base's steps bit for bit.

    Args:
        model: The baseline's model; one with the mixin would perturb itself.
        trainer: The baseline's trainer; a callback of the config would perturb it.
    """
    for carrier in (model, *callbacks_of(trainer)):
        if isinstance(carrier, PerturbationMixin | PerturbationCallback):
            carrier.perturbation = replace(carrier.perturbation or Perturbation(), strength=0.0)

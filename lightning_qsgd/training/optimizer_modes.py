"""Optimizers whose weights have a mode for training and one for evaluation: schedule-free ones."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lightning_qsgd.training.wrapping import innermost


class OptimizerModesCallback(Callback):
    """Puts optimizers that have `train()` and `eval()` into the mode that training is in.

    Schedule-free optimizers take gradients at other weights than those that are good: validation
    and checkpoints need the latter, the next step the former. Optimizers without modes are left
    alone.

    Example:
        >>> OptimizerModesCallback().on_train_start(Trainer(logger=False), LightningModule())

    References:
        A. Defazio et al., "The Road Less Scheduled", NeurIPS 2024, arXiv:2405.15682.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the weights of training, also after a checkpoint was loaded."""
        _switch(trainer, "train")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the weights of training again."""
        _switch(trainer, "train")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the weights that are good."""
        _switch(trainer, "eval")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go back to training where it goes on."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            _switch(trainer, "train")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the weights that are good behind."""
        _switch(trainer, "eval")


def _switch(trainer: Trainer, mode: str) -> None:
    for optimizer in trainer.optimizers:
        change = getattr(innermost(optimizer), mode, None)
        if callable(change):
            change()

"""Hands scalars and hyperparameters to whatever a trainer logs to and watches."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer


def publish(trainer: Trainer, scalars: Mapping[str, float]) -> None:
    """Log scalars, and show them to callbacks such as `EarlyStopping` and `ModelCheckpoint`.

    `LightningModule.log` cannot do it: Lightning forbids it in some of the hooks that need it.

    Args:
        trainer: The trainer, in the middle of a fit.
        scalars: Values by tag; NaN is not defined and left out.
    """
    defined = {tag: value for tag, value in scalars.items() if value == value}
    show(trainer, defined)
    step = trainer.fit_loop.epoch_loop._batches_that_stepped
    for logger in trainer.loggers:
        logger.log_metrics(defined, step=step)


def show(trainer: Trainer, scalars: Mapping[str, float]) -> None:
    """Put scalars into `trainer.callback_metrics` without logging them."""
    # Lightning returns its own dictionary, and the callbacks read the same one.
    trainer.callback_metrics.update(
        {tag: torch.tensor(value, dtype=torch.float32) for tag, value in scalars.items()}
    )


def log_hyperparameters(trainer: Trainer, values: Mapping[str, Any]) -> None:
    """Add hyperparameters to those that the trainer's loggers hold.

    Args:
        trainer: The trainer, at the start of a fit.
        values: Plain values by name.
    """
    for logger in trainer.loggers:
        logger.log_hyperparams(dict(values))

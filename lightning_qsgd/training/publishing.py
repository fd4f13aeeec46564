"""Hands scalars and hyperparameters to what a trainer logs to and watches, and reads scalars."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from math import nan
from typing import Any, TypeGuard

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_qsgd.perturbations import Perturbation


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


def log_hyperparameters(
    trainer: Trainer, pl_module: LightningModule, values: Mapping[str, Any]
) -> None:
    """Add hyperparameters to those of the module, for every logger of a trainer.

    TensorBoard keeps the first row that a run writes, so the module's own go with them. A Trainer
    that was told not to log hyperparameters logs none.

    Args:
        trainer: The trainer, in `on_fit_start`: Lightning logs the module's own after that.
        pl_module: The module that is trained.
        values: Plain values by name.
    """
    if not getattr(trainer, "enable_autolog_hparams", True):
        return
    own = dict(pl_module.hparams_initial) if getattr(pl_module, "_log_hyperparams", False) else {}
    own.pop("_class_path", None)  # LightningCLI's
    for logger in trainer.loggers:
        logger.log_hyperparams({**own, **values})


def name_in_progress_bar(trainer: Trainer, name: str) -> None:
    """Show which run this is, instead of the last four letters of its version.

    Args:
        trainer: Its progress bar, of any kind, is changed; it may have none.
        name: What to show.
    """
    bar = trainer.progress_bar_callback
    if bar is not None:
        # The method of the class, not of the bar: that has another from now on.
        shown = partial(_named_metrics, type(bar).get_metrics, name, bar)
        bar.get_metrics = shown  # type: ignore[method-assign]


def _named_metrics(
    original: Callable[..., dict[str, Any]], name: str, *args: Any
) -> dict[str, Any]:
    found = original(*args)
    found.pop("v_num", None)
    return {"run": name, **found}


def described(perturbation: Perturbation) -> dict[str, bool | int | float | str | None]:
    """Say in plain values what a perturbation is, for tables of hyperparameters.

    Example:
        >>> said = described(Perturbation(strength=0.1))
        >>> said["strength"], said["backend"]
        (0.1, 'SineBackend(num_qubits=4)')
    """
    parts = {field.name: getattr(perturbation, field.name) for field in fields(perturbation)}
    return {name: _plain(value) for name, value in parts.items()}


def _plain(value: Any) -> bool | int | float | str | None:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    words = repr(value)
    return type(value).__name__ if " at 0x" in words else words


def is_new(value: Any, before: Tensor | None) -> TypeGuard[Tensor]:
    """Whether Lightning holds another value than before, and not the old one in a new wrapper.

    What a module logs now and then, or once per epoch, stays among `trainer.callback_metrics`.
    """
    return isinstance(value, Tensor) and (before is None or not value.is_set_to(before))


def is_logged(trainer: Trainer, pl_module: LightningModule) -> bool:
    """Whether loggers write at this step."""
    accumulating = trainer.fit_loop._should_accumulate() and pl_module.automatic_optimization
    return trainer._logger_connector.should_update_logs and not accumulating


def scalar_of(value: Any) -> Tensor | None:
    """Copy a single real number, whatever its shape; None for anything else."""
    if isinstance(value, int | float):
        value = torch.tensor(value, dtype=torch.float64)
    if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
        return None
    # In place of a reference: what is returned may be changed in place by a later step.
    precision = torch.float32 if value.device.type == "mps" else torch.float64
    return value.detach().reshape(()).to(precision, copy=True)


def numbers_of(scalars: list[Tensor]) -> list[float]:
    """Read scalars in one go: each reading waits for the device."""
    numbers: list[float] = torch.stack(scalars).tolist() if scalars else []
    return numbers


def mean_of(scalars: list[Tensor]) -> float:
    """Return the mean of scalars; NaN of none."""
    numbers = numbers_of(scalars)
    return sum(numbers) / len(numbers) if numbers else nan

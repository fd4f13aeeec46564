"""Writes to TensorBoard what is not a curve: layout, circuit and hyperparameters."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_qsgd.backends import Backend
from lightning_qsgd.circuits.drawing import draw_figure, draw_text
from lightning_qsgd.tracking import flatten_config, tags, write_circuit, write_layout
from lightning_qsgd.training.convergence_callback import ConvergenceCallback, Goal, Summary
from lightning_qsgd.training.wrapping import callbacks_of


class TensorBoardCallback(Callback):
    """Puts arm and baseline into one chart, draws the circuit, and fills the HParams page.

    Does nothing on trainers without a `TensorBoardLogger`.

    Args:
        hyperparameters: Nested configuration of the run; flattened for the HParams page.
        backend: Evaluates the circuit that is drawn; None draws nothing.
        goal: Names the compared scalars.
    """

    def __init__(
        self,
        hyperparameters: Mapping[str, Any] | None = None,
        backend: Backend | None = None,
        goal: Goal | None = None,
    ) -> None:
        self.hyperparameters = dict(hyperparameters or {})
        self.backend = backend
        self.goal = Goal() if goal is None else goal

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the layout and the circuit."""
        for logger in _writers(trainer):
            write_layout(logger.experiment, [self.goal.loss, self.goal.metric])
            built = self.backend.describe() if self.backend is not None else None
            if built is not None:
                try:
                    figure = draw_figure(built)
                except ModuleNotFoundError:
                    figure = None  # the extra `plot` is not installed: the text must do
                write_circuit(logger.experiment, draw_text(built), figure)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write hyperparameters with the final metrics."""
        metrics: dict[str, float] = {}
        for callback in callbacks_of(trainer):
            if isinstance(callback, ConvergenceCallback):
                metrics |= _without_curves(callback.summary)
        for logger in _writers(trainer):
            logger.log_hyperparams(flatten_config(self.hyperparameters), metrics)


def _without_curves(summary: Summary) -> Summary:
    """Rename what has a curve: Lightning writes these values as scalars too, at step 0."""
    return {
        tags.final_tag(tag) if tag.startswith("baseline/") else tag: value
        for tag, value in summary.items()
    }


def _writers(trainer: Trainer) -> list[TensorBoardLogger]:
    if not trainer.is_global_zero:
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]

"""Writes to TensorBoard what is not a curve: layout, circuit and hyperparameters."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_qsgd.backends import Backend
from lightning_qsgd.circuits.drawing import draw_figure, draw_text
from lightning_qsgd.tracking import (
    flatten_config,
    tags,
    write_circuit,
    write_hyperparameters,
    write_layout,
)
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.perturbation_monitor import (
    described_perturbations,
    perturbed_optimizers,
)


class TensorBoardCallback(Callback):
    """Puts arm and baseline into one chart, draws the circuit, and fills the HParams page.

    Does nothing on trainers without a `TensorBoardLogger`.

    Args:
        hyperparameters: Nested configuration of the run; flattened for the HParams page. Its
            `perturbation` is that of the optimizers, wherever they got it from.
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
        self._logged: set[str] = set()
        self._arranged: set[str] = set()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the circuit."""
        for logger in _writers(trainer):
            built = self.backend.describe() if self.backend is not None else None
            if built is not None:
                try:
                    figure = draw_figure(built)
                except ModuleNotFoundError:
                    figure = None  # the extra `plot` is not installed: the text must do
                write_circuit(logger.experiment, draw_text(built), figure)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Note what loggers have got: Lightning forgets it from epoch to epoch."""
        self._logged.update(trainer.logged_metrics)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the layout, if there is something new to show."""
        self._arrange(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write layout and hyperparameters."""
        self._arrange(trainer)
        row, optimizers = dict(self.hyperparameters), perturbed_optimizers(trainer)
        if optimizers:
            row.pop("perturbation", None)
        row = flatten_config({**row, **described_perturbations(optimizers)})
        for logger in _writers(trainer):
            write_hyperparameters(logger.experiment, row)

    def _arrange(self, trainer: Trainer) -> None:
        published = filter(tags.is_own, trainer.callback_metrics)
        self._logged.update(trainer.logged_metrics, published)
        if self._logged != self._arranged:
            self._arranged = set(self._logged)
            for logger in _writers(trainer):
                write_layout(logger.experiment, [self.goal.loss, self.goal.metric], self._arranged)


def _writers(trainer: Trainer) -> list[TensorBoardLogger]:
    if not trainer.is_global_zero:
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]

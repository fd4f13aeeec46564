"""Logs what each perturbed step did, next to the losses of the same step."""

from time import perf_counter

from lightning.pytorch import Trainer

from lightning_qsgd.optimizers import PerturbedOptimizer, StepReport
from lightning_qsgd.optimizers.perturbed import MEASURE_EVERY
from lightning_qsgd.tracking import report_scalars

MODEL_EVERY = 10
"""Whole-model sizes are measured at one logged step in this many: they copy all parameters."""


class StepLog:
    """Writes the reports of perturbed optimizers to the trainer's loggers.

    Attributes:
        relative_sizes: Relative size of the perturbation at each logged step.
    """

    def __init__(self) -> None:
        self.relative_sizes: list[float] = []
        self._seen: dict[int, StepReport | None] = {}
        self._logged = 0
        self._start = 0.0

    def before_batch(self, trainer: Trainer, optimizers: list[PerturbedOptimizer]) -> None:
        """Start the clock and ask for a measurement if this step will be logged."""
        logs = bool(trainer.loggers) and trainer._logger_connector.should_update_logs
        for optimizer in optimizers:
            optimizer.measure_every = 1 if logs else MEASURE_EVERY
            optimizer.measure_model_every = int(logs and self._logged % MODEL_EVERY == 0)
            self._seen[id(optimizer)] = optimizer.report
        self._start = perf_counter()

    def after_batch(self, trainer: Trainer, optimizers: list[PerturbedOptimizer]) -> None:
        """Log the reports that this batch brought, if it is logged."""
        seconds = perf_counter() - self._start
        if not trainer._logger_connector.should_update_logs:
            return
        scalars: dict[str, float] = {}
        for index, optimizer in enumerate(optimizers):
            report = optimizer.report
            if report is not None and report is not self._seen[id(optimizer)]:
                suffix = f"/{index}" if len(optimizers) > 1 else ""
                self.relative_sizes.append(report.relative_size)
                new = report_scalars(report, seconds).items()
                scalars.update({f"{tag}{suffix}": value for tag, value in new})
        if scalars:
            self._logged += 1
            step = trainer.fit_loop.epoch_loop._batches_that_stepped
            for logger in trainer.loggers:
                logger.log_metrics(scalars, step=step)

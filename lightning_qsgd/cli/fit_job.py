"""Makes one run of a comparison, in whatever process and on whatever machine."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import isfinite, isnan, nan
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_qsgd.cli.job_cli import JobCLI, loop_of
from lightning_qsgd.cli.main import hush

# Imported by the server that forks the processes, so that no run has to wait for them.
from lightning_qsgd.cli.outcome import never_logged
from lightning_qsgd.cli.perturbation_cli import PerturbationCLI
from lightning_qsgd.cli.recipe import Recipe
from lightning_qsgd.compare.executors.executor import SCRATCH
from lightning_qsgd.compare.forecast import REMARK, SECONDS_OF_A_RUN
from lightning_qsgd.compare.planning.job import Job
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.convergence_callback import Goal, steps_taken
from lightning_qsgd.training.first_weights import hashed_weights
from lightning_qsgd.training.recorded_run import (
    DATA_ORDER,
    FINAL_WEIGHTS,
    RANDOM_STATE,
    SEEN_BATCHES,
    VALIDATION_BATCHES,
    VALIDATION_DATA,
    RecordedCurve,
    RecordedRun,
)

MEASURED = (tags.RELATIVE_SIZE, tags.MODEL_RELATIVE_SIZE)


@dataclass(frozen=True)
class FitJob:
    """Trains runs as a command line does; goes to other processes.

    Attributes:
        recipe: The command line: that of this package, or one of the user's.
    """

    recipe: Recipe = field(default_factory=lambda: Recipe(PerturbationCLI))

    def __call__(self, job: Job) -> RecordedRun:
        """Train one run; see `fit_job`."""
        return fit_job(job, self.recipe)


def fit_job(job: Job, recipe: Recipe, *callbacks: Callback) -> RecordedRun:
    """Train one run with one thread.

    Args:
        job: The run.
        recipe: The command line.
        callbacks: Callbacks besides those of the configuration.

    Returns:
        Its curves, final metrics, hashes, timing and first weights.

    Raises:
        ValueError: If the run recorded no value of the goal's metric.
    """
    torch.set_num_threads(1)
    hush()
    with TemporaryDirectory(dir=os.environ.get(SCRATCH)) as scratch:
        cli = JobCLI.run(recipe, dict(job.config), scratch, callbacks)
    if cli.convergence is None:
        raise RuntimeError("The run recorded nothing: `fast_dev_run` is on. Switch it off.")
    goal, record = cli.convergence.goal, cli.convergence.run
    final = _final(cli, record, goal)
    curves = _curves(cli, record, goal)
    return RecordedRun(
        *(job.arm, job.seed, final, curves, _checks(cli), record.timing),
        *(record.first_weights, job.fingerprint, record.optimizers),
    )


STEPS = 4
"""Of a probe run; the first is not timed."""

SHORT: dict[str, Any] = {
    "max_time": None,
    "overfit_batches": 0.0,
    "limit_val_batches": 2,
    "val_check_interval": 1.0,
    "check_val_every_n_epoch": 1,
}
"""What makes a run a probe: a whole epoch with its validation, of a few batches. Its steps and
epochs stay those of the budget until every schedule is made, see `BudgetedLoop.few`."""


@dataclass(frozen=True)
class ProbeJob:
    """Trains a few steps of a run, and says what a whole one would take.

    Attributes:
        recipe: The command line.
    """

    recipe: Recipe

    def __call__(self, job: Job) -> RecordedRun:
        """Train an epoch of a few batches; see `fit_job`."""
        begin, config = perf_counter(), dict(job.config)
        limits = {**SHORT, **_fewer(config["trainer"])}
        short = replace(job, config={**config, "trainer": {**config["trainer"], **limits}})
        watch = Stopwatch()
        run = fit_job(short, self.recipe, watch)
        whole = watch.whole_run(config["trainer"], perf_counter() - begin)
        said = {REMARK: _words_for_unanswered(watch.unanswered)} if watch.unanswered else {}
        final = {**run.final, SECONDS_OF_A_RUN: whole}
        return replace(run, final=final, checks={**run.checks, **said})


def _fewer(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Keep an experiment's limit of validation that is below that of a probe."""
    name = "limit_val_batches"
    given = trainer.get(name)
    is_count = isinstance(given, int) and not isinstance(given, bool)
    return {name: given} if given == 0.0 or (is_count and given < SHORT[name]) else {}


def _words_for_unanswered(limits: Collection[str]) -> str:
    asked = " and ".join(f"`trainer.{name}`" for name in sorted(limits))
    return (
        f"{asked} was asked for, and read -1: the budget has another unit, and nothing told the "
        "number when it was asked for. A schedule made of it may go wrong. Give `budget` the unit "
        "that the schedule asks for, or ask in `configure_optimizers`, with data of known length, "
        "where budgets of steps and epochs are translated."
    )


class Stopwatch(Callback):
    """Times batches of training and validation, and learns how many there would be."""

    def __init__(self) -> None:
        self.training: list[float] = []
        self.validating: list[float] = []
        self.lengths: dict[str, float] = {}
        self.unanswered: set[str] = set()
        self._begin = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let training end after a few batches."""
        loop_of(trainer).few = STEPS

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._begin = perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop it."""
        self.training.append(perf_counter() - self._begin)

    def on_validation_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._begin = perf_counter()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Stop it."""
        self.validating.append(perf_counter() - self._begin)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the batches of an epoch, and of a validation; note what was asked in vain."""
        self.unanswered = set(loop_of(trainer).unanswered)
        self.lengths = {
            "limit_train_batches": _length(trainer.train_dataloader),
            "limit_val_batches": _length(trainer.val_dataloaders),
        }

    def whole_run(self, trainer: Mapping[str, Any], wall: float) -> float:
        """Extrapolate the seconds of a whole run.

        Args:
            trainer: The trainer's part of the whole run's configuration.
            wall: Seconds that the probe run took in all.

        Returns:
            Seconds; NaN where the length of an epoch is not known.
        """
        batch, check = (
            median(times[1:] or times or [0.0]) for times in (self.training, self.validating)
        )
        start = wall - sum(self.training) - sum(self.validating)
        if trainer.get("max_time"):
            return start + timedelta(**trainer["max_time"]).total_seconds()
        per_epoch = _limited(self.lengths["limit_train_batches"], trainer, "limit_train_batches")
        checked = _limited(self.lengths["limit_val_batches"], trainer, "limit_val_batches")
        steps, epochs = trainer.get("max_steps") or -1, trainer.get("max_epochs") or -1
        batches = (
            steps * int(trainer.get("accumulate_grad_batches") or 1)
            if steps > 0
            else epochs * per_epoch
        )
        validations = batches / per_epoch + 1 if isfinite(per_epoch) and per_epoch > 0 else 1
        return start + batch * batches + (check * checked * validations if check else 0.0)


def _typical(seconds: list[float]) -> float:
    """Return the median without the first, in which libraries are loaded; 0 for none."""
    return median(seconds[1:] or seconds or [0.0])


def _length(loaders: Any) -> float:
    """Count batches; NaN for data without a length."""
    try:
        return float(sum(len(loader) for loader in _flat(loaders)))
    except (TypeError, NotImplementedError):
        return nan


def _flat(loaders: Any) -> list[Any]:
    if isinstance(loaders, Mapping):
        return list(loaders.values())
    return list(loaders) if isinstance(loaders, list | tuple) else [loaders] if loaders else []


def _limited(length: float, trainer: Mapping[str, Any], name: str) -> float:
    limit = trainer.get(name)
    if limit is None:
        return length
    return (
        length * limit
        if isinstance(limit, float)
        else float(limit if isnan(length) else min(limit, length))
    )


def _final(cli: JobCLI, record: RecordedRun, goal: Goal) -> dict[str, float]:
    """Return the metrics of the final weights, and close the metric's curve with them.

    Raises:
        ValueError: If no value of the goal's metric is of the final weights.
    """
    final, step = dict(cli.validated), float(steps_taken(cli.trainer))
    if goal.metric not in final:
        curve = record.curve(goal.metric)
        if not curve.values:
            is_probe = loop_of(cli.trainer).few is not None
            raise ValueError(
                never_logged(goal.metric, {*cli.logged, *final}) + (_FROM_THE_FIRST * is_probe)
            )
        if curve.steps[-1] < step:
            raise ValueError(_stale(goal.metric, curve, step))
        final[goal.metric] = curve.values[-1]
    loss = record.curve(goal.loss)
    curve = record.curve(goal.metric)
    if not curve.steps or curve.steps[-1] < step:
        epoch = loss.epochs[-1] if loss.epochs else float(cli.trainer.current_epoch)
        seconds = loss.seconds[-1] if loss.seconds else nan
        curve.append(step, epoch, seconds, final[goal.metric])
    if loss.values:
        final.setdefault(goal.loss, loss.values[-1])
    return dict(sorted(final.items()))


_FROM_THE_FIRST = (
    " These were a few steps before a comparison: log it from the first validation on, if it was "
    "to begin later."
)


def _stale(metric: str, curve: RecordedCurve, step: float) -> str:
    return (
        f"Cannot tell `{metric}` of the final weights: training ended at step {step:g}, the "
        "validation after it did not log it, and its last value is of step "
        f"{curve.steps[-1]:g}. Log it in `validation_step` whatever `trainer.state.fn` is, or let "
        "the last validation of the budget be at its end, as with `check_val_every_n_epoch: 1`."
    )


def _curves(cli: JobCLI, record: RecordedRun, goal: Goal) -> dict[str, RecordedCurve]:
    loss = record.curve(goal.loss)
    curves = {tag: record.curve(tag) for tag in (goal.loss, goal.metric)}
    for tag in MEASURED:
        points = cli.memory.points.get(tag, [])
        if points and loss.steps:
            steps = [float(step) for step, _ in points]
            curves[tag] = RecordedCurve(
                steps,
                np.interp(steps, loss.steps, loss.epochs).tolist(),
                np.interp(steps, loss.steps, loss.seconds).tolist(),
                [value for _, value in points],
            )
    return {tag: curve for tag, curve in curves.items() if curve.steps}


def _checks(cli: JobCLI) -> dict[str, str]:
    convergence: Any = cli.convergence
    hashes = {
        **convergence.run.checks,
        DATA_ORDER: cli.pairing.data_order,
        SEEN_BATCHES: cli.pairing.seen_batches,
        RANDOM_STATE: cli.pairing.random_state,
        VALIDATION_BATCHES: cli.pairing.validation_batches,
        VALIDATION_DATA: cli.pairing.validation_data,
        FINAL_WEIGHTS: hashed_weights(cli.model).digest,
        **cli.pairing.trained_on,
    }
    return {name: value for name, value in hashes.items() if value}  # unreadable is unknown

"""How a run converges towards its goal: recorded, logged and summarised."""

from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lightning_qsgd.metrics.functional import (
    area_under_curve,
    best_value,
    speedup_over_baseline,
    steps_to_target,
    value_at_step,
)
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.first_weights import (
    FirstWeights,
    hashed_weights,
    start_alike,
    unlike,
)
from lightning_qsgd.training.recorded_run import (
    INITIAL_WEIGHTS,
    RecordedCurve,
    RecordedRun,
    Timing,
    save_run,
)


@dataclass(frozen=True)
class Goal:
    """Names the scalars that are compared between runs.

    Args:
        loss: Tag of the training loss, logged at every step.
        metric: Tag of the validation metric, logged at every validation.
        higher_is_better: Whether the metric improves upwards (accuracy) or downwards (loss).
        target: Value of the metric to reach, in its unit; fix it before the run. None looks for
            no target.

    Raises:
        ValueError: If `target` is not finite.

    Example:
        >>> Goal(metric="val/accuracy", target=0.9).target
        0.9
    """

    loss: str = "train/loss"
    metric: str = "val/accuracy"
    higher_is_better: bool = True
    target: float | None = None

    def __post_init__(self) -> None:
        if self.target is not None and not isfinite(self.target):
            raise ValueError(
                f"Expected `target` to be finite, got {self.target}: no run could reach it. Leave "
                "it out to look for no target."
            )


Summary = dict[str, float]


def summarise(run: RecordedRun, goal: Goal) -> Summary:
    """Summarise how a run converged.

    Args:
        run: The recorded curves.
        goal: Which of them count, and the target.

    Returns:
        Values by tag: area under the loss curve, best and last metric, and with a target the
        steps, epochs and seconds to it, ``inf`` if it was not reached. What was not recorded has
        no entry.
    """
    loss, metric = run.curve(goal.loss), run.curve(goal.metric)
    summary: Summary = {}
    if loss.steps:
        summary[tags.AREA_UNDER_LOSS_CURVE] = area_under_curve(loss.steps, loss.values)
    if metric.steps:
        best = best_value(metric.steps, metric.values, higher_is_better=goal.higher_is_better)
        summary[tags.best_tag(goal.metric)] = best
        summary[tags.final_tag(goal.metric)] = metric.values[-1]
        if goal.target is not None:
            summary[tags.STEPS_TO_TARGET] = _cost(metric, metric.steps, goal)
            summary[tags.EPOCHS_TO_TARGET] = _cost(metric, metric.epochs, goal)
            summary[tags.SECONDS_TO_TARGET] = _cost(metric, metric.seconds, goal)
    return summary


def compare(run: RecordedRun, baseline: RecordedRun, goal: Goal) -> Summary:
    """Compare a run with its baseline at the last step that both have.

    Args:
        run: The recorded curves of the arm.
        baseline: Those of the baseline.
        goal: Which curves count, and the target.

    Returns:
        Values by tag: the gap (arm minus baseline) of the loss and of the metric, and the
        speed-up in steps at the target (NaN while neither has reached it).
    """
    summary: Summary = {}
    for tag in (goal.loss, goal.metric):
        gap = last_gap(run.curve(tag), baseline.curve(tag))
        if gap == gap:  # not NaN
            summary[tags.gap_tag(tag)] = gap
    if goal.target is not None and run.curve(goal.metric).steps:
        arm, base = run.curve(goal.metric), baseline.curve(goal.metric)
        base_cost = _cost(base, base.steps, goal) if base.steps else nan
        summary[tags.SPEEDUP] = speedup_over_baseline(_cost(arm, arm.steps, goal), base_cost)
    return summary


def last_gap(arm: RecordedCurve, baseline: RecordedCurve) -> float:
    """Return arm minus baseline at the arm's last step; NaN outside the baseline's range."""
    if not arm.steps or not baseline.steps:
        return nan
    return arm.values[-1] - value_at_step(baseline.steps, baseline.values, arm.steps[-1])


def _cost(curve: RecordedCurve, axis: list[float], goal: Goal) -> float:
    target = 0.0 if goal.target is None else goal.target
    return steps_to_target(axis, curve.values, target, higher_is_better=goal.higher_is_better)


class ConvergenceCallback(Callback):
    """Records the training loss at every step and a validation metric at every validation.

    With a baseline it logs, at equal step, the difference to it: with the same seed and data
    order, minibatch noise cancels in the pair. At every validation it logs the speed-up at the
    target. At the end it logs steps, epochs and seconds to the target, the area under the loss
    curve and the best value; a target that was not reached is ``inf``, never 0.

    Args:
        goal: Which scalars are recorded, and the target fixed in advance.
        baseline: The recorded baseline run; None logs no gap.
        file: Where process 0 saves the record at the end of training; None saves nothing.
        fingerprint: Hash of the configuration, stored in the record.

    Attributes:
        run: The record of this run.
        summary: What `summarise` and `compare` say of it; filled at the end of training.

    Raises:
        RuntimeError: At the start of training, if the baseline started from other weights.

    Example:
        >>> callback = ConvergenceCallback(Goal(metric="val/accuracy", target=0.9))
        >>> callback.run.curve("val/accuracy").values
        []
    """

    def __init__(
        self,
        goal: Goal | None = None,
        baseline: RecordedRun | None = None,
        file: Path | None = None,
        fingerprint: str = "",
    ) -> None:
        self.goal = Goal() if goal is None else goal
        self.baseline = baseline
        self.file = file
        self.run = RecordedRun(fingerprint=fingerprint)
        self.summary: Summary = {}
        self._pending: list[tuple[int, float, float, Tensor]] = []
        self._seconds = 0.0
        self._batch_start = 0.0
        self._warmed_up = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the initial weights and compare them with the baseline's."""
        self.run.first_weights = hashed_weights(pl_module)
        self.run.checks[INITIAL_WEIGHTS] = self.run.first_weights.digest
        theirs = self.baseline.first_weights if self.baseline is not None else FirstWeights()
        if start_alike(self.run.first_weights, theirs) is False:
            names = unlike(self.run.first_weights, theirs)
            raise RuntimeError(
                f"The baseline started from other weights ({', '.join(names[:3])}), so the two "
                "runs are no pair: their difference would mix the perturbation with the "
                "initialisation. Use the same seed_everything and model, or train the baseline "
                "anew."
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock.

        Seconds of training exclude validation, and the first batch of a process, in which
        libraries are loaded and memory is allocated: of two runs in one process it would burden
        the first.
        """
        self._batch_start = perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Record the loss of the step."""
        if self._warmed_up:
            self._seconds += perf_counter() - self._batch_start
        self._warmed_up = True
        loss = _logged_loss(trainer, self.goal.loss, outputs)
        if loss is None:
            return
        epoch = trainer.current_epoch + (batch_idx + 1) / max(trainer.num_training_batches, 1)
        self._pending.append((trainer.global_step, epoch, self._seconds, loss))
        if self.baseline is not None and trainer._logger_connector.should_update_logs:
            self._flush()
            gap = last_gap(self.run.curve(self.goal.loss), self.baseline.curve(self.goal.loss))
            _log(trainer, {tags.gap_tag(self.goal.loss): gap})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the validation metric."""
        value = trainer.callback_metrics.get(self.goal.metric)
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or value is None:
            return
        self._flush()
        epoch = float(trainer.current_epoch + 1)
        curve = self.run.curve(self.goal.metric)
        curve.append(float(trainer.global_step), epoch, self._seconds, float(value))
        if self.baseline is not None:
            _log(trainer, compare(self.run, self.baseline, self.goal))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Summarise, log and save the record."""
        self._flush()
        self.run.final = {tag: c.values[-1] for tag, c in self.run.curves.items() if c.values}
        self.run.timing = Timing.of(self.run.curve(self.goal.loss))
        self.summary = summarise(self.run, self.goal)
        _log(trainer, self.summary)
        if self.baseline is not None:
            self.summary |= compare(self.run, self.baseline, self.goal)
        if self.file is not None and trainer.is_global_zero:
            save_run(self.run, self.file)

    def state_dict(self) -> dict[str, Any]:
        """Return the record, so that a resumed run continues its curves."""
        self._flush()
        return {"run": self.run.to_dict(), "seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a saved record."""
        self.run = RecordedRun.from_dict(state_dict["run"])
        self._seconds = float(state_dict["seconds"])

    def _flush(self) -> None:
        """Move pending losses into the record; reading them waits for the device."""
        if self._pending:
            losses = torch.stack([loss for *_, loss in self._pending]).tolist()
            curve = self.run.curve(self.goal.loss)
            for (step, epoch, seconds, _), loss in zip(self._pending, losses, strict=True):
                curve.append(float(step), epoch, seconds, loss)
            self._pending.clear()


def _logged_loss(trainer: Trainer, tag: str, outputs: Any) -> Tensor | None:
    loss = trainer.callback_metrics.get(tag)
    if loss is None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    return loss.detach().float().clone() if isinstance(loss, Tensor) else None


def _log(trainer: Trainer, scalars: Summary) -> None:
    defined = {tag: value for tag, value in scalars.items() if value == value}  # drops NaN
    step = trainer.fit_loop.epoch_loop._batches_that_stepped
    for logger in trainer.loggers:
        logger.log_metrics(defined, step=step)

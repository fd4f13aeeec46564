"""Records how a run converges towards its goal, logs it and keeps it on disk."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.tracking import tags
from lightning_qsgd.training.convergence_metrics import (
    ConvergenceMetrics,
    Goal,
    Instant,
    Summary,
    compare,
    summarise,
)
from lightning_qsgd.training.first_weights import add_to_hash, with_late_weights
from lightning_qsgd.training.publishing import (
    is_logged,
    is_new,
    mean_of,
    numbers_of,
    publish,
    scalar_of,
    show,
)
from lightning_qsgd.training.recorded_run import RecordedRun, Timing, require_pair, save_run
from lightning_qsgd.training.wrapping import (
    callbacks_of,
    complete_weights,
    describe_optimizers,
    first_weights_of,
    has_late_hooks,
)

__all__ = ["ConvergenceCallback", "Goal", "Summary", "compare", "steps_taken", "summarise"]

FORMAT = 2


class ConvergenceCallback(Callback):
    """Records the training loss at every step and the metric at every validation, or epoch.

    TorchMetrics hold the points and say how the run converged: see `ConvergenceMetrics`. With a
    baseline the callback logs, at equal step, the difference to it: with the same seed and data
    order, minibatch noise cancels in the pair. At every validation it logs the speed-up at the
    target. At the end it logs steps, epochs and seconds to the target, the area under the loss
    curve and the best value; a target that was not reached is ``inf``, never 0. Whatever it logs
    is in `trainer.callback_metrics` too, the summary at every validation, so that `EarlyStopping`
    and `ModelCheckpoint` can watch it.

    The loss of a step is what was logged under `goal.loss` in that step, else the loss that
    `training_step` returned. Batches whose gradients are accumulated count as one step, with the
    mean of their losses. A step is what loggers count: one, however many optimizers it moved.

    One callback serves fits in a row. A fit starts a new record; one that continues a checkpoint,
    or the steps of the same trainer, continues its record.

    Args:
        goal: Which scalars are recorded, and the target fixed in advance.
        baseline: The recorded baseline run; None logs no gap.
        file: Where process 0 saves the record at the end of training; None saves nothing.
        fingerprint: Hash of the configuration, stored in the record.

    Attributes:
        metrics: The points, and the metrics over them.
        run: The record of this run, up to the last validation; complete at the end of training.
        summary: How the run converged and compares; filled at the end of training.
        logged: Tags that the run logged.
        has_trained: Whether the last fit took a step: one resumed at its end takes none.

    Raises:
        RuntimeError: At the start of training, if the baseline started from other weights, or
            trained others.

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
        self.fingerprint = fingerprint
        self._restored = self.has_trained = False
        self._is_fitting = True
        self._begin()

    def _begin(self) -> None:
        """Start a new record."""
        self._awaits_values = False
        self.run = RecordedRun(fingerprint=self.fingerprint)
        self.metrics = ConvergenceMetrics(self.goal, self.baseline)
        self.summary: Summary = {}
        self.logged: set[str] = set()
        self._now: Instant = (0.0, 0.0, 0.0)
        self._pending: dict[Instant, list[Tensor]] = {}

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Go first among the callbacks: others watch what this one computes at a validation."""
        self._is_fitting = stage == TrainerFn.FITTING
        others = [callback for callback in callbacks_of(trainer) if callback is not self]
        trainer.callbacks = [self, *others]  # type: ignore[attr-defined]

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the initial weights and compare them with the baseline's."""
        self.has_trained = False
        if self.goal.higher_is_better is None:
            rank_zero_warn(_NO_DIRECTION.format(self.goal.metric))
        if not self._restored and trainer.global_step == 0:
            self._begin()
        if self.metrics.device != pl_module.device:
            self.metrics.to(pl_module.device)
        self.run.optimizers = describe_optimizers(trainer)
        if not self.run.first_weights.hashes:
            self._note_weights(trainer, pl_module)
        if has_late_hooks(trainer, pl_module):
            return  # they may set other weights: the first batch comes with the check
        is_plain = trainer.ckpt_path is not None and not self._restored
        self._require_pair(str(trainer.ckpt_path) if is_plain else "")

    def _note_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.run.note_weights(first_weights_of(trainer, pl_module))
        self._awaits_values = self.run.first_weights.has_unknown and trainer.global_step == 0

    def _require_pair(self, continued: str = "") -> None:
        if self.baseline is not None and not self._awaits_values:
            require_pair(self.run.first_weights, self.baseline.first_weights, continued)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock anew; a checkpoint belongs to this fit and to no later one."""
        self._restored = self._warmed_up = False
        self.has_trained = True
        self._begin_epoch(trainer)

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember what was logged before this epoch."""
        self._begin_epoch(trainer)

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock, and compare the first batch with the baseline's.

        Seconds of training exclude validation, and the first batch of a fit, in which libraries
        are loaded and memory is allocated: of two runs in one process it would burden the first.
        """
        is_first = batch_idx == trainer.global_step == trainer.current_epoch == 0
        if is_first and has_late_hooks(trainer, pl_module):
            self._note_weights(trainer, pl_module)
            self._require_pair()
        if is_first and self.file is not None:
            self._look_at(batch)
        self._before_batch = trainer.callback_metrics.get(self.goal.loss)
        self._batch_start = perf_counter()

    @override
    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Look at lazy weights, to which the first forward pass has given values."""
        if self._awaits_values:
            self._awaits_values = False
            first = self.run.first_weights
            self.run.note_weights(complete_weights(first, trainer, pl_module))
            self._require_pair()

    def _look_at(self, batch: Any) -> None:
        digest = hashlib.sha256()
        if not add_to_hash(digest, batch):
            return
        self.run.checks[FIRST_BATCH] = digest.hexdigest()
        checks = {} if self.baseline is None else self.baseline.checks
        if checks.get(FIRST_BATCH, digest.hexdigest()) != digest.hexdigest():
            rank_zero_warn(_OTHER_BATCH)

    @override
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Record the loss of the step."""
        seconds = self._now[2]
        if self._warmed_up:
            seconds += perf_counter() - self._batch_start
        self._warmed_up = True
        step = float(steps_taken(trainer) + 1)
        # A batch whose gradients are accumulated belongs to the step that it leads to.
        losses = self._pending.pop(self._now, []) if self._now[0] == step else []
        self._now = (step, _epochs(trainer, batch_idx), seconds)
        loss = self._loss_of_batch(trainer, pl_module, outputs)
        self._pending[self._now] = losses if loss is None else [*losses, loss]
        if self.baseline is not None and is_logged(trainer, pl_module):
            gap = self.metrics.gap_of_step(mean_of(self._pending[self._now]), step)
            publish(trainer, {tags.gap_tag(self.goal.loss): gap})

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the metric that was logged before this validation."""
        self._before_validation = trainer.callback_metrics.get(self.goal.metric)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the validation metric."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        value = trainer.callback_metrics.get(self.goal.metric)
        if not is_new(value, self._before_validation):
            return
        self._has_metric = True
        self._add_metric(trainer, value)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record what is known of the epoch as a whole only: a mean loss, a metric of training."""
        self.logged |= {tag for tag in trainer.callback_metrics if not tags.is_own(tag)}
        for tag, recorded in (
            (self.goal.loss, self._has_loss),
            (self.goal.metric, self._has_metric),
        ):
            value = trainer.callback_metrics.get(tag)
            if recorded or not is_new(value, self._before_epoch.get(tag)):
                continue
            if tag == self.goal.metric:
                self._add_metric(trainer, value)
            elif (loss := scalar_of(value)) is not None:
                self._pending.setdefault(self._now, []).append(loss)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the record, then summarise and log it."""
        self._flush()
        if (first := self.run.first_weights).has_unknown:
            self.run.note_weights(with_late_weights(first, pl_module, has_ended=True))
        self.run.curves = self.metrics.synced_curves()
        self.run.final = {tag: curve.values[-1] for tag, curve in self.run.curves.items()}
        self.run.timing = Timing.of(self.run.curve(self.goal.loss))
        if self.file is not None and trainer.is_global_zero:
            save_run(self.run, self.file)
        if not self.run.curve(self.goal.loss).steps:
            rank_zero_warn(self.words_for_no_loss)
        self.summary = self.metrics.summary()
        publish(trainer, self.summary)
        self.summary |= self.metrics.comparison()

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Forget a checkpoint that was loaded for a fit that has not begun."""
        self._restored = False

    @property
    def words_for_no_loss(self) -> str:
        """What to say of a run whose loss was never recorded."""
        return (
            f"No loss was recorded under {self.goal.loss!r}; logged were {sorted(self.logged)}. "
            "Set `goal.loss` to one of those, log it in `training_step`, or return the loss."
        )

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the record, so that a resumed run continues its curves."""
        self._flush()
        about = replace(self.run, curves={}).to_dict()
        return {"format": FORMAT, "run": about, "metrics": self.metrics.state_dict()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a saved record, in a fit: Lightning restores callbacks to validate and test too.

        Raises:
            ValueError: If the state is damaged, or was written by a later version.
        """
        if not self._is_fitting:
            return
        run = RecordedRun.from_dict(_entry(state_dict, "run"))
        metrics = ConvergenceMetrics(self.goal, self.baseline)
        if "metrics" in state_dict:
            try:
                metrics.load_state_dict(state_dict["metrics"])
            except ValueError as error:
                raise ValueError(_UNREADABLE.format(error)) from error
        else:  # written by a version whose record held the points
            metrics.add_run(run)
        if run.fingerprint != self.fingerprint:  # the two settings made it together: it is neither
            run.fingerprint = ""
        self._begin()
        self.run, self.metrics, self._now = run, metrics, metrics.last_instant
        self._restored = True

    def _begin_epoch(self, trainer: Trainer) -> None:
        logged = trainer.callback_metrics
        self._before_epoch = {tag: logged.get(tag) for tag in (self.goal.loss, self.goal.metric)}
        self._has_loss = self._has_metric = False

    def _loss_of_batch(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any
    ) -> Tensor | None:
        """Return what was logged in this batch, else what `training_step` returned."""
        logged = trainer.callback_metrics.get(self.goal.loss)
        if is_new(logged, self._before_batch):
            loss = scalar_of(logged)
        else:
            loss = scalar_of(outputs.get("loss") if isinstance(outputs, Mapping) else outputs)
            if loss is not None and pl_module.automatic_optimization:
                loss = loss * trainer.accumulate_grad_batches  # Lightning has divided by it
        self._has_loss |= loss is not None
        return loss

    def _add_metric(self, trainer: Trainer, value: Tensor) -> None:
        self._flush()
        self.metrics.add_metric(self._now, float(value))
        self.run.curves = self.metrics.curves()
        show(trainer, self.metrics.summary())
        if self.baseline is not None:
            publish(trainer, self.metrics.comparison(), self.metrics.gaps_ended(self._now[0]))

    def _flush(self) -> None:
        """Move pending losses into the metrics; reading them waits for the device."""
        pending, self._pending = self._pending, {}
        losses = iter(numbers_of([loss for group in pending.values() for loss in group]))
        means = [
            sum(islice(losses, len(group))) / len(group) if group else None
            for group in pending.values()
        ]
        self.metrics.add_losses(list(pending), means)


def steps_taken(trainer: Trainer) -> int:
    """Count the steps of a fit as loggers do: one for all optimizers, also where they step by hand.

    `trainer.global_step` counts each optimizer, and nothing where none is stepped through
    Lightning.
    """
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def _epochs(trainer: Trainer, batch_idx: int) -> float:
    """Epochs so far, as a fraction; whole ones only where the length of an epoch is not known."""
    if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
        return trainer.current_epoch + 1.0
    return trainer.current_epoch + (batch_idx + 1) / max(trainer.num_training_batches, 1)


def _entry(state: Any, name: str) -> Any:
    if not isinstance(state, Mapping) or name not in state:
        raise ValueError(_UNREADABLE.format(f"it has no {name!r}"))
    if state.get("format", FORMAT) != FORMAT:
        raise ValueError(_UNREADABLE.format(f"format {state['format']}, known is {FORMAT}"))
    return state[name]


FIRST_BATCH = "first_batch"

_NO_DIRECTION = (
    "Neither `goal.higher_is_better` nor the name `{}` tells which way it improves: what is logged "
    "of its best value, a target and a speed-up takes more as better. Write true or false."
)

_OTHER_BATCH = (
    "The first batch is not the one that the baseline began with, so the two runs are no pair: "
    "their difference mixes the perturbation with the data. Where data or code have changed since "
    "the baseline was trained, train it anew with `--baseline.reuse false`."
)

_UNREADABLE = (
    "Cannot continue the record of this checkpoint: {}. It is damaged or from a newer version; "
    "resume without the ConvergenceCallback, or with the version that wrote it."
)

"""What the convergence callback records, from modules of every shape, and in fits in a row."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torchmetrics import MetricCollection

from lightning_qsgd.tracking import tags
from lightning_qsgd.training import ConvergenceCallback, Goal
from lightning_qsgd.training.recorded_run import RecordedRun, load_run
from tests.integration.modules import BATCHES, Finished, fit, loader, make_trainer, sgd

pytestmark = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
GOAL = Goal(target=0.4)
STEPS = [float(step) for step in range(1, BATCHES + 1)]


def record(module: Any, *callbacks: Callback, goal: Goal = GOAL, **settings: Any) -> RecordedRun:
    callback = ConvergenceCallback(goal)
    trainer = make_trainer(callback, *callbacks, **settings)
    trainer.fit(module, loader(), loader(count=1))
    return callback.run


@pytest.fixture(scope="module")
def plain() -> RecordedRun:
    """The run that the modules below take too, logged in the usual way."""
    return record(Finished())


class Quiet(Finished):
    """Computes the usual loss and logs nothing."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return nn.functional.cross_entropy(self.network(x), y)


class LoggedPerEpoch(Quiet):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss


class LoggedTwice(Quiet):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return {"loss": loss, "other": 1}


class LoggedNowAndThen(Quiet):
    """Logs at every third step; between them the last logged value is an old one."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if batch_idx % 3 == 0:
            self.log("train/loss", loss)
        return loss


class OfShapeOne(Quiet):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx).reshape(1)


class ByHand(Quiet):
    """Steps an optimizer that Lightning does not see, so that its global step stays 0."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        optimizer = self.optimizers().optimizer
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("train/loss", loss)


class TwoOptimizers(ByHand):
    """Lightning's global step counts both."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = Quiet.training_step(self, batch, batch_idx)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        return {"loss": loss, "other": None}

    def configure_optimizers(self) -> Any:
        return [sgd(self.network[0].parameters()), sgd(self.network[3].parameters())]


SHAPES = [Quiet, LoggedPerEpoch, LoggedTwice, LoggedNowAndThen, OfShapeOne, ByHand, TwoOptimizers]


@pytest.mark.parametrize("module", SHAPES, ids=lambda module: module.__name__)
def test_the_loss_of_every_step_is_recorded_however_the_module_gives_it(
    module: type[Finished], plain: RecordedRun
) -> None:
    losses = record(module(), max_epochs=2).curve("train/loss")
    assert losses.steps == [float(step) for step in range(1, 2 * BATCHES + 1)]
    assert losses.values[:BATCHES] == pytest.approx(plain.curve("train/loss").values, rel=1e-6)
    assert losses.epochs[BATCHES - 1 :: BATCHES] == [1.0, 2.0]
    assert len(set(losses.values)) == 2 * BATCHES


@pytest.mark.parametrize("module", [Finished, Quiet, LoggedPerEpoch])
def test_accumulated_batches_are_one_step_with_the_mean_of_their_losses(
    module: type[Finished],
) -> None:
    def frozen(parameters: Any) -> Any:
        return torch.optim.SGD(parameters, lr=0.0)

    single = record(module(frozen)).curve("train/loss").values
    losses = record(module(frozen), accumulate_grad_batches=3).curve("train/loss")
    assert losses.steps == [1.0, 2.0, 3.0]
    means = [sum(part) / len(part) for part in (single[:3], single[3:6], single[6:])]
    assert losses.values == pytest.approx(means, rel=1e-6)
    assert losses.epochs == [3 / 8, 6 / 8, 1.0]


class EpochsOnly(ByHand):
    """Returns nothing and logs the mean of an epoch: none of its steps has a loss."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = Quiet.training_step(self, batch, batch_idx)
        self.log("train/loss", loss, on_step=False, on_epoch=True)


def test_a_loss_that_is_known_per_epoch_only_is_recorded_once_per_epoch() -> None:
    losses = record(EpochsOnly(), max_epochs=2).curve("train/loss")
    assert losses.steps == [float(BATCHES), 2.0 * BATCHES]


class Speechless(ByHand):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("other", torch.tensor(1.0))
        return {"loss": torch.ones(3)}


def test_a_run_without_a_loss_says_so_and_names_what_was_logged(tmp_path: Path) -> None:
    callback = ConvergenceCallback(GOAL, file=tmp_path / "record.json")
    trainer = make_trainer(callback)
    with pytest.warns(
        UserWarning,
        match=r"No loss was recorded under 'train/loss'; logged were \['other', 'val/accuracy'",
    ):
        trainer.fit(Speechless(), loader(), loader(count=1))
    assert tags.AREA_UNDER_LOSS_CURVE not in callback.summary
    assert load_run(tmp_path / "record.json").curve("val/accuracy").steps == [float(BATCHES)]


def test_the_record_is_saved_before_it_is_summarised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = ConvergenceCallback(GOAL, file=tmp_path / "record.json")

    def broken(module: Any) -> None:
        monkeypatch.setattr(callback.metrics, "summary", lambda: 1 / 0)

    module = Finished()
    module.on_train_epoch_end = broken.__get__(module)  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        make_trainer(callback).fit(module, loader())
    assert load_run(tmp_path / "record.json").curve("train/loss").steps == STEPS


class RewardOfTraining(Quiet):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("reward", float(batch_idx), on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("validates", [True, False])
def test_a_metric_of_training_is_recorded_at_the_end_of_each_epoch(validates: bool) -> None:
    callback = ConvergenceCallback(Goal(metric="reward"))
    trainer = make_trainer(callback, max_epochs=2)
    trainer.fit(RewardOfTraining(), loader(), loader(count=1) if validates else None)
    curve = callback.run.curve("reward")
    assert curve.steps == [float(BATCHES), 2.0 * BATCHES]
    assert curve.values == [3.5, 3.5]


def test_validations_within_an_epoch_are_recorded_where_they_are() -> None:
    curve = record(Finished(), val_check_interval=0.5).curve("val/accuracy")
    assert (curve.steps, curve.epochs) == ([4.0, 8.0], [0.5, 1.0])


def test_metrics_are_a_collection_that_says_what_the_summary_says() -> None:
    callback = ConvergenceCallback(GOAL)
    make_trainer(callback).fit(Finished(), loader(), loader(count=1))
    collection = callback.metrics.collections["metric"]
    assert isinstance(collection, MetricCollection)
    best = callback.summary[tags.best_tag("val/accuracy")]
    assert collection.compute()["best"].item() == best


class Watch(Callback):
    """Keeps what the other callbacks can watch at each validation."""

    def __init__(self) -> None:
        self.seen: list[set[str]] = []

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.seen.append({str(tag) for tag in trainer.callback_metrics})


def test_scalars_can_be_watched_by_callbacks_that_come_first_in_the_list(tmp_path: Path) -> None:
    best = tags.best_tag("val/accuracy")
    gap, goal = tags.gap_tag("val/accuracy"), Goal(target=0.0)
    base = ConvergenceCallback(goal)
    make_trainer(base).fit(Finished(), loader(), loader(count=1))
    stop = EarlyStopping(best, mode="max", patience=2, min_delta=2.0)
    keep = ModelCheckpoint(tmp_path, monitor=gap, mode="max", filename="kept")
    callbacks = [stop, Watch(), ConvergenceCallback(goal, base.run), keep]
    trainer = make_trainer(*callbacks, max_epochs=9, enable_checkpointing=True)
    trainer.fit(Finished(), loader(), loader(count=1))
    assert trainer.current_epoch == 3
    assert keep.best_model_score == 0.0
    assert {best, gap, tags.gap_tag("train/loss"), tags.SPEEDUP} <= callbacks[1].seen[1]
    assert {tags.STEPS_TO_TARGET, best} <= set(map(str, trainer.callback_metrics))


class Noted(CSVLogger):
    """Keeps what was logged at each step."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.steps: dict[str, list[int | None]] = {}

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        for tag in metrics:
            self.steps.setdefault(tag, []).append(step)


def test_a_run_that_outlasts_its_baseline_logs_no_gap_behind_its_end(tmp_path: Path) -> None:
    base = ConvergenceCallback(GOAL)
    make_trainer(base).fit(Finished(), loader(), loader(count=1))
    longer, noted = ConvergenceCallback(GOAL, base.run), Noted(tmp_path)
    trainer = make_trainer(longer, max_epochs=3, logger=noted)
    trainer.fit(Finished(), loader(), loader(count=1))
    gap = tags.gap_tag("val/accuracy")
    assert noted.steps[gap] == [BATCHES - 1]  # loggers count from 0
    assert max(noted.steps[tags.gap_tag("train/loss")]) < BATCHES
    assert noted.steps[tags.SPEEDUP][-1] == 3 * BATCHES - 1
    assert gap in trainer.callback_metrics


class Energy(Finished):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/energy", 1.0)


def test_a_fit_of_a_metric_of_unknown_direction_runs_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"nor the name `val/energy` tells.*Write true or false"):
        unknown = record(Energy(), goal=Goal(metric="val/energy"))
    assert unknown.curve("val/energy").values == [1.0]
    record(Energy(), goal=Goal(metric="val/energy", higher_is_better=False))


# Fits in a row.


def points(run: RecordedRun) -> Any:
    return {tag: (curve.steps, curve.epochs, curve.values) for tag, curve in run.curves.items()}


def test_one_callback_records_each_of_several_folds_alone() -> None:
    callback, runs = ConvergenceCallback(GOAL), []
    for lr in (0.1, 0.01):
        module = Finished(lambda parameters, lr=lr: torch.optim.SGD(parameters, lr=lr))
        make_trainer(callback).fit(module, loader(), loader(count=1))
        runs.append(callback.run)
    assert [run.curve("train/loss").steps for run in runs] == [STEPS, STEPS]
    assert runs[0].curve("train/loss").values != runs[1].curve("train/loss").values


class Failing(Callback):
    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 3:
            raise KeyboardInterrupt("the cell was stopped")


def test_a_cell_that_was_stopped_and_run_again_records_the_second_run_alone(
    plain: RecordedRun,
) -> None:
    callback = ConvergenceCallback(GOAL)
    with pytest.raises(SystemExit):
        make_trainer(callback, Failing()).fit(Finished(), loader(), loader(count=1))
    make_trainer(callback).fit(Finished(), loader(), loader(count=1))
    assert points(callback.run) == points(plain)


def test_a_second_fit_of_the_same_trainer_continues_its_record() -> None:
    callback, module = ConvergenceCallback(GOAL), Finished()
    trainer = make_trainer(callback)
    trainer.fit(module, loader(), loader(count=1))
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, loader(), loader(count=1))
    assert callback.run.curve("train/loss").steps == [float(s) for s in range(1, 2 * BATCHES + 1)]
    assert callback.run.curve("val/accuracy").epochs == [1.0, 2.0]


def test_a_checkpoint_is_continued_by_its_own_fit_and_by_no_later_one(tmp_path: Path) -> None:
    base = ConvergenceCallback(GOAL)
    settings = {"max_epochs": 2, "enable_checkpointing": True}
    keep = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    make_trainer(base, keep, **settings).fit(Finished(), loader(), loader(count=1))
    resumed = ConvergenceCallback(GOAL, baseline=base.run)
    module = Finished()
    make_trainer(resumed, max_epochs=2).fit(
        module, loader(), loader(count=1), ckpt_path=tmp_path / "epoch=0.ckpt"
    )
    assert points(resumed.run) == points(base.run)
    assert resumed.summary[tags.gap_tag("train/loss")] == 0.0
    make_trainer(resumed).fit(Finished(), loader(), loader(count=1))
    assert resumed.run.curve("train/loss").steps == STEPS


def trained() -> ConvergenceCallback:
    callback = ConvergenceCallback(GOAL)
    make_trainer(callback).fit(Finished(), loader(), loader(count=1))
    return callback


def test_points_are_in_checkpoints_whatever_goal_and_baseline_continue_them() -> None:
    callback = trained()
    richer = ConvergenceCallback(Goal(target=0.1), baseline=callback.run)
    richer.load_state_dict(callback.state_dict())
    assert richer.metrics.summary()[tags.EPOCHS_TO_TARGET] == 1.0
    assert richer.metrics.comparison()[tags.gap_tag("val/accuracy")] == 0.0


def test_the_state_of_an_earlier_version_is_continued() -> None:
    callback = trained()
    later = ConvergenceCallback(GOAL)
    later.load_state_dict({"run": callback.run.to_dict(), "seconds": 1.5})
    assert later.metrics.curves() == callback.run.curves
    assert later.metrics.summary() == callback.metrics.summary()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: {}, r"it has no 'run'.*damaged or from a newer version"),
        (lambda state: [], r"it has no 'run'"),
        (lambda state: {**state, "format": 99}, r"format 99, known is 2.*version that wrote it"),
        (lambda state: {**state, "metrics": {}}, r"points of 'loss' do not fit"),
        (lambda state: {**state, "metrics": {**state["metrics"], "loss": {"a": 1}}}, r"'loss'"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    damage: Any, message: str
) -> None:
    state = trained().state_dict()
    callback = trained()
    before = callback.metrics.summary()
    with pytest.raises(ValueError, match=message):
        callback.load_state_dict(damage(state))
    assert callback.metrics.summary() == before


def test_a_diverged_loss_is_recorded_as_it_is() -> None:
    class Diverging(Quiet):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss: Tensor = super().training_step(batch, batch_idx)
            return loss * math.nan if batch_idx == 5 else loss

    values = record(Diverging()).curve("train/loss").values
    assert math.isnan(values[5])
    assert not any(map(math.isnan, values[:5]))


def test_a_callback_costs_a_fit_no_random_number() -> None:
    torch.manual_seed(5)
    bare = fit(Finished(dropout=0.5))
    torch.manual_seed(5)
    assert torch.equal(fit(Finished(dropout=0.5), ConvergenceCallback(GOAL)), bare)

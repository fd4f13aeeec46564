"""What a run writes to TensorBoard, next to its losses."""

import pickle
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.data import DigitsDataModule
from lightning_qsgd.nn import MLP
from lightning_qsgd.optimizers import InvisiblePerturbationWarning
from lightning_qsgd.perturbations import (
    AllEntries,
    Learning,
    Perturbation,
    RelativeInjection,
    Strength,
)
from lightning_qsgd.tracking import comparison_layout, tags
from lightning_qsgd.training import (
    Classifier,
    ConvergenceCallback,
    Goal,
    PerturbationCallback,
    PerturbationMonitor,
    TensorBoardCallback,
)
from lightning_qsgd.training.publishing import name_in_progress_bar
from lightning_qsgd.training.recorded_run import load_run
from tests.event_files import read_scalars
from tests.integration.modules import (
    BATCHES,
    VISIBLE,
    Finished,
    Perturbed,
    loader,
    make_trainer,
    sgd,
)
from tests.learning_cases import Entangled

EVERY_STEP = [
    tags.RELATIVE_SIZE,
    tags.COSINE,
    tags.TOUCHED_SHARE,
    tags.ZERO_SHARE,
    tags.CIRCUITS,
    tags.SECONDS,
    tags.SHARE_OF_STEP,
]
GOAL = Goal(metric="val/accuracy", target=0.2)
CIRCUIT = Perturbation(SamplerBackend(SuperpositionCircuit(2)), AllEntries())


def run(folder: Path, *callbacks: Any, module: Any = None, **settings: Any) -> dict[str, Any]:
    """Train two epochs with a validation each, and read the scalars back."""
    logger = TensorBoardLogger(folder.parent, "", folder.name, default_hp_metric=False)
    settings = {"max_epochs": 2, "log_every_n_steps": 1, **settings}
    trainer = make_trainer(*callbacks, logger=logger, **settings)
    trainer.fit(module or Finished(), loader(), loader(count=1))
    return read_scalars(folder)


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


@pytest.mark.parametrize("front_end", ["mixin", "callback"])
def test_perturbation_is_logged_at_the_steps_of_the_loss(front_end: str, tmp_path: Path) -> None:
    if front_end == "mixin":
        scalars = run(tmp_path / "run", module=Perturbed(perturbation=CIRCUIT))
    else:
        scalars = run(tmp_path / "run", PerturbationCallback(CIRCUIT))
    steps = list(range(2 * BATCHES))
    assert scalars["train/loss"].steps.tolist() == steps
    for tag in EVERY_STEP:
        assert scalars[tag].steps.tolist() == steps, tag
    assert scalars[tags.MODEL_RELATIVE_SIZE].steps.tolist() == [0, 10]
    assert (scalars[tags.CIRCUITS].values == 26).all()  # ceil(numel / 2) over the four tensors
    assert (scalars[tags.TOUCHED_SHARE].values == 1).all()
    assert (abs(scalars[tags.COSINE].values) <= 1).all()
    assert (scalars[tags.RELATIVE_SIZE].values > 1e-3).all()
    assert (
        (scalars[tags.SHARE_OF_STEP].values > 0) & (scalars[tags.SHARE_OF_STEP].values < 1)
    ).all()


def test_what_was_learned_is_logged_even_when_it_is_a_strength_of_zero(tmp_path: Path) -> None:
    learning = Learning(strength_rate=0.5, weights_rate=0.3)
    callback = PerturbationCallback(replace(VISIBLE, backend=Entangled(), learning=learning))
    scalars = run(tmp_path / "run", callback, log_every_n_steps=2)
    steps = list(range(1, 2 * BATCHES, 2))
    for tag in (tags.STRENGTH_FACTOR, tags.WEIGHTS_CHANGE, tags.RELATIVE_SIZE):
        assert scalars[tag].steps.tolist() == steps
    factor, size = scalars[tags.STRENGTH_FACTOR].values, scalars[tags.RELATIVE_SIZE].values
    assert ((size == 0) == (factor == 0)).all()
    assert len(set(factor.tolist())) > 1
    assert (scalars[tags.WEIGHTS_CHANGE].values > 0).all()
    assert (scalars[tags.CIRCUITS].values == 2 * 26).all()  # once more to learn from


def test_only_every_fifth_step_is_logged_when_asked(tmp_path: Path) -> None:
    scalars = run(tmp_path / "run", PerturbationCallback(VISIBLE), log_every_n_steps=5)
    assert scalars["train/loss"].steps.tolist() == [4, 9, 14]
    for tag in EVERY_STEP:
        assert scalars[tag].steps.tolist() == [4, 9, 14], tag


def test_with_accumulation_each_optimizer_step_is_logged_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    scalars = run(folder, PerturbationCallback(VISIBLE), accumulate_grad_batches=4)
    assert scalars["train/loss"].steps.tolist() == [0, 1, 2, 3]
    assert scalars[tags.COSINE].steps.tolist() == [0, 1, 2, 3]
    assert len(events(folder).Scalars(tags.COSINE)) == 4


def test_two_optimizers_have_tags_of_their_own(tmp_path: Path) -> None:
    class Two(Finished):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(super().training_step(batch, batch_idx))
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()

        def configure_optimizers(self) -> Any:
            return [sgd(self.network[0].parameters()), sgd(self.network[3].parameters())]

    scalars = run(tmp_path / "run", PerturbationCallback(VISIBLE), module=Two())
    assert tags.COSINE not in scalars
    first, second = (scalars[f"{tags.RELATIVE_SIZE}/{index}"] for index in (0, 1))
    assert len(first.steps) == len(second.steps) == 2 * BATCHES
    assert (first.values != second.values).any()
    both = scalars[tags.RELATIVE_SIZE]
    assert both.steps.tolist() == first.steps.tolist()
    smaller, larger = (choose(first.values, second.values) for choose in (np.minimum, np.maximum))
    assert ((smaller <= both.values) & (both.values <= larger)).all()
    whole = scalars[tags.MODEL_RELATIVE_SIZE]
    assert whole.steps.tolist() == scalars[f"{tags.MODEL_RELATIVE_SIZE}/0"].steps.tolist()


def test_monitor_logs_a_module_that_perturbs_itself_once_per_step(tmp_path: Path) -> None:
    run(tmp_path / "run", PerturbationMonitor(), module=Perturbed(perturbation=VISIBLE))
    logged = events(tmp_path / "run").Scalars(tags.RELATIVE_SIZE)
    assert [point.step for point in logged] == list(range(2 * BATCHES))


def test_convergence_is_logged_and_saved(tmp_path: Path) -> None:
    callback = ConvergenceCallback(GOAL, file=tmp_path / "record.json", fingerprint="abc")
    scalars = run(tmp_path / "run", callback, TensorBoardCallback({"a": {"b": 1}}, goal=GOAL))
    for tag in (tags.AREA_UNDER_LOSS_CURVE, tags.STEPS_TO_TARGET, tags.best_tag("val/accuracy")):
        assert scalars[tag].values[-1] == pytest.approx(callback.summary[tag])
    record = load_run(tmp_path / "record.json")
    assert record == callback.run
    assert record.fingerprint == "abc"
    losses = record.curve("train/loss")
    assert losses.steps == [float(step) for step in range(1, 17)]
    assert losses.values == pytest.approx(scalars["train/loss"].values.tolist())
    assert losses.epochs[7:9] == pytest.approx([1.0, 1.125])
    assert record.curve("val/accuracy").epochs == [1.0, 2.0]
    assert list(losses.seconds) == sorted(losses.seconds)
    assert losses.seconds[0] == 0.0


def test_gap_to_the_baseline_is_logged_at_the_steps_of_the_loss(tmp_path: Path) -> None:
    base = ConvergenceCallback(GOAL)
    plain = run(tmp_path / "plain", base)
    arm = ConvergenceCallback(GOAL, baseline=base.run)
    scalars = run(tmp_path / "arm", PerturbationCallback(VISIBLE), arm)
    gap = scalars[tags.gap_tag("train/loss")]
    assert gap.steps.tolist() == scalars["train/loss"].steps.tolist()
    expected = scalars["train/loss"].values - plain["train/loss"].values
    assert gap.values == pytest.approx(expected, abs=1e-6)
    assert gap.values[0] == 0.0
    assert abs(gap.values[-1]) > 1e-4
    accuracy = scalars[tags.gap_tag("val/accuracy")]
    assert accuracy.steps.tolist() == scalars["val/accuracy"].steps.tolist()
    assert tags.SPEEDUP in scalars
    assert arm.summary[tags.SPEEDUP] == scalars[tags.SPEEDUP].values[-1]


def test_a_baseline_from_other_weights_is_refused() -> None:
    base = ConvergenceCallback(GOAL)
    make_trainer(base).fit(Finished(), loader())
    other = Finished()
    other.network[0].weight.data += 1
    with pytest.raises(RuntimeError, match=r"started from other weights.*train the baseline anew"):
        make_trainer(ConvergenceCallback(GOAL, baseline=base.run)).fit(other, loader())


class MovedLate(Finished):
    """Sets other weights once the fit has begun, before its first batch."""

    def __init__(self, hook: str, shift: float) -> None:
        super().__init__()
        self.hook, self.shift = hook, shift

    def on_train_start(self) -> None:
        self._move("on_train_start")

    def on_train_epoch_start(self) -> None:
        self._move("on_train_epoch_start")

    def _move(self, hook: str) -> None:
        if hook == self.hook and self.current_epoch == 0:
            with torch.no_grad():
                self.network[0].weight += self.shift


@pytest.mark.parametrize("hook", ["on_train_start", "on_train_epoch_start"])
def test_weights_that_a_hook_sets_before_the_first_batch_count(hook: str) -> None:
    base = ConvergenceCallback(GOAL)
    make_trainer(base).fit(MovedLate(hook, 0.5), loader())
    for other in (Finished(), MovedLate(hook, 0.25)):
        before = {name: value.clone() for name, value in other.state_dict().items()}
        if isinstance(other, MovedLate):
            before["network.0.weight"] += 0.25
        with pytest.raises(RuntimeError, match="started from other weights"):
            make_trainer(ConvergenceCallback(GOAL, baseline=base.run)).fit(other, loader())
        assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    same = ConvergenceCallback(GOAL, baseline=base.run)
    make_trainer(same).fit(MovedLate(hook, 0.5), loader())
    assert same.run.first_weights == base.run.first_weights


def test_layout_circuit_and_hyperparameters_are_written(tmp_path: Path) -> None:
    page = TensorBoardCallback(
        {"optimizer": {"lr": 0.1}}, SamplerBackend(SuperpositionCircuit(2)), GOAL
    )
    convergence = ConvergenceCallback(GOAL)
    scalars = run(tmp_path / "run", convergence, page)
    assert scalars["final/val/accuracy"].values[-1] == pytest.approx(
        convergence.summary["final/val/accuracy"]
    )
    written = events(tmp_path / "run")
    tensors = set(written.Tags()["tensors"])
    assert {f"{tags.CIRCUIT_TEXT}/text_summary", "custom_scalars__config__"} <= tensors
    assert tags.CIRCUIT_PICTURE in written.Tags()["images"]
    plugins = written.summary_metadata
    hparams = plugins["_hparams_/session_start_info"].plugin_data.content
    assert b"optimizer/lr" in hparams
    assert "_hparams_/experiment" not in plugins  # TensorBoard would take it for that of all runs


def charts(folder: Path) -> dict[str, list[str]]:
    """Return the titles of the charts of the page that counts, by category."""
    event = events(folder).Tensors("custom_scalars__config__")[-1]
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    return {one.title: [chart.title for chart in one.chart] for one in layout.category}


def test_every_chart_of_a_fit_shows_something(tmp_path: Path) -> None:
    plain = ConvergenceCallback(GOAL)
    run(tmp_path / "plain", plain, TensorBoardCallback(goal=GOAL))
    assert charts(tmp_path / "plain") == {"every run": ["train/loss", "val/accuracy"]}

    arm = ConvergenceCallback(GOAL, baseline=plain.run)
    perturbed = PerturbationCallback(VISIBLE)
    scalars = run(tmp_path / "arm", perturbed, arm, TensorBoardCallback(goal=GOAL))
    shown = charts(tmp_path / "arm")
    assert list(shown) == ["every run", "gap to the baseline", "perturbation size", "cost"]
    patterns = [
        pattern
        for category in comparison_layout([GOAL.loss, GOAL.metric]).items()
        for title, (_, patterns) in category[1].items()
        if title in shown.get(category[0], ())
        for pattern in patterns
    ]
    assert len(patterns) == sum(map(len, shown.values()))
    for pattern in patterns:
        assert any(re.search(pattern, tag) for tag in scalars), pattern


def test_without_a_circuit_none_is_drawn(tmp_path: Path) -> None:
    run(tmp_path / "run", TensorBoardCallback())
    assert tags.CIRCUIT_PICTURE not in events(tmp_path / "run").Tags()["images"]


def test_other_loggers_get_the_scalars_too(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, "", "run")
    callbacks = [PerturbationCallback(VISIBLE), TensorBoardCallback(), ConvergenceCallback(GOAL)]
    trainer = make_trainer(*callbacks, logger=logger, log_every_n_steps=1)
    trainer.fit(Finished(), loader(), loader(count=1))
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    assert {tags.RELATIVE_SIZE, tags.best_tag("val/accuracy")} <= set(header.split(","))


def test_all_callbacks_work_without_a_logger() -> None:
    convergence = ConvergenceCallback(GOAL)
    callbacks = [PerturbationCallback(VISIBLE), convergence, TensorBoardCallback()]
    make_trainer(*callbacks).fit(Finished(), loader(), loader(count=1))
    assert tags.STEPS_TO_TARGET in convergence.summary
    assert len(convergence.run.curve("train/loss").values) == BATCHES


def test_a_validation_outside_of_a_fit_is_not_recorded() -> None:
    convergence = ConvergenceCallback(GOAL)
    trainer = make_trainer(convergence)
    trainer.validate(Finished(), loader(), verbose=False)
    assert convergence.run.curves == {}


class OnAdam(Classifier):
    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def invisible_warnings(perturbation: Perturbation, folder: Path) -> list[Any]:
    """Train 120 logged steps on digits and return our warnings."""
    logger = TensorBoardLogger(folder, "", "run", default_hp_metric=False)
    limits = {"max_epochs": 4, "limit_train_batches": 30, "limit_val_batches": 1}
    callback = PerturbationCallback(perturbation)
    trainer = make_trainer(callback, logger=logger, log_every_n_steps=1, **limits)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(OnAdam(MLP()), datamodule=DigitsDataModule(order_seed=0))
    return [w for w in caught if issubclass(w.category, InvisiblePerturbationWarning)]


def test_an_invisible_perturbation_is_warned_of_once_per_run(tmp_path: Path) -> None:
    (warning,) = invisible_warnings(Perturbation(strength=1e-3), tmp_path)
    assert "this run tells nothing about it" in str(warning.message)


def test_paper_settings_on_adam_are_warned_of_once_per_run(tmp_path: Path) -> None:
    paper = Perturbation(SamplerBackend(SuperpositionCircuit(4)), strength=0.5)
    (warning,) = invisible_warnings(paper, tmp_path)
    assert "this run tells nothing about it" in str(warning.message)


def test_a_visible_perturbation_is_not_warned_of(tmp_path: Path) -> None:
    relative = Perturbation(coordinates=AllEntries(), injection=RelativeInjection())
    assert invisible_warnings(relative, tmp_path) == []


def test_scalars_of_the_perturbation_can_be_watched(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path / "kept", monitor=tags.RELATIVE_SIZE, filename="kept")
    settings = {"enable_checkpointing": True, "log_every_n_steps": 1}
    trainer = make_trainer(
        PerturbationCallback(VISIBLE), keep, logger=CSVLogger(tmp_path), **settings
    )
    trainer.fit(Finished(), loader(), loader(count=1))
    assert keep.best_model_score > 0
    assert {tags.RELATIVE_SIZE, tags.COSINE} <= set(trainer.callback_metrics)


class Kept(DummyLogger):
    """A logger of another kind: keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, Any] = {}

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.told |= dict(params)


class WithHyperparameters(Finished):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()


@pytest.mark.parametrize("mixin", [False, True])
def test_hyperparameters_of_every_logger_name_the_perturbation(mixin: bool, tmp_path: Path) -> None:
    kept, csv = Kept(), CSVLogger(tmp_path, "", "csv")
    board = TensorBoardLogger(tmp_path, "", "board")
    module = Perturbed(perturbation=VISIBLE) if mixin else WithHyperparameters()
    callbacks = [] if mixin else [PerturbationCallback(VISIBLE)]
    make_trainer(*callbacks, logger=[kept, csv, board]).fit(module, loader())
    own = {} if mixin else {"width": 3}
    for told in (kept.told, csv.experiment.hparams, dict(board.hparams)):
        assert told["perturbation"]["strength"] == 0.5
        assert told["perturbation"]["coordinates"] == "AllEntries()"
        assert own.items() <= told.items()
    assert "strength: 0.5" in (tmp_path / "csv" / "hparams.yaml").read_text()
    row = events(tmp_path / "board").summary_metadata["_hparams_/session_start_info"]
    assert b"perturbation/strength" in row.plugin_data.content
    assert b"width" in row.plugin_data.content or mixin


def test_nothing_is_said_of_hyperparameters_where_the_trainer_is_told_so() -> None:
    kept = Kept()
    trainer = make_trainer(PerturbationCallback(VISIBLE), logger=kept, enable_autolog_hparams=False)
    trainer.fit(Finished(), loader())
    assert kept.told == {}


def test_one_callback_keeps_the_sizes_of_the_last_fit_alone(tmp_path: Path) -> None:
    callback, counts = PerturbationCallback(VISIBLE), []
    for fold in range(2):
        run(tmp_path / str(fold), callback)
        counts.append(len(callback.relative_sizes))
    assert counts == [2 * BATCHES] * 2


def test_the_progress_bar_says_which_run_it_is(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, "", "seed12")
    trainer = make_trainer(logger=logger, enable_progress_bar=True)
    name_in_progress_bar(trainer, "sine/seed12")
    module = Finished()
    trainer.fit(module, loader())
    shown = pickle.loads(pickle.dumps(trainer.progress_bar_callback.get_metrics))(trainer, module)
    assert shown["run"] == "sine/seed12"
    assert "v_num" not in shown


def test_what_never_meets_a_logged_step_is_logged_at_the_next_one(tmp_path: Path) -> None:
    every_second = replace(VISIBLE, strength=Strength(0.5, every=2))  # steps 0, 2, 4 and so on
    scalars = run(tmp_path / "run", PerturbationCallback(every_second), log_every_n_steps=6)
    assert scalars["train/loss"].steps.tolist() == [5, 11]
    for tag in (*EVERY_STEP, tags.MODEL_RELATIVE_SIZE):
        assert scalars[tag].steps.tolist()[-1] == 11, tag


def test_optimizers_that_take_turns_are_both_logged(tmp_path: Path) -> None:
    scalars = run(
        tmp_path / "run", PerturbationCallback(VISIBLE), module=Turns(), log_every_n_steps=4
    )
    assert scalars[f"{tags.RELATIVE_SIZE}/0"].steps.tolist()
    assert (
        scalars[f"{tags.RELATIVE_SIZE}/0"].steps.tolist()
        == scalars[f"{tags.RELATIVE_SIZE}/1"].steps.tolist()
        == scalars[tags.RELATIVE_SIZE].steps.tolist()
    )


class Turns(Finished):
    """Steps two optimizers in turn, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimizer = self.optimizers()[batch_idx % 2]  # type: ignore[index]
        optimizer.zero_grad()
        self.manual_backward(sum(p.square().sum() for p in self.parameters()))
        optimizer.step()

    def configure_optimizers(self) -> Any:
        parameters = list(self.parameters())
        return [torch.optim.SGD(parameters[:2], 0.01), torch.optim.SGD(parameters[2:], 0.01)]

"""What projects do beside training, in runs of a comparison: each alone, or side by side."""

from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import pytest
import torch
import yaml

from lightning_qsgd.cli.fit_job import FitJob
from lightning_qsgd.compare import load_results
from lightning_qsgd.compare.executors import LocalExecutor
from lightning_qsgd.compare.planning.job import Job
from lightning_qsgd.compare.results.gains import relative_size
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.recorded_run import FINAL_WEIGHTS, RecordedRun
from tests.strangers import in_jobs, projects
from tests.strangers.test_strangers import Project, command, plan

__all__ = ["command"]
HERE = "tests.strangers.in_jobs"
PERTURBED = {"coordinates": "lightning_qsgd.AllEntries", "injection": "RelativeInjection"}


def of(model: type, data: type = projects.Points, **trainer: Any) -> dict[str, Any]:
    """The config of a run: two epochs of five steps, or as the trainer's arguments say."""
    made = Project(model, "val_nll", data=data, higher_is_better=False, trainer=trainer).config()
    made["model"]["class_path"] = f"{model.__module__}.{model.__name__}"
    made["data"] = f"{data.__module__}.{data.__name__}"
    return made


def run(folder: Path, *configs: dict[str, Any], processes: int = 2) -> list[Any]:
    """Train one run of each config, at a time; returns the records, or what the failures said."""
    jobs = [Job(f"arm{n}", 0, {"seed_everything": 0, **one}) for n, one in enumerate(configs)]
    executor = LocalExecutor(folder / "logs", processes)
    ended = {each.job.arm: each for each in executor.run(FitJob(), jobs, lambda _: None)}
    return [ended[job.arm].run or ended[job.arm].traceback for job in jobs]


@pytest.mark.parametrize("model", [in_jobs.PerStep, in_jobs.Hidden])
def test_the_metric_of_the_final_weights_is_that_of_the_last_validation(
    model: type, tmp_path: Path
) -> None:
    middle = {"max_epochs": -1, "max_steps": 8}  # the last validation of training is at step 5
    one, same = run(tmp_path, of(model, **middle), of(in_jobs.Plain, **middle))
    assert one.checks[FINAL_WEIGHTS] == same.checks[FINAL_WEIGHTS]
    assert one.final["val_nll"] == same.final["val_nll"]
    assert one.curves["val_nll"].steps == [5.0, 8.0]
    before, after = one.curves["val_nll"].values
    assert before != after == one.final["val_nll"]
    assert one.curves["val_nll"].values == same.curves["val_nll"].values


def test_runs_load_no_checkpoint_of_another_run(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    kept = {"dirpath": "ck", "filename": "best", "enable_version_counter": False}
    callback = "lightning.pytorch.callbacks.ModelCheckpoint"
    watch = {"class_path": callback, "init_args": {**kept, "monitor": "val_nll"}}
    arms = [
        {
            **of(in_jobs.RestoresBest, callbacks=[watch]),
            "perturbation": {**PERTURBED, "strength": s},
        }
        for s in (0.0, 0.5, 1.0)
    ]
    together = run(tmp_path, *arms, processes=3)
    alone = [run(tmp_path, arm)[0] for arm in arms]
    weights = [each.checks[FINAL_WEIGHTS] for each in together]
    assert len(set(weights)) == 3
    assert weights == [each.checks[FINAL_WEIGHTS] for each in alone]
    assert not Path("ck").exists()


def test_a_run_may_have_workers_that_read_its_data(tmp_path: Path) -> None:
    (ended,) = run(tmp_path, of(in_jobs.Plain, in_jobs.InWorkers))
    assert isinstance(ended, RecordedRun), ended


def test_one_run_at_a_time_prepares_the_data(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(tmp_path, *[of(in_jobs.Plain, in_jobs.Downloads)] * 2)
    assert all(isinstance(each, RecordedRun) for each in ended), ended


def test_preparing_from_the_module_and_once_waits_for_nobody(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (ended,) = run(tmp_path, of(in_jobs.Prepares, in_jobs.DownloadsOnce))
    assert isinstance(ended, RecordedRun), ended


def test_data_for_the_stage_fit_alone_are_explained(tmp_path: Path) -> None:
    (failure,) = run(tmp_path, of(in_jobs.Plain, in_jobs.Strict))
    assert "Cannot measure the final weights" in failure
    assert 'for the stage "validate" too' in failure


def test_loggers_are_as_many_as_were_asked_for_and_do_nothing(tmp_path: Path) -> None:
    csv = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "csv"}}
    (ended,) = run(tmp_path, of(in_jobs.Talks, logger=[csv, csv]))
    assert isinstance(ended, RecordedRun), ended


def test_a_baseline_leaves_the_names_of_checkpoints_to_the_arm(command: Any) -> None:
    callback = "lightning.pytorch.callbacks.ModelCheckpoint"
    kept = {"class_path": callback, "init_args": {"dirpath": "ck", "save_last": True}}
    config = {**of(in_jobs.Plain, callbacks=[kept]), "perturbation": {"strength": 0.5}}
    Path("fit.yaml").write_text(yaml.safe_dump(config))
    command("fit", "--config", "fit.yaml", "--baseline", "own")
    assert sorted(path.name for path in Path("ck").iterdir()) == [
        "epoch=1-step=10.ckpt",
        "last.ckpt",
    ]
    assert len(list(Path("runs").rglob("own/*/checkpoints/0/last.ckpt"))) == 1


def test_a_comparison_of_a_project_with_workers_ends_in_a_report(command: Any) -> None:
    printed = command("compare", "--config", plan(of(in_jobs.PerStep, in_jobs.InWorkers)))
    assert "FAILED" not in printed
    assert Path("out/report.html").is_file()


def fit(command: Any, config: dict[str, Any], *arguments: str, status: int = 0) -> str:
    """Run `fit` with a strength of 0.5."""
    perturbed = {**config, "perturbation": {"strength": 0.5}}
    Path("fit.yaml").write_text(yaml.safe_dump(perturbed))
    printed: str = command("fit", "--config", "fit.yaml", *arguments, status=status)
    return printed


def test_a_baseline_that_trains_more_than_the_arm_is_refused(command: Any) -> None:
    printed = fit(command, of(in_jobs.Probe), "--baseline", "adamw", status=2)
    assert "The baseline trained 83 numbers and this run trains 27" in printed
    assert "Baseline: Adam" in fit(command, of(in_jobs.Probe), "--baseline", "own")


def test_weights_that_the_baseline_has_trained_before_are_explained(command: Any) -> None:
    printed = fit(command, of(in_jobs.Shared), "--baseline", "own", status=2)
    assert "started from other weights (net.2.bias, net.2.weight)" in printed
    assert "make them in `__init__`" in printed


def test_a_checkpoint_without_first_weights_is_named(command: Any) -> None:
    trained = projects.Classifier()
    trainer = L.Trainer(max_epochs=1, logger=False, enable_progress_bar=False)
    trainer.fit(trained, projects.Points())
    trainer.save_checkpoint("plain.ckpt")
    state = torch.load("plain.ckpt", weights_only=False)
    del state["hyper_parameters"]  # LightningCLI would ask for a class path
    torch.save(state, "plain.ckpt")
    resumed = ("--ckpt_path", "plain.ckpt", "--baseline", "own")
    printed = fit(command, of(in_jobs.Plain), *resumed, status=2)
    assert "This run continues plain.ckpt, which says nothing of its first weights." in printed


def test_runs_without_a_seed_are_no_pair(command: Any) -> None:
    config = {**of(in_jobs.Plain), "seed_everything": False}
    printed = fit(command, config, "--baseline", "own", status=2)
    assert "Expected a number for `seed_everything` with `--baseline`, got False" in printed
    assert not Path("runs").exists()


def test_a_goal_of_training_is_no_misspelt_one_of_validation(command: Any) -> None:
    config = of(in_jobs.Overlap)
    config["goal"] |= {"metric": "train/mean_overlap", "higher_is_better": True}
    assert "No claim" in fit(command, config, "--baseline", "own")


@pytest.mark.parametrize("model", [in_jobs.TwoByHand, in_jobs.Raw, in_jobs.Seldom, in_jobs.ByHand])
def test_a_budget_of_steps_is_one_of_batches_however_a_module_steps(
    model: type, tmp_path: Path
) -> None:
    budget = {"max_epochs": -1, "max_steps": 8, "num_sanity_val_steps": 0}
    (ended,) = run(tmp_path, of(model, **budget))
    assert (ended.final["batches"], ended.final["asked"]) == (8, 8)
    assert max(curve.steps[-1] for curve in ended.curves.values()) == 8


def test_a_budget_of_epochs_is_left_to_lightning(tmp_path: Path) -> None:
    (ended,) = run(tmp_path, of(in_jobs.TwoByHand, max_epochs=2))
    assert ended.final["batches"] == 10


def test_a_metric_that_is_older_than_the_final_weights_is_refused(tmp_path: Path) -> None:
    (failure,) = run(tmp_path, of(in_jobs.WhileItTrains, max_epochs=3, check_val_every_n_epoch=2))
    assert "Cannot tell `val_nll` of the final weights: training ended at step 15" in failure
    assert "its last value is of step 10. Log it in `validation_step` whatever" in failure


def test_a_metric_of_the_last_step_of_a_fit_is_that_of_the_final_weights(tmp_path: Path) -> None:
    one, same = run(tmp_path, of(in_jobs.WhileItTrains), of(in_jobs.Plain))
    assert one.final["val_nll"] == same.final["val_nll"]
    assert one.curves["val_nll"].steps == [5.0, 10.0]


def test_runs_tell_validation_data_apart_but_no_order_of_them(tmp_path: Path) -> None:
    kinds = (projects.Points, in_jobs.FewerHeldOut, in_jobs.Shuffled)
    whole, fewer, shuffled = run(tmp_path, *(of(in_jobs.Plain, data) for data in kinds))
    assert [one.checks["validation_batches"] for one in (whole, fewer, shuffled)] == ["3", "2", "3"]
    assert whole.checks["validation_data"] != fewer.checks["validation_data"]
    assert "validation_data" not in shuffled.checks
    assert whole.checks["final_weights"] == fewer.checks["final_weights"]


def test_arms_with_other_validation_data_stop_a_comparison(command: Any) -> None:
    path = Path(plan(of(in_jobs.Plain)))
    asked = yaml.safe_load(path.read_text())
    asked["arms"] = {
        "own": {"kind": "baseline"},
        "fewer": {"overlay": {"data": f"{HERE}.FewerHeldOut"}},
    }
    path.write_text(yaml.safe_dump(asked))
    printed = command("compare", "--config", str(path), status=2)
    assert "fewer and own differ in the number of validation batches and validation" in printed


def test_a_metric_that_the_sanity_check_lacks_is_no_misspelling(command: Any) -> None:
    config = of(in_jobs.Averaged)
    config["goal"] |= {"metric": "val_nll_ema"}
    Path("fit.yaml").write_text(yaml.safe_dump(config))
    assert "final val_nll_ema" in command("fit", "--config", "fit.yaml")
    printed = command("compare", "--config", plan(config))
    assert "FAILED" not in printed
    assert load_results(Path("out")).comparison.goal.metric == "val_nll_ema"


def test_a_metric_that_begins_after_a_few_steps_is_explained(command: Any) -> None:
    config = of(in_jobs.FromTheSecondEpoch)
    printed = command("compare", "--config", plan(config), status=2)
    assert "These were a few steps before a comparison: log it from the first validation" in printed


def test_the_size_of_the_perturbation_of_two_optimizers_is_known_to_a_comparison(
    tmp_path: Path,
) -> None:
    perturbation = {**PERTURBED, "strength": 0.5}  # of every tensor's own step, at most
    config = of(in_jobs.TwoByHand, max_epochs=4) | {"perturbation": perturbation}
    (ended,) = run(tmp_path, config)
    there, whole = (ended.curves[tag] for tag in (tags.RELATIVE_SIZE, tags.MODEL_RELATIVE_SIZE))
    assert 0.1 < relative_size(ended) == median(there.values) < 0.5
    assert there.steps == [9.0, 19.0]
    assert whole.values[0] == pytest.approx(there.values[0])  # all entries are perturbed

"""A run of a comparison tells a module its length, whatever the unit of the budget."""

from math import cos, pi
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_qsgd.cli.fit_job import FitJob, ProbeJob
from lightning_qsgd.cli.perturbation_cli import PerturbationCLI
from lightning_qsgd.cli.recipe import Recipe
from lightning_qsgd.compare import load_results
from lightning_qsgd.compare.executors import LocalExecutor
from lightning_qsgd.compare.forecast import REMARK
from lightning_qsgd.compare.planning import Budget
from lightning_qsgd.compare.planning.job import Job
from lightning_qsgd.training.recorded_run import RecordedRun
from tests.strangers import in_jobs, lengths
from tests.strangers.test_in_jobs import of
from tests.strangers.test_strangers import command, plan

__all__ = ["command"]


def made(folder: Path, fit: Any, *configs: dict[str, Any]) -> list[RecordedRun]:
    """Make a run of each config, with epochs of 5 batches; returns the records."""
    jobs = [Job(f"arm{n}", 0, {"seed_everything": 0, **one}) for n, one in enumerate(configs)]
    executor = LocalExecutor(folder / "logs", processes=2)
    ended = {each.job.arm: each for each in executor.run(fit, jobs, lambda _: None)}
    for each in ended.values():
        assert each.run is not None, each.traceback
    return [ended[job.arm].run for job in jobs]


PROBE = ProbeJob(Recipe(PerturbationCLI))
STEPS, EPOCHS = (Budget(max_steps=13).trainer_arguments, Budget(max_epochs=2).trainer_arguments)
TINY = Budget(max_steps=2).trainer_arguments
SECONDS = {**Budget(seconds=2).trainer_arguments, "limit_train_batches": 2}


def test_epochs_are_told_under_a_budget_of_steps(tmp_path: Path) -> None:
    (run,) = made(tmp_path, FitJob(), of(lengths.Cosine, **STEPS))
    assert run.final["asked"] == 3  # two whole epochs of five steps, and three steps
    assert run.final["rate"] == pytest.approx(0.05 * (1 + cos(pi * 2 / 3)) / 2)
    assert run.curves["train_loss"].steps == [*range(1, 14)]


def test_steps_are_told_under_a_budget_of_epochs(tmp_path: Path) -> None:
    every = of(lengths.Line, **EPOCHS)
    other = of(lengths.Line, **EPOCHS, accumulate_grad_batches=2)
    cut = of(lengths.Line, **EPOCHS, limit_train_batches=3)
    runs = made(tmp_path, FitJob(), every, other, cut)
    assert [run.final["asked"] for run in runs] == [10, 6, 6]
    assert [run.final["rate"] for run in runs] == [0, 0, 0]
    assert [run.curves["train_loss"].steps[-1] for run in runs] == [10, 6, 6]


def test_a_probe_makes_the_schedules_of_the_whole_run(tmp_path: Path) -> None:
    asked = [of(lengths.Cosine, **STEPS), of(lengths.Line, **EPOCHS)]
    asked += [of(lengths.OneCycle, **one) for one in (STEPS, EPOCHS, TINY)]
    runs = made(tmp_path, PROBE, *asked)
    assert [run.final["asked"] for run in runs] == [3, 10, 13, 10, 2]
    assert [run.curves["train_loss"].steps[-1] for run in runs] == [4, 4, 4, 4, 2]
    assert not any(REMARK in run.checks for run in runs)


def test_a_probe_is_no_longer_than_a_run_with_a_share_of_the_data(tmp_path: Path) -> None:
    (run,) = made(tmp_path, PROBE, of(lengths.OneCycle, **EPOCHS, limit_train_batches=0.2))
    assert (run.final["asked"], run.curves["train_loss"].steps[-1]) == (2, 1)


def test_progress_bars_of_an_experiment_are_left_out_of_jobs(tmp_path: Path) -> None:
    bar = {"class_path": "lightning.pytorch.callbacks.TQDMProgressBar"}
    monitor = {"class_path": "lightning.pytorch.callbacks.Timer"}
    one, several = (
        of(lengths.Line, **EPOCHS, callbacks=callbacks) for callbacks in (bar, [bar, monitor])
    )
    runs = made(tmp_path, FitJob(), one, several)
    assert [run.curves["train_loss"].steps[-1] for run in runs] == [10, 10]


def test_a_budget_of_steps_loads_no_data_to_estimate_them(tmp_path: Path) -> None:
    steps, epochs = made(
        tmp_path, FitJob(), of(lengths.Estimates, **STEPS), of(lengths.Estimates, **EPOCHS)
    )
    assert (steps.final["asked"], steps.final["loaded"]) == (13, 0)
    assert (epochs.final["asked"], epochs.final["loaded"]) == (10, 1)


AVERAGING = {
    "class_path": "lightning.pytorch.callbacks.StochasticWeightAveraging",
    "init_args": {"swa_lrs": 0.01, "swa_epoch_start": 0.5},
}


@pytest.mark.parametrize("model", [in_jobs.Plain, lengths.Normed])
def test_weights_are_averaged_from_a_share_of_the_steps_on(model: type, tmp_path: Path) -> None:
    config = of(model, **Budget(max_steps=20).trainer_arguments, callbacks=[AVERAGING])
    if model is in_jobs.Plain:  # it has a schedule, which averaging replaces with a warning
        config["optimizer"] = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}}
    bare = {**config, "trainer": {**config["trainer"], "callbacks": None}}
    averaged, plain = made(tmp_path, FitJob(), config, bare)
    assert averaged.curves["train_loss"].steps == plain.curves["train_loss"].steps
    assert averaged.curves["train_loss"].steps[-1] == 20
    same = [
        one == other
        for one, other in zip(
            averaged.curves["train_loss"].values, plain.curves["train_loss"].values, strict=True
        )
    ]
    assert all(same[:10])  # the third epoch of four averages, at another rate
    assert averaged.checks["final_weights"] != plain.checks["final_weights"]
    made(tmp_path, PROBE, config)


def test_lowering_the_epochs_ends_a_run_all_the_same(tmp_path: Path) -> None:
    callbacks = [{"class_path": f"{lengths.__name__}.Stops"}]
    (run,) = made(tmp_path, FitJob(), of(lengths.Cosine, **STEPS, callbacks=callbacks))
    assert run.curves["train_loss"].steps[-1] == 5


def test_hooks_after_a_step_find_the_budget(tmp_path: Path) -> None:
    (run,) = made(tmp_path, FitJob(), of(lengths.LooksAfterSteps, **STEPS))
    assert (run.final["batches"], run.final["asked"]) == (13, 13)


@pytest.mark.parametrize(
    ("config", "limit"),
    {
        "seconds": (of(lengths.Cosine, **SECONDS), "max_epochs"),
        "no length": (of(lengths.Cosine, lengths.Stream, **STEPS), "max_epochs"),
        "no length of epochs": (of(lengths.Line, lengths.Stream, **EPOCHS), "max_steps"),
        "while loading": (of(in_jobs.Plain, lengths.AskedWhileLoading, **STEPS), "max_epochs"),
        "before loading": ({**of(lengths.TooEarly, **STEPS), "data": None}, "max_epochs"),
    }.values(),
)
def test_what_nothing_tells_is_remarked(config: Any, limit: str, tmp_path: Path) -> None:
    (run,) = made(tmp_path, PROBE, {key: part for key, part in config.items() if part})
    assert f"`trainer.{limit}` was asked for, and read -1: the budget has" in run.checks[REMARK]
    assert run.final.get("asked", -1) == -1


def test_data_without_a_length_train_for_their_budget(tmp_path: Path) -> None:
    (run,) = made(tmp_path, FitJob(), of(in_jobs.Plain, lengths.Stream, **STEPS))
    assert run.curves["train_loss"].steps[-1] == 13


def test_a_comparison_names_the_arms_whose_schedule_has_no_length(command: Any) -> None:
    config = of(lengths.Cosine)
    del config["trainer"]["max_epochs"]
    printed = command("compare", "--config", plan(config, budget={"seconds": 1}))
    assert "base, sine: `trainer.max_epochs` was asked for, and read -1" in printed
    assert "Give `budget` the unit that the schedule asks for" in printed


def test_a_schedule_of_the_trainers_steps_is_compared(command: Any) -> None:
    config = of(lengths.OneCycle)
    printed = command("compare", "--config", plan(config, budget={"max_steps": 6}))
    assert "was asked for" not in printed
    Path("fit.yaml").write_text(yaml.safe_dump(of(lengths.OneCycle, max_steps=6, max_epochs=-1)))
    assert "One seed, val_nll" in command("fit", "--config", "fit.yaml")


def test_a_link_to_a_limit_that_the_budget_lifts_is_refused(
    tmp_path: Path, monkeypatch: Any, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = {
        key: part for key, part in of(in_jobs.Plain).items() if key in ("trainer", "goal")
    }
    arguments = ["compare", "--config", plan(experiment, budget={"max_steps": 6})]
    with pytest.raises(SystemExit):
        lengths.Linking(lengths.Told, lengths.Points, args=arguments)
    said = " ".join(capfd.readouterr().err.split())
    assert "got model.epochs: 2, now -1, linked to `trainer.max_epochs`" in said
    assert "Give `budget` the unit of that limit" in said
    assert not Path("out").exists()
    arguments = ["compare", "--config", plan(experiment, budget={"max_epochs": 1})]
    lengths.Linking(lengths.Told, lengths.Points, args=arguments)
    assert [run.final["asked"] for run in load_results(Path("out")).runs] == [1, 1]

"""Projects of strangers' shape through every front end: callback, mixin, `fit` and `compare`."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import pytorch_lightning
import torch
import yaml

from lightning_qsgd import Perturbation, PerturbationCallback, PerturbationMixin, PerturbedOptimizer
from lightning_qsgd.cli import PerturbationCLI
from lightning_qsgd.cli.main import main
from lightning_qsgd.compare import load_results
from tests.strangers import old_import, projects

HERE = "tests.strangers.projects"
STRENGTH = Perturbation(strength=0.5)
ROOT = Path(__file__).parents[2]


def linear(width: int, out: int) -> dict[str, Any]:
    kind = {"in_features": width, "out_features": out}
    return {"class_path": "torch.nn.Linear", "init_args": kind}


@dataclass(frozen=True)
class Project:
    """A module, its data, and the names under which it logs."""

    model: type
    metric: str
    loss: str = "train_loss"
    data: type | None = projects.Points
    higher_is_better: bool = True
    arguments: dict[str, Any] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    baseline: str = "AdamW \\(lr 0.001"
    lightning: Any = L

    def config(self) -> dict[str, Any]:
        """The config of a fit."""
        data = {"data": f"{HERE}.{self.data.__name__}"} if self.data else {}
        return {
            "model": {"class_path": f"{HERE}.{self.model.__name__}", "init_args": self.plain},
            **data,
            "trainer": {**SHORT, "max_epochs": 2, **self.trainer},
            "goal": {
                "loss": self.loss,
                "metric": self.metric,
                "higher_is_better": self.higher_is_better,
            },
        }

    def fit(self, model: Any, *callbacks: Any) -> Any:
        """Train with the module's own trainer."""
        trainer = self.lightning.Trainer(
            max_epochs=1, logger=False, enable_checkpointing=False, callbacks=[*callbacks], **SHORT
        )
        trainer.fit(model, self.data() if self.data else None)
        return trainer


SHORT = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
LAYERS = [torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)]
OWN_ADAM = "Adam \\(lr 0.01, weight decay 0\\), no schedule"
PROJECTS = {
    "autoencoder": Project(projects.Autoencoder, "val/mse", "train/mse", higher_is_better=False),
    "gan": Project(
        projects.Gan, "g_loss", "d_loss", higher_is_better=False, baseline=f"{OWN_ADAM}; {OWN_ADAM}"
    ),
    "sam by hand": Project(projects.ManualSam, "val_acc", baseline="SGD \\(lr 0.05"),
    "fine-tuning": Project(
        projects.FineTuned,
        "val_acc",
        arguments={"layers": LAYERS},
        plain={"layers": [linear(6, 8), {"class_path": "torch.nn.ReLU"}, linear(8, 3)]},
        trainer={
            "callbacks": [
                {"class_path": f"{HERE}.Unfreeze"},
                {"class_path": f"{HERE}.Keeper", "init_args": {"monitor": "val_acc"}},
                {
                    "class_path": "lightning.pytorch.callbacks.Timer",
                    "init_args": {"duration": "00:00:05:00"},
                },
            ]
        },
        baseline="AdamW \\(lr 0.05",
    ),
    "agent": Project(projects.Agent, "reward", "loss", data=None),
    "sequences": Project(
        projects.Sequences,
        "val_loss",
        "loss",
        projects.Sentences,
        higher_is_better=False,
        trainer={
            "callbacks": {
                "class_path": "lightning.pytorch.callbacks.StochasticWeightAveraging",
                "init_args": {"swa_lrs": 0.01},
            }
        },
    ),
}
BY_HAND = {
    **PROJECTS,
    "linked": Project(projects.Linked, "val_acc", arguments={"width": 4}),
    "pytorch_lightning": Project(
        old_import.Model, "val_acc", data=old_import.Data, lightning=pytorch_lightning
    ),
}
each_project = pytest.mark.parametrize("project", PROJECTS.values(), ids=PROJECTS)
each_by_hand = pytest.mark.parametrize("project", BY_HAND.values(), ids=BY_HAND)


@each_by_hand
def test_callback_perturbs_every_step(project: Project) -> None:
    callback = PerturbationCallback(STRENGTH)
    model = project.model(**project.arguments)
    project.fit(model, callback)
    assert callback.optimizers
    assert all(optimizer.own_state.applied >= 5 for optimizer in callback.optimizers)


@each_by_hand
def test_mixin_perturbs_every_optimizer(project: Project) -> None:
    class Perturbed(PerturbationMixin, project.model):
        pass

    model = Perturbed(**project.arguments, perturbation=STRENGTH)
    trainer = project.fit(model)
    assert trainer.optimizers
    for optimizer in trainer.optimizers:
        assert isinstance(optimizer, PerturbedOptimizer)
        assert optimizer.own_state.applied >= 5


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, caplog: Any) -> Any:
    """Run the command in an empty folder; returns what it printed."""
    monkeypatch.setattr(sys, "argv", ["lightning-qsgd"])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")

    def run(*arguments: str, status: int = 0) -> str:
        capfd.readouterr()
        caplog.clear()
        try:
            main(list(arguments))
            ended = 0
        except SystemExit as error:
            ended = int(error.code or 0)
        printed = capfd.readouterr()
        words = " ".join((printed.out + printed.err + caplog.text).split())
        assert ended == status, words[-3000:]
        return words

    return run


def plan(experiment: dict[str, Any], **changes: Any) -> str:
    """Write an experiment and a plan for it into the current folder."""
    Path("experiment.yaml").write_text(yaml.safe_dump(experiment))
    whole = {
        "experiment": "experiment.yaml",
        "budget": {"max_epochs": 1},
        "seeds": 1,
        "processes": 2,
        "folder": "out",
        "arms": {
            "base": {"kind": "baseline"},
            "sine": {"overlay": {"perturbation": {"strength": 0.5}}},
        },
    }
    Path("plan.yaml").write_text(yaml.safe_dump({**whole, **changes}))
    return "plan.yaml"


@each_project
def test_fit_trains_a_baseline_that_it_describes(project: Project, command: Any) -> None:
    config = {**project.config(), "perturbation": {"strength": 0.5}}
    Path("fit.yaml").write_text(yaml.safe_dump(config))
    kind = "adamw" if "AdamW \\(lr 0.001" in project.baseline else "own"
    printed = command("fit", "--config", "fit.yaml", "--baseline", kind)
    assert re.search(f"Baseline: {project.baseline}", printed)
    assert "No claim" in printed or "No effect" in printed
    assert len(list(Path("runs").rglob("record.json"))) == 2


@each_project
def test_compare_ends_in_a_report(project: Project, command: Any) -> None:
    printed = command("compare", "--config", plan(project.config()))
    assert "FAILED" not in printed
    results = load_results(Path("out"))
    assert [run.arm for run in results.runs] == ["base", "sine"]
    assert all(project.metric in run.final for run in results.runs)
    assert (Path("out") / "report.html").is_file()


class WithLinks(PerturbationCLI):
    """A command line as users write them: no hook calls `super`."""

    def add_arguments_to_parser(self, parser: Any) -> None:
        parser.link_arguments("data.batch_size", "model.width")

    def before_instantiate_classes(self) -> None:
        self.was_here = True


LINKED = {
    "model_class": projects.Linked,
    "datamodule_class": projects.Points,
    "trainer_defaults": {"callbacks": projects.CALLBACKS, **SHORT},
}


def test_linked_command_line_builds_each_model_once_and_pairs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    built: list[int] = []
    original = projects.Linked.__init__

    def count(self: Any, width: int, lr: float = 0.05) -> None:
        original(self, width, lr)
        built.append(width)

    monkeypatch.setattr(projects.Linked, "__init__", count)
    arguments = ["fit", "--data.batch_size=5", "--trainer.max_epochs=1", "--goal.metric=val_acc"]
    cli = WithLinks(**LINKED, args=[*arguments, "--perturbation.strength=0.5", "--baseline=adamw"])
    assert built == [5, 5]
    assert cli.was_here
    assert cli.baseline.first_weights == cli.convergence.run.first_weights
    assert cli.baseline.optimizers.startswith("AdamW")
    assert cli.convergence.run.optimizers.startswith("SGD")


def test_positional_classes_are_those_of_lightning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    arguments = ["fit", "--model.width=4", "--trainer.max_epochs=1", "--trainer.logger=false"]
    cli = PerturbationCLI(
        projects.Linked, projects.Points, trainer_defaults=SHORT, args=[*arguments]
    )
    assert cli.model.net[0].out_features == 4
    assert (cli.folder / "record.json").is_file()


SCRIPT = """
import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset
from lightning_qsgd.cli import PerturbationCLI


class Data(L.LightningDataModule):
    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        inputs = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
        return DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), self.batch_size)

    val_dataloader = train_dataloader


class Model(L.LightningModule):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(6, width), torch.nn.Linear(width, 1))

    def training_step(self, batch, batch_idx):
        return (self.net(batch[0]) - batch[1]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_mse", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


class WithLinks(PerturbationCLI):
    def add_arguments_to_parser(self, parser):
        parser.link_arguments("data.batch_size", "model.width")


if __name__ == "__main__":
    WithLinks(Model, Data, trainer_defaults={"accelerator": "cpu"})
"""


def test_a_script_of_ones_own_compares_what_it_trains(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    goal = {"loss": "loss", "metric": "val_mse", "higher_is_better": False}
    experiment = {"data": {"batch_size": 5}, "goal": goal}
    old = Path.cwd()
    os.chdir(tmp_path)
    try:
        plan(experiment)
    finally:
        os.chdir(old)
    ended = subprocess.run(
        [sys.executable, "train.py", "compare", "--config", "plan.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    results = load_results(tmp_path / "out")
    parameters = {run.first_weights.parameters for run in results.runs}
    assert parameters == {6 * 5 + 5 + 5 + 1}


def test_a_module_of_pytorch_lightning_is_refused_with_what_to_import(command: Any) -> None:
    printed = command("fit", "--model=tests.strangers.old_import.Model", status=2)
    assert "Write `import lightning.pytorch as pl` in its module" in printed
    experiment = {"model": "tests.strangers.old_import.Model"}
    printed = command("compare", "--config", plan(experiment), status=2)
    assert "Write `import lightning.pytorch as pl` in its module" in printed
    assert not Path("out").exists()


def test_a_callback_of_pytorch_lightning_is_refused_with_its_path(command: Any) -> None:
    printed = command(
        "fit",
        f"--model={HERE}.Classifier",
        "--trainer.callbacks+=pytorch_lightning.callbacks.EarlyStopping",
        status=2,
    )
    assert "Write lightning.pytorch.callbacks.EarlyStopping" in printed


def test_a_module_file_beside_the_config_is_found(command: Any) -> None:
    Path("mine.py").write_text(f"from {HERE} import Classifier as Mine, Points\n")
    config = PROJECTS["sam by hand"].config()
    config |= {"model": "mine.Mine", "data": "mine.Points"}
    Path("fit.yaml").write_text(yaml.safe_dump(config))
    assert "Record and event files" in command("fit", "--config", "fit.yaml")
    command("compare", "--config", plan(config))
    assert len(load_results(Path("out")).runs) == 2
    again = command("compare", "--config", "plan.yaml")
    assert "runs/sine/seed0 was done before" in again


def test_a_broken_arm_stops_a_comparison_before_anything_is_run(command: Any) -> None:
    config = PROJECTS["autoencoder"].config()
    config["goal"]["metric"] = "val/msee"
    printed = command("compare", "--config", plan(config), status=2)
    assert "The arm 'base' fails in its first steps" in printed
    assert "`val/msee` was never logged; logged were convergence/" in printed
    assert "train/mse, val/mse. Did you mean val/mse?" in printed
    assert not Path("out/runs").exists()


def test_a_goal_that_may_be_misspelt_warns_before_training(command: Any) -> None:
    config = PROJECTS["autoencoder"].config()
    config["goal"]["metric"] = "val/msee"
    Path("fit.yaml").write_text(yaml.safe_dump(config))
    with pytest.warns(UserWarning, match=r"logged: val/mse\. Did you mean val/mse\? If so, stop"):
        printed = command("fit", "--config", "fit.yaml", status=2)
    assert "`val/msee` was never logged; logged were train/mse, val/mse. Did you mean" in printed


def test_a_goal_that_nothing_logs_ends_a_fit_with_what_was_logged(command: Any) -> None:
    config = PROJECTS["autoencoder"].config()
    config["goal"]["metric"] = "accuracy"
    Path("fit.yaml").write_text(yaml.safe_dump(config))
    printed = command("fit", "--config", "fit.yaml", status=2)
    assert "`accuracy` was never logged; logged were train/mse, val/mse" in printed


def test_a_schedule_that_only_the_baseline_would_follow_is_refused(command: Any) -> None:
    Path("fit.yaml").write_text(yaml.safe_dump(PROJECTS["agent"].config()))
    schedule = ("--lr_scheduler=StepLR", "--lr_scheduler.step_size=1", "--baseline=adamw")
    printed = command("fit", "--config", "fit.yaml", *schedule, status=2)
    assert "Expected an `optimizer` beside `lr_scheduler:" in printed
    assert not Path("runs").exists()


def test_adamw_cannot_stand_in_for_optimizers_that_are_stepped_by_hand(command: Any) -> None:
    Path("fit.yaml").write_text(yaml.safe_dump(PROJECTS["gan"].config()))
    printed = command("fit", "--config", "fit.yaml", "--baseline=adamw", status=2)
    assert "Cannot train an AdamW baseline: Gan steps its optimizers by hand" in printed
    assert not Path("runs").exists()

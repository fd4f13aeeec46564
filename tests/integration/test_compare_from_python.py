"""`compare` called from Python: a function for the model, one for the data, and the same report."""

import importlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule

import lightning_qsgd.cli.compare_command as command
from lightning_qsgd.cli import Experiment, compare
from lightning_qsgd.compare import Outcome, analyse, load_results, verdicts
from lightning_qsgd.compare.planning import ArmPlan, Budget, GoalPlan
from lightning_qsgd.compare.running import Running
from lightning_qsgd.data import DigitsDataModule
from lightning_qsgd.training import Classifier
from tests.integration.compare_modules import Digits

PROJECT = """
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset


class Line(LightningModule):
    def __init__(self, rate):
        super().__init__()
        self.rate, self.layer = rate, torch.nn.Linear(4, 1)

    def loss(self, batch):
        return (self.layer(batch[0]) - batch[1]).square().mean()

    def training_step(self, batch, index):
        self.log("train/loss", loss := self.loss(batch))
        return loss

    def validation_step(self, batch, index):
        self.log("val/loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate)


class Points(LightningDataModule):
    def train_dataloader(self):
        points = torch.rand(64, 4)
        return DataLoader(TensorDataset(points, points.sum(1, keepdim=True)), batch_size=16)

    val_dataloader = train_dataloader


def make_model(rate: float = 0.1) -> LightningModule:
    return Line(rate)


def make_data() -> LightningDataModule:
    return Points()


def make_untyped():
    return Line(0.1)
"""
NAME = "points_of_a_user"
ARMS: dict[str, Any] = {
    "plain": {},
    "still": {"model": {"init_args": {"rate": 0.0}}},
    "zero": ArmPlan({"perturbation": {"strength": 0.0}}, "control", must_equal_baseline=True),
}
GOAL = GoalPlan("val/loss", higher_is_better=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / f"{NAME}.py").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    return importlib.import_module(NAME)


def ask(experiment: Experiment, **changes: Any) -> Any:
    given = {"arms": ARMS, "budget": Budget(max_steps=8), "seeds": 3, "goal": GOAL}
    return compare(experiment, **{**given, **changes})


def test_two_functions_are_enough_for_the_report_and_verdicts_of_the_command(
    project: ModuleType, command_line: Any
) -> None:
    found = ask(Experiment(project.make_model, project.make_data, "points"))
    assert found.folder == Path("runs/compare/points")
    assert found.verdicts["zero"].outcome == Outcome.IDENTICAL
    assert len(found.results.runs) == 9
    first, *each, last = repr(found).splitlines()
    assert first == "Compared(Results(points: 3 arms x 3 seeds, 9 runs ended, 0 failed)"
    assert [line.split(":")[0].strip() for line in each] == ["still", "zero"]
    assert "zero: identical to the baseline. Every number equals that of plain" in each[1]
    assert last == "  report: runs/compare/points/report.html)"
    loss = found.results.runs_of("plain")[0].final["val/loss"]
    shown = repr(found.results.runs_of("plain")[0])
    assert shown.startswith("RecordedRun(plain, seed 0: ")
    assert f"val/loss {loss:.4g}" in shown
    assert "points" in found.report.read_text()

    lines = {"experiment": Experiment(project.make_model, project.make_data, "points").plain}
    zero = {"kind": "control", "must_equal_baseline": True}
    lines |= {"budget": {"max_steps": 8}, "seeds": 3}
    lines["goal"] = {"metric": "val/loss", "higher_is_better": False}
    lines["arms"] = {
        "plain": {"kind": "baseline"},
        "still": {"overlay": ARMS["still"]},
        "zero": {"overlay": ARMS["zero"].overlay, **zero},
    }
    Path("plan.yaml").write_text(json.dumps(lines))
    stored = sorted((found.folder / "runs").rglob("seed*"))
    before = [file.stat().st_mtime_ns for file in stored]
    command_line.main("compare", "--config", "plan.yaml", "--folder", str(found.folder))
    assert len(stored) == 9
    assert [file.stat().st_mtime_ns for file in stored] == before
    again = load_results(found.folder)
    assert again.runs == found.results.runs
    assert verdicts(analyse(again)) == found.verdicts


def test_a_script_compares_functions_of_its_own(project: ModuleType, tmp_path: Path) -> None:
    lines = [
        PROJECT,
        "from lightning_qsgd.cli import Experiment, compare",
        "from lightning_qsgd.compare.planning import Budget, GoalPlan",
        "if __name__ == '__main__':",
        "    still = {'model': {'init_args': {'rate': 0.0}}}",
        "    found = compare(Experiment(make_model, make_data), {'plain': {}, 'still': still},",
        "        Budget(max_steps=2), seeds=1, goal=GoalPlan('val/loss', False))",
        "    print('made', len(found.results.runs))",
    ]
    (tmp_path / "train.py").write_text("\n".join(lines))
    ended = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    assert "made 2" in ended.stdout


def local() -> Any:
    def make_inside() -> LightningModule:
        return Digits()

    return make_inside


def make_number() -> int:
    return 3


def typed_in() -> LightningModule:
    return Digits()


typed_in.__module__ = "__main__"
REFUSED = {
    "lambda": (lambda: Digits(), ValueError, "a lambda has no name .* top level of a file"),
    "local": (local(), ValueError, "make_inside, .* defined inside a function"),
    "partial": (partial(Digits), TypeError, "`model` to be a function .* every run makes one"),
    "instance": (Digits(), TypeError, "`model` to be a function .* every run makes one"),
    "other": (make_number, TypeError, r"make_number with int.*def make_number\(...\) -> Light"),
    "main": (typed_in, ValueError, "__main__.typed_in, .* cannot be imported"),
    "class": (torch.nn.Linear, TypeError, "makes a LightningModule, got torch.* with Linear"),
}


@pytest.mark.parametrize(("model", "kind", "said"), REFUSED.values(), ids=REFUSED)
def test_what_no_other_process_can_make_is_refused_by_name(
    model: Any, kind: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)
    with pytest.raises(kind, match=f"(?s){said}"):
        Experiment(model, DigitsDataModule)


@pytest.mark.parametrize("file", [None, "<stdin>"])
def test_functions_typed_into_a_notebook_are_refused(
    file: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = ModuleType("__main__")
    if file is not None:
        notebook.__file__ = file
    notebook.typed_in = typed_in  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    with pytest.raises(ValueError, match="typed into a notebook or a prompt"):
        Experiment(typed_in)


def test_a_function_that_says_nothing_of_what_it_returns_is_refused(project: ModuleType) -> None:
    with pytest.raises(TypeError, match=r"with nothing.*Write `def make_untyped\(...\) -> Light"):
        Experiment(project.make_untyped)


def test_data_must_be_data() -> None:
    with pytest.raises(TypeError, match="`data` to say that it makes a LightningDataModule"):
        Experiment(Digits, data=Classifier)  # type: ignore[arg-type]


def test_functions_of_the_started_script_are_refused_for_other_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "typed_in", typed_in, raising=False)
    with pytest.raises(ValueError, match="`model` to another machine: it is defined in the script"):
        ask(Experiment(typed_in, DigitsDataModule), running=Running(executor="ray"))


@pytest.mark.parametrize(
    "arms",
    [{"plain": {}, "sine": {"perturbation": object()}}, {"plain": {}, "sine": {"model": Digits}}],
)
def test_objects_in_an_overlay_are_refused(arms: Any) -> None:
    with pytest.raises(ValueError, match="the arm 'sine' to hold plain values"):
        ask(Experiment(Digits, DigitsDataModule), arms=arms)


def test_a_report_that_cannot_be_written_hides_no_run(
    project: ModuleType, command_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    folder = Path("runs/compare/points")
    with monkeypatch.context() as patched:
        patched.setattr(command, "publish", full)
        with pytest.raises(RuntimeError, match=rf"2 that ended .*`lightning-qsgd report {folder}`"):
            ask(
                Experiment(project.make_model, project.make_data, "points"),
                arms={name: ARMS[name] for name in ("plain", "still")},
                seeds=1,
            )
    assert len(load_results(folder).runs) == 2
    assert not (folder / "report.html").exists()
    command_line.main("report", str(folder))
    assert (folder / "report.html").exists()

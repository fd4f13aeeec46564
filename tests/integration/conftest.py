"""Settings of the integration tests: silence what other people's libraries say on every run."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from lightning_qsgd.cli import PerturbationCLI
from lightning_qsgd.cli.main import main

HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "configs"
SILENCED = (
    "ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning",  # Lightning 2.6 on torch 2.13
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning",  # LightningCLI's own calls
    "ignore:.*configure_optimizers. will be overridden by",  # LightningCLI, for --optimizer
    "ignore:.*does not have many workers",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
    "ignore:The number of training batches .* is smaller than the logging interval",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder alone; those of other rooms stay strict."""
    for item in items:
        if HERE in item.path.parents:
            for rule in SILENCED:
                item.add_marker(pytest.mark.filterwarnings(rule), append=False)


@pytest.fixture(autouse=True)
def reports_without_pictures(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leave out the pictures, which take most of the time of a report, but where a test is on them.

    Tests that are marked `pictures` draw them, as do commands in processes of their own.
    """
    if "pictures" not in request.keywords:
        writer = import_module("lightning_qsgd.compare.report.write_report")
        monkeypatch.setattr(writer, "can_draw", lambda: False)


class CommandLine:
    """Runs the command `lightning-qsgd` inside the test, on a few batches of digits."""

    def __init__(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self.runs = folder / "runs"
        self._capsys = capsys
        self._caplog = caplog

    def arguments(self, *more: str, config: str = "digits") -> list[str]:
        """Arguments of a short fit; later ones win."""
        return [
            *("fit", "--config", str(CONFIGS / "experiments" / f"{config}.yaml")),
            *SHORT,
            *("--run.root", str(self.runs)),
            *more,
        ]

    def fit(self, *more: str, config: str = "digits") -> str:
        """Run `fit` and return what was printed."""
        return self.main(*self.arguments(*more, config=config))

    def main(self, *arguments: str) -> str:
        """Run the command and return what was printed."""
        self._capsys.readouterr()
        self._caplog.clear()
        main(list(arguments))
        captured = self._capsys.readouterr()
        return " ".join((captured.out + captured.err + self._caplog.text).split())

    def refuse(self, *more: str) -> str:
        """Run a `fit` that must exit with status 2 and leave nothing behind."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(self.arguments(*more))
        assert caught.value.code == 2
        assert not self.runs.exists() or not any(self.runs.rglob("*.ckpt"))
        return " ".join(self._capsys.readouterr().err.split())

    def open(self, *more: str, **kwargs: Any) -> PerturbationCLI:
        """Run `fit` and return the finished command line, to look inside."""
        return PerturbationCLI(args=self.arguments(*more), **kwargs)

    def run_folder(self, arm: str, name: str = "seed0", experiment: str = "digits") -> Path:
        return self.runs / experiment / arm / name

    def checkpoint(self, arm: str, name: str = "seed0") -> Path:
        """The last checkpoint of a run."""
        return sorted(self.run_folder(arm, name).glob("checkpoints/*.ckpt"))[-1]


SHORT = (
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=4",
    "--trainer.limit_val_batches=2",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.enable_progress_bar=false",
)


@pytest.fixture
def command_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> CommandLine:
    """The command in an empty folder, with neither pytest's arguments nor a seed left behind."""
    monkeypatch.setattr(sys, "argv", ["lightning-qsgd"])
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")  # restored afterwards to what it was
    monkeypatch.delenv("LIGHTNING_QSGD_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")
    return CommandLine(tmp_path, capsys, caplog)

"""A run that was killed in the middle of an epoch ends as the uninterrupted one, bit for bit."""

import multiprocessing
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing import ProcessExitedException, start_processes
from torch.utils.data import DataLoader

from lightning_qsgd.data import split_data_module
from tests.integration.killed_worker import LAST, be_killed, train

pytestmark = [
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


Runs = Callable[[str], tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The uninterrupted run on a data module, and the folder with a checkpoint of each step."""

    @cache
    def run(name: str) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path_factory.mktemp("whole")
        return folder, train(name, folder)

    return run


def assert_equal_runs(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["points"] == other["points"]
    assert torch.equal(one["weights"], other["weights"])


def train_until_killed(name: str, batch: int, folder: Path) -> None:
    multiprocessing.set_forkserver_preload([be_killed.__module__])
    with pytest.raises(ProcessExitedException) as caught:
        start_processes(be_killed, (name, batch, folder), 1, start_method="forkserver")
    assert caught.value.signal_name == signal.SIGKILL.name


@pytest.mark.parametrize(("name", "batch"), [("digits", 3), ("sequences", 10), ("characters", 5)])
def test_a_killed_process_is_resumed_bit_for_bit(
    name: str, batch: int, tmp_path: Path, whole: Runs
) -> None:
    train_until_killed(name, batch, tmp_path)
    torch.rand(17)  # the resumed process stands elsewhere
    assert_equal_runs(train(name, tmp_path / "rest", ckpt=tmp_path / LAST), whole(name)[1])


@pytest.mark.parametrize("step", [1, 7, 12])
@pytest.mark.parametrize("name", ["digits", "workers"])
def test_any_step_of_an_epoch_can_be_resumed(
    name: str, step: int, tmp_path: Path, whole: Runs
) -> None:
    folder, expected = whole(name)
    assert_equal_runs(train(name, tmp_path, ckpt=folder / f"step={step}.ckpt"), expected)


def test_a_checkpoint_of_the_last_batch_goes_on_with_the_next_epoch(
    tmp_path: Path, whole: Runs
) -> None:
    folder, expected = whole("digits")
    resumed = train("digits", tmp_path, ckpt=folder / "step=8.ckpt")
    assert torch.equal(resumed["weights"], expected["weights"])
    # Lightning takes the validation of that epoch for done; see docs/reliability.md.
    assert resumed["points"]["train/loss"] == expected["points"]["train/loss"]


def test_with_a_plain_loader_the_batches_of_the_epoch_come_again(
    tmp_path: Path, whole: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split_data_module, "ResumableLoader", DataLoader)
    expected = train("digits", tmp_path / "first")
    assert_equal_runs(expected, whole("digits")[1])
    resumed = train("digits", tmp_path, ckpt=tmp_path / "first" / "step=3.ckpt")
    assert not torch.equal(resumed["weights"], expected["weights"])

"""Checkpoint files on disks that are full and files that are damaged."""

import random
import subprocess
import sys
import zipfile
from inspect import signature
from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from lightning_qsgd.training import SafeCheckpointIO

takes_weights_only = pytest.mark.skipif(
    "weights_only" not in signature(TorchCheckpointIO.load_checkpoint).parameters,
    reason="of Lightning 2.6 on",
)
CONTENT = {"state_dict": {"w": torch.arange(5000.0)}, "epoch": 3}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A checkpoint of 20 kB."""
    SafeCheckpointIO().save_checkpoint(CONTENT, tmp_path / "folder" / "a.ckpt")
    return tmp_path / "folder" / "a.ckpt"


def is_whole(loaded: dict) -> bool:
    return torch.equal(loaded["state_dict"]["w"], CONTENT["state_dict"]["w"])


def test_a_checkpoint_is_read_as_it_was_written_and_nothing_else_is_left(file: Path) -> None:
    assert is_whole(SafeCheckpointIO().load_checkpoint(file))
    assert [path.name for path in file.parent.iterdir()] == ["a.ckpt"]


@takes_weights_only
def test_a_checkpoint_of_tensors_is_read_where_nothing_else_may_be(file: Path) -> None:
    assert is_whole(SafeCheckpointIO().load_checkpoint(file, weights_only=True))


def test_plain_torch_and_lightning_read_it_too(file: Path) -> None:
    assert is_whole(torch.load(file, weights_only=True))
    assert is_whole(torch.load(file, weights_only=True, mmap=True))
    assert is_whole(TorchCheckpointIO().load_checkpoint(file))
    assert zipfile.ZipFile(file).testzip() is None


def test_a_checkpoint_of_lightning_is_read_without_a_digest(tmp_path: Path) -> None:
    TorchCheckpointIO().save_checkpoint(CONTENT, tmp_path / "plain.ckpt")
    assert is_whole(SafeCheckpointIO().load_checkpoint(tmp_path / "plain.ckpt"))


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_is_found(seed: int, file: Path) -> None:
    content, rng = bytearray(file.read_bytes()), random.Random(seed)
    content[rng.randrange(len(content) - 100)] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.ckpt: its content does not fit its digest.*earlier"):
        SafeCheckpointIO().load_checkpoint(file)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(part: float, file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=r"no checkpoint, or not complete; it holds \d+ bytes"):
        SafeCheckpointIO().load_checkpoint(file)


@pytest.mark.parametrize("content", [b"hello", b"<html></html>", bytes(1000), b"\x80\x02."])
def test_a_file_of_another_kind_is_refused(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"no checkpoint, or not complete"):
        SafeCheckpointIO().load_checkpoint(file)


@takes_weights_only
def test_what_torch_refuses_in_a_whole_file_keeps_its_own_words(tmp_path: Path) -> None:
    SafeCheckpointIO().save_checkpoint({"path": tmp_path}, tmp_path / "a.ckpt")
    with pytest.raises(Exception, match="Weights only load failed"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt", weights_only=True)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Checkpoint file not found"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")


FULL = """
import resource, signal, sys, torch
from pathlib import Path
from lightning_qsgd.training.checkpoints import SafeCheckpointIO

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for size in (30_000, 100_000, 300_000):
    try:
        SafeCheckpointIO().save_checkpoint({"w": torch.ones(size)}, Path(sys.argv[1]) / "a.ckpt")
    except OSError as error:
        print(error)
"""


def test_a_disk_that_is_full_leaves_the_old_checkpoint(file: Path) -> None:
    command = [sys.executable, "-c", FULL, str(file.parent)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.count("File too large. What was there before is unchanged") == 3
    assert is_whole(SafeCheckpointIO().load_checkpoint(file))
    assert [path.name for path in file.parent.iterdir()] == ["a.ckpt"]


def test_an_error_that_is_not_the_disks_is_not_called_one(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="pickle") as caught:
        SafeCheckpointIO().save_checkpoint({"f": lambda: 0}, tmp_path / "a.ckpt")
    assert not isinstance(caught.value, OSError)
    assert list(tmp_path.iterdir()) == []

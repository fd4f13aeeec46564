"""Folders of runs: numbered, never shared, and named as given."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lightning_qsgd.cli import RunPlace
from lightning_qsgd.cli.run_folder import default_arm, require_checkpoint


def test_runs_of_one_seed_are_numbered(tmp_path: Path) -> None:
    place = RunPlace(str(tmp_path), "digits", "adamw")
    names = [place.claim(seed).name for seed in (0, 0, 0, 1)]
    assert names == ["seed0", "seed0_2", "seed0_3", "seed1"]


def test_concurrent_claims_never_share_a_folder(tmp_path: Path) -> None:
    place = RunPlace(str(tmp_path), "digits", "adamw")
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: place.claim(0), range(40)))
    assert len(set(folders)) == 40
    assert {f.name for f in folders} == {"seed0"} | {f"seed0_{n}" for n in range(2, 41)}


def test_a_name_is_used_as_given_and_only_once(tmp_path: Path) -> None:
    place = RunPlace(str(tmp_path), name="mine")
    assert place.claim(0) == tmp_path / "experiment" / "arm" / "mine"
    with pytest.raises(FileExistsError, match=r"mine is in use.*Choose another `--run\.name`"):
        place.claim(0)


@pytest.mark.parametrize("part", ["experiment", "arm", "name"])
@pytest.mark.parametrize("value", ["", ".", "..", "a/b", "a\\b", "/"])
def test_a_name_that_is_no_single_folder_is_refused(part: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"`run\.{part}` to be the name of one folder.*Use lett"):
        RunPlace(**{part: value})


@pytest.mark.parametrize("given", ["last", "best"])
def test_a_checkpoint_that_a_new_folder_cannot_hold_is_refused_with_the_newest(
    tmp_path: Path, given: str | None
) -> None:
    old, new = (tmp_path / run / "checkpoints" / "a.ckpt" for run in ("seed0", "seed0_2"))
    for age, file in ((200, old), (100, new)):
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (time.time() - age, time.time() - age))
    with pytest.raises(FileNotFoundError, match=f"newest here is {re.escape(str(new))}: give"):
        require_checkpoint(given, tmp_path)


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file in .* none below .*: leave --ckpt_"):
        require_checkpoint("nowhere.ckpt", tmp_path)


@pytest.mark.parametrize("given", [None, "hpc", "registry:model", "s3://bucket/a.ckpt"])
def test_checkpoints_that_lightning_finds_elsewhere_pass(tmp_path: Path, given: str | None) -> None:
    require_checkpoint(given, tmp_path)


def test_a_checkpoint_that_is_there_passes(tmp_path: Path) -> None:
    file = tmp_path / "a.ckpt"
    file.touch()
    require_checkpoint(str(file), tmp_path)


def test_a_place_where_nothing_may_be_written_is_refused_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match=r"adamw: Permission denied\. Choose another `--run\.root`"):
        RunPlace(str(tmp_path), "digits", "adamw").claim(0)


def test_an_arm_is_named_after_its_optimizer() -> None:
    assert default_arm("torch.optim.AdamW", is_perturbed=False) == "adamw"
    assert default_arm(None, is_perturbed=True) == "default_perturbed"

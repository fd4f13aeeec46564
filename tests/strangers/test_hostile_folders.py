"""Folders of comparisons that are damaged, or come from somebody else."""

import json
import random
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_qsgd import Goal
from lightning_qsgd.cli import compare_command
from lightning_qsgd.cli.main import main
from lightning_qsgd.compare import Arm, Comparison, Results, load_results, save_results
from lightning_qsgd.compare.executors import Attempt
from lightning_qsgd.compare.results.results_folder import _packed_curves
from lightning_qsgd.compare.running.stored_run import RunStore, StoredRun
from tests.compare_jobs import made_job, quick_fit

ARMS = (Arm("adamw", "baseline"), Arm("sine"))
SEEDS = (0, 1, 2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A comparison of two arms and three seeds, as one that has ended leaves it."""
    monkeypatch.setattr(sys, "argv", ["lightning-qsgd"])
    made = tmp_path / "box" / "out"
    made.mkdir(parents=True)
    store, runs = RunStore(made), []
    for arm in ARMS:
        for seed in SEEDS:
            job = made_job(arm.name, seed, value=0.5 if arm.kind == "baseline" else 0.75)
            run = quick_fit(job)
            store.save(StoredRun.of(Attempt(job, run, wall=1.0)), job)
            runs.append(run)
    save_results(Results(Comparison("quick", Goal(), ARMS, SEEDS), tuple(runs)), made)
    return made


def report(folder: Path) -> int:
    """Run the command; whatever is no exit of its own is a failure of the test."""
    try:
        main(["report", str(folder)])
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def outside(folder: Path) -> set[Path]:
    box = folder.parents[1]
    return {path for path in box.rglob("*") if folder not in (path, *path.parents)}


def damage(folder: Path, dice: random.Random) -> Path:
    """Damage one file of the folder in one way."""
    file = dice.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    content = bytearray(file.read_bytes())
    way = dice.choice(["cut", "flip", "flips", "gone", "empty", "folder", "words", "other"])
    if way == "cut":
        file.write_bytes(content[: dice.randrange(len(content) + 1)])
    elif way in ("flip", "flips") and content:
        for _ in range(1 if way == "flip" else 20):
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        file.write_bytes(content)
    elif way == "words":
        file.write_text(dice.choice(["[]", "{}", "null", "{", "[" * 5000, '{"format": 1}', "\0"]))
    elif way == "other":
        file.write_bytes(dice.choice(sorted(folder.rglob("*.json"))).read_bytes())
    else:
        file.unlink()
        if way == "folder":
            file.mkdir()
        elif way == "empty":
            file.touch()
    return file


def publish_lightly(results: Results, folder: Path, console: Any) -> None:
    """Leave out the pictures, which take most of the time of a report."""


@pytest.mark.parametrize("seed", range(100))
def test_no_damage_ends_in_a_traceback_or_loses_a_run(
    seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    if seed % 20:
        monkeypatch.setattr(compare_command, "publish", publish_lightly)
    before = outside(folder)
    file = damage(folder, random.Random(seed))
    intact = file.name not in ("results.json", "curves.npz")
    kept = (folder / "results.json").read_bytes() if (folder / "results.json").is_file() else b""
    status = report(folder)
    said = capsys.readouterr()
    in_the_way = file.is_dir() and file.suffix != ".json"  # where a table is to be written
    assert status in ((2,) if in_the_way else (0,) if intact else (0, 2))
    assert "Traceback" not in said.out + said.err
    assert outside(folder) == before
    if intact and not in_the_way:
        assert len(load_results(folder).runs) == 6
        if file.suffix == ".json":
            assert file.name in (said.out + said.err).replace("\n", "") or RunStore(folder).load(
                str(file.relative_to(folder).with_suffix(""))
            )
    elif status:
        assert kept == (
            (folder / "results.json").read_bytes() if (folder / "results.json").is_file() else b""
        )


def rewritten(folder: Path, change: Any) -> None:
    saved = json.loads((folder / "results.json").read_text())
    saved.pop("sha256")
    change(saved)
    (folder / "results.json").write_text(json.dumps(saved))


@pytest.mark.parametrize(
    "name", ["../../evil", "/tmp/evil", "..", "", "a/b", "_mean", "a\0b", "a\nb", "x" * 300, 5]
)
def test_names_that_lead_elsewhere_are_refused(name: Any, folder: Path, capsys: Any) -> None:
    def rename(saved: dict[str, Any]) -> None:
        saved["comparison"]["arms"][1]["name"] = name
        for run in saved["runs"]:
            run["arm"] = name if run["arm"] == "sine" else run["arm"]

    rewritten(folder, rename)
    before = outside(folder)
    assert report(folder) == 2
    assert "to be the name of one folder" in " ".join(capsys.readouterr().err.split())
    assert outside(folder) == before


@pytest.mark.parametrize("seed", ["0/../../../evil", -1, 1.5, True, None])
def test_seeds_that_are_no_numbers_are_refused(seed: Any, folder: Path, capsys: Any) -> None:
    rewritten(folder, lambda saved: saved["comparison"]["seeds"].append(seed))
    assert report(folder) == 2
    assert "seeds to be whole numbers" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "name", ["runs", "tensorboard", "runs/sine", "compare.lock", "report.html"]
)
def test_symbolic_links_are_refused(name: str, folder: Path, capsys: Any) -> None:
    elsewhere = folder.parents[1] / "elsewhere"
    elsewhere.mkdir()
    place = folder / name
    if place.exists():
        place.rename(folder.parents[1] / "moved")
    place.symlink_to(elsewhere)
    assert report(folder) == 2
    assert "is a symbolic link, through which files" in " ".join(capsys.readouterr().err.split())
    assert not any(elsewhere.iterdir())


def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked(folder: Path, capsys: Any) -> None:
    rewritten(folder, lambda saved: None)
    with (
        zipfile.ZipFile(folder / "curves.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("adamw/0/val.npy", "w", force_zip64=True) as entry,
    ):
        for _ in range(300):
            entry.write(bytes(2**20))
    assert report(folder) == 2
    assert "that unpacks to more than" in " ".join(capsys.readouterr().err.split())


def test_values_that_do_not_fit_together_are_refused_in_words(folder: Path, capsys: Any) -> None:
    rewritten(folder, lambda saved: saved["runs"][0].update(checks=[1]))
    assert report(folder) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_curves_are_stored_with_a_checksum(folder: Path, capsys: Any) -> None:
    results = load_results(folder)
    changed = np.frombuffer(_packed_curves(results), np.uint8).copy()
    (folder / "curves.npz").write_bytes(changed.tobytes() + b"more")
    assert report(folder) == 2
    assert "a checksum that differs" in capsys.readouterr().err

"""The record of a run on disk, and what makes it unreadable."""

import json
from pathlib import Path

import pytest

from lightning_qsgd.training.recorded_run import RecordedRun, load_run, save_run


def record() -> RecordedRun:
    run = RecordedRun("adamw", 3, checks={"initial_weights": "def"}, fingerprint="abc")
    run.curve("train/loss").append(1.0, 0.5, 0.1, 2.25)
    run.curve("train/loss").append(2.0, 1.0, 0.2, float("nan"))
    run.curve("val/accuracy").append(2.0, 1.0, 0.2, 0.5)
    return run


def test_run_survives_the_disk(tmp_path: Path) -> None:
    save_run(record(), tmp_path / "record.json")
    assert repr(load_run(tmp_path / "record.json")) == repr(record())
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_repeated_step_replaces_its_point() -> None:
    run = record()
    run.curve("val/accuracy").append(2.0, 1.0, 0.3, 0.75)
    assert run.curve("val/accuracy").values == [0.75]
    assert run.curve("val/accuracy").seconds == [0.3]


def test_saving_over_a_run_replaces_it(tmp_path: Path) -> None:
    save_run(record(), tmp_path / "record.json")
    save_run(RecordedRun(fingerprint="new"), tmp_path / "record.json")
    assert repr(load_run(tmp_path / "record.json")) == repr(RecordedRun(fingerprint="new"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"it is not complete JSON .*Delete it and run again"),
        ('{"format": 1, "curves": {', r"it is not complete JSON"),
        ("[]", r"does not fit format 1.*delete it and run again"),
        ("{}", r"KeyError\('format'\) does not fit format 1"),
        (json.dumps({"format": 2}), r"format 2.*written by another version"),
        (json.dumps({"format": 1, "fingerprint": "", "curves": {}}), r"'arm'"),
        (
            json.dumps({**RecordedRun().to_dict(), "curves": {"a": {"x": []}}}),
            r"unexpected keyword argument 'x'",
        ),
    ],
)
def test_a_damaged_record_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_run(tmp_path / "record.json")


def test_a_missing_record_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"record\.json"):
        load_run(tmp_path / "record.json")

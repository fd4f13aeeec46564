"""What a run wrote can be read back, completely, or the error says why not."""

import math

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from tests.event_files import read_scalars


def write_losses(folder, steps, **kwargs):
    with SummaryWriter(folder, **kwargs) as writer:
        for step in steps:
            writer.add_scalar("train/loss", 1 / (1 + step), step, walltime=1000.0 + step)


def event_file(folder):
    (path,) = folder.glob("*tfevents*")
    return path


def test_values_steps_and_times_come_back(tmp_path):
    write_losses(tmp_path, [0, 10, 20])

    curve = read_scalars(tmp_path)["train/loss"]

    assert curve.steps.tolist() == [0.0, 10.0, 20.0]
    assert curve.values == pytest.approx(np.array([1.0, 1 / 11, 1 / 21]), rel=1e-7)
    assert curve.wall_times.tolist() == [1000.0, 1010.0, 1020.0]
    assert {array.dtype for array in vars(curve).values()} == {np.dtype(np.float64)}


def test_nothing_is_downsampled(tmp_path):
    write_losses(tmp_path, range(12_000))

    assert len(read_scalars(tmp_path)["train/loss"].steps) == 12_000


def test_every_tag_has_its_own_curve(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("val/loss", 2.0, 5)
        writer.add_scalar("val/accuracy", 0.5, 7)
        writer.add_text("note", "not a scalar")

    curves = read_scalars(str(tmp_path))

    assert {tag: curve.steps.tolist() for tag, curve in curves.items()} == {
        "val/loss": [5.0],
        "val/accuracy": [7.0],
    }


def test_scalars_of_the_new_style_are_read_with_full_precision(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        for step in range(20):
            writer.add_scalar("loss", 0.1 + step, step, new_style=True, double_precision=True)

    assert read_scalars(tmp_path)["loss"].values.tolist() == [0.1 + step for step in range(20)]


def test_a_diverged_run_keeps_its_nan_and_infinity(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        for step, value in enumerate([1.0, math.inf, math.nan]):
            writer.add_scalar("loss", value, step)

    values = read_scalars(tmp_path)["loss"].values

    assert values[1] == math.inf
    assert math.isnan(values[2])


def test_large_global_steps_stay_exact(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("loss", 1.0, 2**40 + 1)

    assert read_scalars(tmp_path)["loss"].steps[0] == 2**40 + 1


def test_a_resumed_run_is_one_curve_and_the_later_value_counts(tmp_path):
    with SummaryWriter(tmp_path, filename_suffix=".first") as writer:
        for step in [0, 1, 2, 3]:
            writer.add_scalar("loss", 10.0 + step, step)
    with SummaryWriter(tmp_path, filename_suffix=".resumed") as writer:
        for step in [2, 3, 4]:
            writer.add_scalar("loss", 20.0 + step, step)

    curve = read_scalars(tmp_path)["loss"]

    assert curve.steps.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert curve.values.tolist() == [10.0, 11.0, 22.0, 23.0, 24.0]


def test_runs_in_folders_below_are_not_mixed_in(tmp_path):
    write_losses(tmp_path, [0, 1])
    write_losses(tmp_path / "other", [2, 3])

    assert read_scalars(tmp_path)["train/loss"].steps.tolist() == [0.0, 1.0]


def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path):
    write_losses(tmp_path, range(10))
    content = event_file(tmp_path).read_bytes()
    event_file(tmp_path).write_bytes(content[:-5])

    assert read_scalars(tmp_path)["train/loss"].steps.tolist() == list(range(9))


def test_a_run_without_scalars_is_empty(tmp_path):
    SummaryWriter(tmp_path).close()

    assert read_scalars(tmp_path) == {}


@pytest.mark.parametrize("content", [b"", b"this is no event file at all, but it is long enough"])
def test_a_file_without_a_readable_event_is_refused(tmp_path, content):
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)

    with pytest.raises(ValueError, match=r"Cannot read the run in .*empty or damaged.*run it ag"):
        read_scalars(tmp_path)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such folder.*Pass a folder such as runs/"):
        read_scalars(tmp_path / "seed0")


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    write_losses(tmp_path, [0])

    with pytest.raises(NotADirectoryError, match=r"it is a file.*Pass the folder"):
        read_scalars(event_file(tmp_path))


def test_a_folder_above_the_runs_is_refused(tmp_path):
    write_losses(tmp_path / "adamw" / "seed0", [0])
    (tmp_path / "notes.txt").write_text("no events here")
    (tmp_path / "old_tfevents").mkdir()

    with pytest.raises(FileNotFoundError, match=r"no TensorBoard event file.*Pass the folder of"):
        read_scalars(tmp_path)

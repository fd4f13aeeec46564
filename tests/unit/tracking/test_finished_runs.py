"""Finished runs become TensorBoard runs that say the same."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_qsgd.tracking.pages import write_run
from tests.event_files import read_scalars

CURVES = {"val/loss": [(1.0, 0.5), (2.4, 0.25)], "train/loss": [(1.0, 2.0)]}


def test_what_is_written_is_read_back(tmp_path):
    write_run(tmp_path, CURVES, ["val/loss"], {"lr": 0.1, "arm": "sine"})
    found = read_scalars(tmp_path)
    assert found["val/loss"].steps.tolist() == [1, 2]
    assert found["val/loss"].values.tolist() == [0.5, 0.25]
    assert found["train/loss"].values.tolist() == [2.0]


def test_the_table_takes_its_columns_from_all_runs(tmp_path):
    """An experiment in a run would be taken for that of all, with the columns of that run."""
    write_run(tmp_path, CURVES, ["val/loss"], {"lr": 0.1})
    tags = EventAccumulator(str(tmp_path)).Reload().PluginTagToContent("hparams")
    assert tags.keys() == {"_hparams_/session_start_info", "_hparams_/session_end_info"}

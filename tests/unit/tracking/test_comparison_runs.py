"""Finished runs become TensorBoard runs that say the same."""

import pytest

from lightning_qsgd.tracking.comparison_runs import charts_of, mean_tag, means_layout, write_run
from tests.event_files import read_scalars


def test_what_is_written_is_read_back(tmp_path):
    curves = {"val/loss": [(1.0, 0.5), (2.4, 0.25)], "train/loss": [(1.0, 2.0)]}
    write_run(tmp_path, curves, ["val/loss"], {"lr": 0.1, "arm": "sine"}, {"val/loss": 0.25})
    found = read_scalars(tmp_path)
    assert found["val/loss"].steps.tolist() == [1, 2]
    assert found["val/loss"].values.tolist() == [0.5, 0.25]
    assert found["train/loss"].values.tolist() == [2.0]
    assert found["final/val/loss"].values.tolist() == [0.25]


def test_hyperparameters_are_written_only_where_there_are_any(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for name, given in (("mean", None), ("run", {"lr": 0.1})):
        write_run(tmp_path / name, {"val/loss": [(1.0, 0.5)]}, ["val/loss"], given)
        tags = EventAccumulator(str(tmp_path / name)).Reload().PluginTagToContent
        if given is None:
            with pytest.raises(KeyError):
                tags("hparams")
        else:
            assert "_hparams_/session_start_info" in tags("hparams")
        assert "custom_scalars__config__" in tags("custom_scalars")


def test_means_have_charts_of_their_own():
    layout = means_layout(["val/loss"])
    assert layout["mean over seeds"] == {"val/loss": ["Multiline", ["^mean/val/loss$"]]}
    assert layout["mean gap to the baseline"] == {
        "val/loss minus the baseline": ["Multiline", ["^mean/baseline/gap_val/loss$"]]
    }
    assert layout["single runs"] == {"val/loss": ["Multiline", ["^val/loss$"]]}
    assert len(layout["perturbation size"]) == 2
    assert mean_tag("a") == "mean/a"


def test_a_run_brings_the_charts_that_it_fills():
    layout = means_layout(["val/loss", "train/loss"])
    means = charts_of(layout, ["mean/val/loss", "mean/baseline/gap_train/loss"])
    assert {group: list(charts) for group, charts in means.items()} == {
        "mean over seeds": ["val/loss"],
        "mean gap to the baseline": ["train/loss minus the baseline"],
    }
    assert list(charts_of(layout, ["val/loss"])) == ["single runs"]
    assert charts_of(layout, []) == {}


def test_a_layout_needs_a_metric():
    with pytest.raises(ValueError, match="at least one tag"):
        means_layout([])

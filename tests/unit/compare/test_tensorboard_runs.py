"""TensorBoard shows the mean of each arm, its gap, and all runs below."""

from dataclasses import replace

from lightning_qsgd.compare.tensorboard_runs import MEAN, write_tensorboard
from tests.comparison_cases import METRIC, made_curve, made_results
from tests.event_files import read_scalars


def with_curves(results, values):
    runs = tuple(
        replace(run, curves={METRIC: made_curve(values[run.arm][run.seed])}) for run in results.runs
    )
    return replace(results, runs=runs)


VALUES = {"adamw": [[0.1, 0.5], [0.3, 0.7]], "sine": [[0.2, 0.75], [0.4, 0.95]]}
FINAL = {arm: [curve[-1] for curve in curves] for arm, curves in VALUES.items()}


def test_means_and_gaps_are_those_of_the_runs(tmp_path):
    results = with_curves(made_results(FINAL), VALUES)
    root = write_tensorboard(results, tmp_path, {"sine": {"optimizer": {"lr": 0.1}}})
    mean = read_scalars(root / MEAN / "sine")
    assert mean[f"mean/{METRIC}"].steps.tolist() == [10, 20]
    assert abs(mean[f"mean/{METRIC}"].values - [0.3, 0.85]).max() < 1e-6
    assert abs(mean[f"mean_gap/{METRIC}"].values - [0.1, 0.25]).max() < 1e-6
    own = read_scalars(root / MEAN / "adamw")
    assert not own[f"mean_gap/{METRIC}"].values.any()
    assert abs(read_scalars(root / "sine" / "seed1")[METRIC].values - [0.4, 0.95]).max() < 1e-6


def test_the_gap_is_a_difference_whatever_the_direction(tmp_path):
    results = with_curves(made_results(FINAL, higher_is_better=False), VALUES)
    root = write_tensorboard(results, tmp_path, {})
    gap = read_scalars(root / MEAN / "sine")[f"mean_gap/{METRIC}"]
    assert (gap.values > 0).all()


def test_the_table_of_hyperparameters_has_the_columns_that_tell_arms_apart(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    values = {**VALUES, "third": VALUES["sine"]}
    results = with_curves(made_results({**FINAL, "third": FINAL["sine"]}), values)
    configs = {
        "adamw": {"optimizer": {"lr": 0.1, "eps": 1e-8, "amsgrad": False}},
        "sine": {"optimizer": {"lr": 0.2, "eps": 1e-8, "amsgrad": False}},
        "third": {"optimizer": {"lr": 0.2, "eps": 1e-8}, "perturbation": {"strength": 1}},
    }
    root = write_tensorboard(results, tmp_path, configs)
    columns, means = {}, {}
    for arm in configs:
        mean = EventAccumulator(str(root / MEAN / arm)).Reload().PluginTagToContent("hparams")
        data = plugin_data_pb2.HParamsPluginData.FromString(mean["_hparams_/session_start_info"])
        means[arm] = set(data.session_start_info.hparams)
        tags = EventAccumulator(str(root / arm / "seed1")).Reload().PluginTagToContent("hparams")
        data = plugin_data_pb2.HParamsPluginData.FromString(tags["_hparams_/session_start_info"])
        columns[arm] = set(data.session_start_info.hparams)
    assert columns["adamw"] == columns["sine"] == {"arm", "seed", "optimizer/lr"}
    assert columns["third"] == columns["sine"] | {"perturbation/strength"}
    assert means == {arm: found - {"seed"} | {"seeds"} for arm, found in columns.items()}


def test_a_final_value_without_a_curve_is_a_point_at_the_end_of_the_run(tmp_path):
    results = with_curves(made_results(FINAL), VALUES)
    runs = tuple(replace(run, final={**run.final, "test": run.seed + 1.0}) for run in results.runs)
    root = write_tensorboard(replace(results, runs=runs), tmp_path, {})
    mean, single = read_scalars(root / MEAN / "sine"), read_scalars(root / "sine" / "seed1")
    assert set(single) == {METRIC, "test"}
    assert set(mean) == {f"{kind}/{tag}" for kind in ("mean", "mean_gap") for tag in single}
    assert (single["test"].steps, single["test"].values) == ([20], [2.0])
    assert (mean["mean/test"].steps, mean["mean/test"].values) == ([20], [1.5])
    assert mean["mean_gap/test"].values == [0.0]


def test_runs_of_an_earlier_comparison_disappear(tmp_path):
    results = with_curves(made_results(FINAL), VALUES)
    old = tmp_path / "tensorboard" / "gone" / "seed0"
    old.mkdir(parents=True)
    root = write_tensorboard(results, tmp_path, {})
    assert {folder.name for folder in root.iterdir()} == {MEAN, "adamw", "sine"}

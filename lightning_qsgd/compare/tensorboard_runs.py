"""Lays a comparison out for TensorBoard: the mean of each arm, and all runs below."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

from lightning_qsgd.compare.planning.job import run_name
from lightning_qsgd.compare.report.curve_pictures import band_of
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.metrics.functional import gap_at_equal_step
from lightning_qsgd.tracking import flatten_config, tags
from lightning_qsgd.tracking.pages import Hyperparameter, Points, write_columns, write_run
from lightning_qsgd.training.recorded_run import RecordedCurve, RecordedRun

Curves = Mapping[str, RecordedCurve]
FOLDER = "tensorboard"
MEAN = "_mean"
ALPHA = 0.05
SHOWN = ("optimizer", "lr_scheduler", "perturbation")
"""Parts of a configuration that tell runs apart."""


def write_tensorboard(
    results: Results, folder: Path, configs: Mapping[str, Mapping[str, Any]]
) -> Path:
    """Write `<folder>/tensorboard` anew: `_mean/<arm>`, and `<arm>/seed<k>` for every run.

    Args:
        results: The runs.
        folder: Folder of the comparison.
        configs: Configuration of the runs by arm; what differs between them is in the HParams
            table. Arms may be missing.

    Returns:
        The log directory to give to TensorBoard.
    """
    root, goal = folder / FOLDER, results.comparison.goal
    rmtree(root, ignore_errors=True)
    compared = list(dict.fromkeys([goal.metric, goal.loss]))
    columns = _telling_columns(configs)
    rows: dict[Path, dict[str, Hyperparameter]] = {}
    own, mean = list(compared), list[str]()
    for arm in results.comparison.arms:
        runs = results.runs_of(arm.name)
        for seed, run in runs.items():
            place = root / run_name(arm.name, seed, ".")
            rows[place] = {"arm": arm.name, "seed": seed, **columns.get(arm.name, {})}
            curves = {tag: _points(curve) for tag, curve in _curves(run).items()}
            own += curves
            write_run(place, curves, compared, rows[place])
        means = _means(results, arm.name, compared)
        if means:
            place = root / MEAN / arm.name
            rows[place] = {"arm": arm.name, "seeds": len(runs), **columns.get(arm.name, {})}
            mean += means
            write_run(place, means, compared, rows[place])
    if rows:  # in the first single run: a page of the means alone has other columns
        write_columns(next(iter(rows)), rows.values(), dict.fromkeys([*own, *mean]))
    return root


def _curves(run: RecordedRun) -> dict[str, RecordedCurve]:
    """Return all curves; a final value that has none is one point at the end of the run."""
    end = max((curve.steps[-1] for curve in run.curves.values() if curve.steps), default=0.0)
    ends = {tag: RecordedCurve([end], values=[value]) for tag, value in run.final.items()}
    return ends | run.curves


def _telling_columns(
    configs: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Hyperparameter]]:
    """Keep, by arm, the values that tell it apart: the rest would hide them in the table.

    Those are what differs between the arms that have it, and what one arm alone has. An optimizer
    that lacks a setting which all others leave at its default tells nothing.
    """
    flat = {
        arm: _in_short(
            flatten_config({key: config[key] for key in SHOWN if config.get(key) is not None})
        )
        for arm, config in configs.items()
    }
    found: dict[str, list[str]] = {}
    for row in flat.values():
        for name, value in row.items():
            found.setdefault(name, []).append(repr(value))
    telling = {name for name, seen in found.items() if len(set(seen)) > 1 or len(seen) == 1}
    return {
        arm: {name: value for name, value in row.items() if name in telling}
        for arm, row in flat.items()
    }


def _in_short(row: Mapping[str, Hyperparameter]) -> dict[str, Hyperparameter]:
    """Name classes and their arguments as a reader would: columns are narrow.

    Example:
        >>> adam = {"class_path": "torch.optim.Adam", "init_args/lr": 0.1}
        >>> _in_short({f"optimizer/{name}": value for name, value in adam.items()})
        {'optimizer': 'Adam', 'optimizer/lr': 0.1}
    """
    return {
        name.removesuffix("/class_path").replace("init_args/", ""): (
            str(value).rsplit(".", 1)[-1] if name.endswith("class_path") else value
        )
        for name, value in row.items()
    }


def _means(results: Results, arm: str, compared: Sequence[str]) -> dict[str, Points]:
    ours, theirs = (
        {seed: _curves(run) for seed, run in results.runs_of(name).items()}
        for name in (arm, results.comparison.baseline.name)
    )
    finals = (tag for run in results.runs_of(arm).values() for tag in run.final)
    found: dict[str, Points] = {}
    for tag in dict.fromkeys([*compared, *finals]):
        curves = [run[tag] for run in ours.values() if tag in run]
        gaps = [
            gap
            for seed, run in ours.items()
            if seed in theirs and (gap := _gap(run, theirs[seed], tag)) is not None
        ]
        for name, group in ((tags.mean_tag(tag), curves), (tags.mean_gap_tag(tag), gaps)):
            band = band_of(group, ALPHA)
            if band is not None:
                found[name] = list(zip(band.steps.tolist(), band.mean.tolist(), strict=True))
    return found


def _gap(run: Curves, baseline: Curves, tag: str) -> RecordedCurve | None:
    ours, theirs = run.get(tag), baseline.get(tag)
    if not (ours and theirs and ours.steps and theirs.steps):
        return None
    steps, gaps = gap_at_equal_step(ours.steps, ours.values, theirs.steps, theirs.values)
    return RecordedCurve(steps.tolist(), values=gaps.tolist())


def _points(curve: RecordedCurve) -> Points:
    return list(zip(curve.steps, curve.values, strict=True))

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
from lightning_qsgd.tracking.comparison_runs import Points, mean_tag, write_run
from lightning_qsgd.tracking.pages import Hyperparameter
from lightning_qsgd.training.recorded_run import RecordedCurve, RecordedRun

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
    for arm in results.comparison.arms:
        runs = results.runs_of(arm.name)
        means = _means(results, arm.name, compared)
        if means:
            row = {"arm": arm.name, "seeds": len(runs), **columns.get(arm.name, {})}
            final = _mean_of_finals(list(runs.values()))
            write_run(root / MEAN / arm.name, means, compared, row, final)
        for seed, run in runs.items():
            row = {"arm": arm.name, "seed": seed, **columns.get(arm.name, {})}
            curves = {tag: _points(curve) for tag, curve in run.curves.items()}
            write_run(root / run_name(arm.name, seed, "."), curves, compared, row, run.final)
    return root


def _telling_columns(
    configs: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Hyperparameter]]:
    """Keep, by arm, the values that tell it apart: the rest would hide them in the table.

    Those are what differs between the arms that have it, and what one arm alone has. An optimizer
    that lacks a setting which all others leave at its default tells nothing.
    """
    flat = {
        arm: flatten_config({key: config[key] for key in SHOWN if config.get(key) is not None})
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


def _means(results: Results, arm: str, compared: Sequence[str]) -> dict[str, Points]:
    ours = results.runs_of(arm)
    theirs = results.runs_of(results.comparison.baseline.name)
    found: dict[str, Points] = {}
    for tag in compared:
        curves = [run.curves[tag] for run in ours.values() if tag in run.curves]
        gaps = [
            gap
            for seed, run in ours.items()
            if seed in theirs and (gap := _gap(run, theirs[seed], tag)) is not None
        ]
        for name, group in ((tag, curves), (tags.gap_tag(tag), gaps)):
            band = band_of(group, ALPHA)
            if band is not None:
                found[mean_tag(name)] = list(
                    zip(band.steps.tolist(), band.mean.tolist(), strict=True)
                )
    return found


def _mean_of_finals(runs: Sequence[RecordedRun]) -> dict[str, float]:
    known = [set(run.final) for run in runs]
    shared = sorted(set.intersection(*known)) if known else []
    return {name: sum(run.final[name] for run in runs) / len(runs) for name in shared}


def _gap(run: RecordedRun, baseline: RecordedRun, tag: str) -> RecordedCurve | None:
    ours, theirs = run.curves.get(tag), baseline.curves.get(tag)
    if not (ours and theirs and ours.steps and theirs.steps):
        return None
    steps, gaps = gap_at_equal_step(ours.steps, ours.values, theirs.steps, theirs.values)
    return RecordedCurve(steps.tolist(), values=gaps.tolist())


def _points(curve: RecordedCurve) -> Points:
    return list(zip(curve.steps, curve.values, strict=True))

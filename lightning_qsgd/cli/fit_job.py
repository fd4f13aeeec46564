"""Makes one run of a comparison, in whatever process and on whatever machine."""

from dataclasses import dataclass, field
from math import nan
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

# Imported by the server that forks the processes, so that no run has to wait for them.
from lightning_qsgd.cli.job_cli import JobCLI
from lightning_qsgd.cli.main import hush
from lightning_qsgd.cli.perturbation_cli import PerturbationCLI
from lightning_qsgd.cli.recipe import Recipe
from lightning_qsgd.compare.planning.job import Job
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.convergence_callback import Goal, steps_taken
from lightning_qsgd.training.first_weights import hashed_weights
from lightning_qsgd.training.recorded_run import (
    DATA_ORDER,
    FINAL_WEIGHTS,
    RANDOM_STATE,
    RecordedCurve,
    RecordedRun,
)

MEASURED = (tags.RELATIVE_SIZE, tags.MODEL_RELATIVE_SIZE)


@dataclass(frozen=True)
class FitJob:
    """Trains runs as a command line does; goes to other processes.

    Attributes:
        recipe: The command line: that of this package, or one of the user's.
    """

    recipe: Recipe = field(default_factory=lambda: Recipe(PerturbationCLI))

    def __call__(self, job: Job) -> RecordedRun:
        """Train one run; see `fit_job`."""
        return fit_job(job, self.recipe)


def fit_job(job: Job, recipe: Recipe) -> RecordedRun:
    """Train one run with one thread.

    Args:
        job: The run.
        recipe: The command line.

    Returns:
        Its curves, final metrics, hashes, timing and first weights.

    Raises:
        ValueError: If the run recorded no value of the goal's metric.
    """
    torch.set_num_threads(1)
    hush()
    with TemporaryDirectory() as scratch:
        cli = JobCLI.run(recipe, dict(job.config), scratch)
    if cli.convergence is None:
        raise RuntimeError("The run recorded nothing: `fast_dev_run` is on. Switch it off.")
    goal, record = cli.convergence.goal, cli.convergence.run
    final = _final(cli, record, goal)
    curves = _curves(cli, record, goal)
    return RecordedRun(
        *(job.arm, job.seed, final, curves, _checks(cli), record.timing),
        *(record.first_weights, job.fingerprint),
    )


def _final(cli: JobCLI, record: RecordedRun, goal: Goal) -> dict[str, float]:
    """Return the metrics of the final weights, and close the metric's curve with them."""
    final = dict(cli.validated)
    if goal.metric not in final:
        curve = record.curve(goal.metric)
        if not curve.values:
            raise ValueError(
                f"The run recorded no `{goal.metric}`, by which it is to be judged. It logged "
                f"{sorted({*cli.logged, *final})}. Set `goal.metric` to one of those, or log it in "
                "`validation_step`."
            )
        final[goal.metric] = curve.values[-1]
    step, loss = float(steps_taken(cli.trainer)), record.curve(goal.loss)
    curve = record.curve(goal.metric)
    if not curve.steps or curve.steps[-1] < step:
        epoch = loss.epochs[-1] if loss.epochs else float(cli.trainer.current_epoch)
        seconds = loss.seconds[-1] if loss.seconds else nan
        curve.append(step, epoch, seconds, final[goal.metric])
    if loss.values:
        final.setdefault(goal.loss, loss.values[-1])
    return dict(sorted(final.items()))


def _curves(cli: JobCLI, record: RecordedRun, goal: Goal) -> dict[str, RecordedCurve]:
    loss = record.curve(goal.loss)
    curves = {tag: record.curve(tag) for tag in (goal.loss, goal.metric)}
    for tag in MEASURED:
        points = cli.memory.points.get(tag, [])
        if points and loss.steps:
            steps = [float(step) for step, _ in points]
            curves[tag] = RecordedCurve(
                steps,
                np.interp(steps, loss.steps, loss.epochs).tolist(),
                np.interp(steps, loss.steps, loss.seconds).tolist(),
                [value for _, value in points],
            )
    return {tag: curve for tag, curve in curves.items() if curve.steps}


def _checks(cli: JobCLI) -> dict[str, str]:
    convergence: Any = cli.convergence
    hashes = {
        **convergence.run.checks,
        DATA_ORDER: cli.pairing.data_order,
        RANDOM_STATE: cli.pairing.random_state,
        FINAL_WEIGHTS: hashed_weights(cli.model).digest,
    }
    return {name: value for name, value in hashes.items() if value}  # unreadable is unknown

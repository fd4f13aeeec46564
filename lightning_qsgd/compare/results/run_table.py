"""The runs as two tables: one that repeats to the last digit, one of wall-clock times."""

import csv
import io
from collections.abc import Iterable, Sequence
from math import nan

from lightning_qsgd.compare.results.gains import cost_to_target, final_values, relative_size
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.training.recorded_run import FINAL_WEIGHTS, PAIRED_CHECKS, RecordedRun

DERIVED = ("steps_to_target", "epochs_to_target", "relative_size", "parameters")
HASHES = (*PAIRED_CHECKS, FINAL_WEIGHTS)


def results_csv(results: Results) -> str:
    """Lay out one row per planned run, in the order of arms and seeds.

    Numbers are written with as many digits as it takes to read the same float again. Nothing in
    the table depends on the clock or on the order in which runs ended, so the same comparison gives
    the same bytes.

    Args:
        results: The runs.

    Returns:
        Columns: arm, kind, seed, status (done, failed or missing), every final metric, the goal's
        metric at the end of each shorter run, steps and epochs to the target (``inf`` if never,
        ``nan`` without a target), median relative size of the perturbation, number of trainable
        parameters, and the hashes.
    """
    metrics = sorted({metric for run in results.runs for metric in run.final})
    head = ["arm", "kind", "seed", "status", *metrics]
    head += [f"{results.comparison.goal.metric} at {length}" for length in results.horizons]
    head += [*DERIVED, *HASHES]
    return as_csv(head, (_row(results, key, metrics) for key in results.planned))


def timing_csv(results: Results) -> str:
    """Lay out the wall-clock times, which differ from one comparison to the next.

    Args:
        results: The runs.

    Returns:
        Columns: arm, seed, seconds, seconds per step and per epoch, seconds to the target; ended
        runs only.
    """
    head = ["arm", "seed", "seconds", "seconds_per_step", "seconds_per_epoch", "seconds_to_target"]
    goal = results.comparison.goal
    rows = (
        [
            run.arm,
            run.seed,
            _number(run.timing.seconds),
            _number(run.timing.seconds_per_step),
            _number(run.timing.seconds_per_epoch),
            _number(cost_to_target(run, goal, "seconds")),
        ]
        for arm in results.comparison.arms
        for run in results.runs_of(arm.name).values()
    )
    return as_csv(head, rows)


def _row(results: Results, key: tuple[str, int], metrics: list[str]) -> list[object]:
    arm, seed = key
    lead = [arm, results.comparison.arm(arm).kind, seed]
    ends = [final_values(part, arm).get(seed) for part in results.horizons.values()]
    earlier = ["" if value is None else _number(value) for value in ends]
    run = results.runs_of(arm).get(seed)
    if run is None:
        status = "missing" if key in results.missing else "failed"
        blanks = [""] * (len(DERIVED) + len(HASHES))
        return [*lead, status, *[""] * len(metrics), *earlier, *blanks]
    finals = [_number(run.final.get(metric, nan)) for metric in metrics]
    return [*lead, "done", *finals, *earlier, *_derived(run, results)]


def _derived(run: RecordedRun, results: Results) -> list[str]:
    goal = results.comparison.goal
    numbers = [cost_to_target(run, goal, axis) for axis in ("steps", "epochs")]
    numbers.append(relative_size(run))
    size = str(run.first_weights.parameters or "")
    return [*map(_number, numbers), size, *(run.checks.get(name, "") for name in HASHES)]


def _number(value: float) -> str:
    return repr(float(value))


def as_csv(head: list[str], rows: Iterable[Sequence[object]]) -> str:
    """Write rows under a head."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()

"""Made-up results of comparisons, with known truths."""

from dataclasses import replace

import numpy as np

from lightning_qsgd.compare import (
    Arm,
    Comparison,
    FailedRun,
    Method,
    Provenance,
    Results,
)
from lightning_qsgd.compare.report import write_report
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import (
    DATA_ORDER,
    INITIAL_WEIGHTS,
    RecordedCurve,
    RecordedRun,
    Timing,
)

METRIC = "val/accuracy"
METHOD = Method(resamples=999)
SEEDS = 12
HASHES = (INITIAL_WEIGHTS, DATA_ORDER)


def made_run(arm, seed, value, metric=METRIC, **changes):
    """One run that ended with a value, paired with all others of its seed."""
    checks = {name: f"{name} {seed}" for name in HASHES}
    return RecordedRun(arm, seed, **{"final": {metric: float(value)}, "checks": checks, **changes})


def made_results(values, arms=None, *, higher_is_better=True, target=None, **fields):
    """Results from final values by arm, one per seed 0, 1, ...; the first arm is the baseline."""
    names = list(values)
    if arms is None:
        arms = tuple(Arm(name, "arm" if names.index(name) else "baseline") for name in names)
    seeds = tuple(range(max(map(len, values.values()))))
    goal = Goal(metric=METRIC, higher_is_better=higher_is_better, target=target)
    runs = tuple(
        made_run(name, seed, value)
        for name in names
        for seed, value in enumerate(values[name])
        if value is not None
    )
    return Results(Comparison("made", goal, arms, seeds, "300 steps"), runs, **fields)


def made_curve(values, every=10):
    """A curve observed every few steps, ten steps per epoch-tenth, one second per step."""
    steps = [float(every * (i + 1)) for i in range(len(values))]
    return RecordedCurve(steps, [s / 100 for s in steps], list(steps), [float(v) for v in values])


def timed(seconds_per_step):
    return Timing(100 * seconds_per_step, seconds_per_step, 12 * seconds_per_step)


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def around(mean, seed):
    return (mean + 0.01 * noise(seed, SEEDS)).tolist()


def case(**changes):
    """Arms that are better, worse, equal and matched; curves, times, a failure."""
    values = {
        "base": around(0.8, 0),
        "better": around(0.9, 1),
        "worse": around(0.7, 2),
        "equal": around(0.8, 3),
        "matched": around(0.85, 4),
        "control": around(0.85, 5),
    }
    values["worse"][2] = None
    arms = tuple(
        Arm(name, {"base": "baseline", "control": "control"}.get(name, "arm"))
        if name != "matched"
        else Arm(name, controls=("control",), description="with a twin", overlay="lr: 0.1")
        for name in values
    )
    fields = {
        "failures": (FailedRun("worse", 2, "Traceback\nValueError: boom"),),
        "provenance": Provenance("lightning-qsgd compare", "a: 1", {"torch": "2"}, "abc123"),
    }
    results = made_results(values, arms, target=0.75, **{**fields, **changes})
    runs = tuple(with_curves(run) for run in results.runs)
    return replace(results, runs=runs)


def with_curves(run):
    value = run.final[METRIC]
    curves = {METRIC: made_curve([0.1, value / 2, value]), "train/loss": made_curve([2, 1, 0.5])}
    if run.arm != "base":
        curves[tags.RELATIVE_SIZE] = made_curve([0.1, 0.05, 0.02])
    return replace(run, curves=curves, timing=timed(0.1))


def written(results, folder, method=METHOD):
    write_report(results, folder, method)
    return (folder / "report.html").read_text(), (folder / "report.md").read_text()

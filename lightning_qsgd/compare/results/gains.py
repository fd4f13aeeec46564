"""From runs to the numbers that are compared: one per arm and seed."""

from collections.abc import Collection, Iterable
from math import inf, isfinite, isnan, nan
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_qsgd.compare.results.pairing import copied, unpaired
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.metrics.functional import steps_to_target
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import FINAL_WEIGHTS, RecordedRun

Unit = Literal["step", "epoch"]


def final_values(results: Results, arm: str) -> dict[int, float]:
    """Return the goal's metric at the end of each ended run of an arm, by seed.

    A run that recorded no such metric counts as diverged: NaN.
    """
    metric = results.comparison.goal.metric
    return {seed: run.final.get(metric, nan) for seed, run in results.runs_of(arm).items()}


def gains_over(
    results: Results, arm: str, other: str, apart: Collection[tuple[str, int]] = ()
) -> dict[int, float]:
    """Subtract one arm from another, seed by seed, so that positive is better.

    Seeds where a run is missing, failed, diverged or known to be no pair are left out, and so are
    those that copy an earlier one. Numbers that differ by rounding alone count as equal.

    Args:
        results: The runs.
        arm: Name of the arm.
        other: Name of the baseline or control.
        apart: (Arm, seed) of the runs that are no pair, as `unpaired` returns them.

    Returns:
        Gain by seed, finite, in the metric's unit.
    """
    sign = 1.0 if results.comparison.goal.is_rising else -1.0
    ours, theirs = final_values(results, arm), final_values(results, other)
    copies = copied(results, arm, other)
    return {
        seed: 0.0 if _alike(ours[seed], theirs[seed]) else sign * (ours[seed] - theirs[seed])
        for seed in ours
        if seed not in copies
        and isfinite(ours[seed])
        and isfinite(theirs.get(seed, nan))
        and not {(arm, seed), (other, seed)}.intersection(apart)
    }


ROUNDING = 1e-8
"""Relative difference below which two metrics count as equal."""

FLOAT32 = 2.0**-22
"""Relative difference between two gains that rounding alone can make, 2.4e-7: metrics are float32
numbers, each rounded by up to 6e-8, and two gains hold four of them."""


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= ROUNDING * max(abs(one), abs(other))


def rounding_of(values: Iterable[float]) -> float:
    """Return by how much rounding may move the gain of a pair, in the metric's unit.

    Args:
        values: Metrics of both runs, or of several; those that are not finite do not count.

    Example:
        >>> 1e-7 < rounding_of([0.5, -0.8, float("nan")]) < 3e-7
        True
    """
    return FLOAT32 * max((abs(value) for value in values if isfinite(value)), default=0.0)


def diverged_seeds(results: Results, arm: str) -> list[int]:
    """Return the seeds at which an arm's run ended without a finite metric."""
    return [seed for seed, value in final_values(results, arm).items() if not isfinite(value)]


def are_identical(results: Results, arm: str, other: str) -> bool:
    """Tell whether two arms gave the same numbers to the last bit, at every planned seed.

    Compared are the final metrics, the values of the loss and metric curves, and the hash of the
    final weights where both runs have it. While a run of either is missing or failed, the answer is
    no: nobody knows what it would have given.
    """
    return _have_all(results, arm, other) and not unequal_seeds(results, arm, other)


def are_equal(results: Results, arm: str, other: str) -> bool:
    """Tell whether two arms gave the same numbers but for rounding, as `are_identical` asks."""
    ours, theirs = results.runs_of(arm), results.runs_of(other)
    goal = results.comparison.goal
    return _have_all(results, arm, other) and all(
        _close(ours[seed], theirs[seed], goal) for seed in ours
    )


def unequal_seeds(results: Results, arm: str, other: str) -> list[int]:
    """Return the seeds at which both arms have ended, with numbers that differ in any bit."""
    ours, theirs = results.runs_of(arm), results.runs_of(other)
    goal = results.comparison.goal
    return [seed for seed in ours if seed in theirs and not _same(ours[seed], theirs[seed], goal)]


def measured_apart(results: Results) -> dict[str, list[int]]:
    """Find runs that ended with the baseline's weights and yet have another metric.

    What differs is how they were measured: other validation data, another measure, or one that
    draws. It is no effect of training.

    Returns:
        Seeds by arm, of arms with such a run alone.
    """
    theirs = results.runs_of(results.comparison.baseline.name)
    metric = results.comparison.goal.metric
    found = {
        arm.name: [
            seed
            for seed, run in results.runs_of(arm.name).items()
            if seed in theirs and _is_measured_apart(run, theirs[seed], metric)
        ]
        for arm in results.comparison.challengers
    }
    return {arm: seeds for arm, seeds in found.items() if seeds}


def _is_measured_apart(ours: RecordedRun, theirs: RecordedRun, metric: str) -> bool:
    weights = ours.checks.get(FINAL_WEIGHTS)
    if weights is None or weights != theirs.checks.get(FINAL_WEIGHTS):
        return False
    values = [run.final.get(metric, nan) for run in (ours, theirs)]
    return abs(values[0] - values[1]) > rounding_of(values)  # no: NaN, one of them or both


def _have_all(results: Results, arm: str, other: str) -> bool:
    seeds = set(results.comparison.seeds)
    return all(results.runs_of(name).keys() == seeds for name in (arm, other))


def cost_to_target(run: RecordedRun, goal: Goal, axis: str) -> float:
    """Return what a run paid until its metric reached the target.

    Args:
        run: The run; its curve of the metric is read at the recorded points.
        goal: Metric, direction and target.
        axis: "steps", "epochs" or "seconds".

    Returns:
        The cost in the axis' unit; ``inf`` if the target was not reached, NaN without a target or
        a curve.
    """
    curve = run.curves.get(goal.metric)
    if goal.target is None or curve is None or not curve.steps:
        return nan
    # The first point in time that reaches it, read on the steps: other axes may repeat a value.
    step = steps_to_target(curve.steps, curve.values, goal.target, higher_is_better=goal.is_rising)
    return inf if step == inf else float(getattr(curve, axis)[curve.steps.index(step)])


def costs_of(results: Results, arm: str, axis: str) -> list[float]:
    """Return the known costs to the target of an arm's runs, in the order of the seeds.

    A failed run is left out, because nobody knows what it would have paid; see `cost_to_target`.
    """
    goal = results.comparison.goal
    costs = [cost_to_target(run, goal, axis) for run in results.runs_of(arm).values()]
    return [cost for cost in costs if not isnan(cost)]


Surplus = NDArray[np.float64]


def surpluses(results: Results, arm: str, other: str) -> tuple[Surplus, Surplus]:
    """Return by how much two arms are beyond the target at the end of each horizon.

    Seeds at which a run of either is missing, failed or no pair, at any horizon, are left out, and
    those that copy an earlier one.

    Args:
        results: The runs; the last horizon is the whole budget.
        arm: Name of the arm.
        other: Name of the baseline.

    Returns:
        Surplus of the one and of the other, positive where the target is reached, minus infinity
        for a run that diverged; shape (seeds, horizons).
    """
    goal = results.comparison.goal
    parts = [*results.horizons.values(), results]
    apart, copies = [unpaired(part) for part in parts], copied(results, arm, other)
    sign, target = (1.0 if goal.is_rising else -1.0), goal.target
    target = nan if target is None else target
    ends = [[final_values(part, name) for part in parts] for name in (arm, other)]
    seeds = [
        seed
        for seed in results.comparison.seeds
        if seed not in copies
        and all(seed in values for values in (*ends[0], *ends[1]))
        and not any((name, seed) in found for found in apart for name in (arm, other))
    ]
    ours, theirs = (
        np.array([[sign * (values[seed] - target) for values in own] for seed in seeds])
        for own in ends
    )
    return _known_or_worst(ours), _known_or_worst(theirs)


def _known_or_worst(values: Surplus) -> Surplus:
    return np.where(np.isfinite(values), values, -inf)


def relative_size(run: RecordedRun) -> float:
    """Return the median relative size of a run's perturbation; NaN if it was not measured."""
    curve = run.curves.get(tags.RELATIVE_SIZE)
    known = [value for value in curve.values if not isnan(value)] if curve else []
    return median(known) if known else nan


def cost_ratio(results: Results, arm: str, unit: Unit) -> float:
    """Return the median over seeds of an arm's seconds per step or epoch over the baseline's.

    Pairs whose timing is unknown are left out; NaN without any.
    """
    field: str = f"seconds_per_{unit}"
    ours, theirs = results.runs_of(arm), results.runs_of(results.comparison.baseline.name)
    ratios = [
        getattr(run.timing, field) / getattr(theirs[seed].timing, field)
        for seed, run in ours.items()
        if seed in theirs and getattr(theirs[seed].timing, field) > 0
    ]
    known = [ratio for ratio in ratios if not isnan(ratio)]
    return median(known) if known else nan


def _same(ours: RecordedRun, theirs: RecordedRun, goal: Goal) -> bool:
    hashes = (ours.checks.get(FINAL_WEIGHTS), theirs.checks.get(FINAL_WEIGHTS))
    if None not in hashes and hashes[0] != hashes[1]:
        return False
    if ours.final.keys() != theirs.final.keys():
        return False
    pairs = _pairs(ours, theirs, goal)
    return all(np.array_equal(mine, other, equal_nan=True) for mine, other in pairs)


def _close(ours: RecordedRun, theirs: RecordedRun, goal: Goal) -> bool:
    if ours.final.keys() != theirs.final.keys():
        return False
    return all(
        len(mine) == len(other) and np.allclose(mine, other, rtol=ROUNDING, atol=0, equal_nan=True)
        for mine, other in _pairs(ours, theirs, goal)
    )


def _pairs(
    ours: RecordedRun, theirs: RecordedRun, goal: Goal
) -> list[tuple[list[float], list[float]]]:
    pairs = [(_values(ours, tag), _values(theirs, tag)) for tag in (goal.loss, goal.metric)]
    pairs.append(([*ours.final.values()], [theirs.final[name] for name in ours.final]))
    return pairs


def _values(run: RecordedRun, tag: str) -> list[float]:
    return run.curves[tag].values if tag in run.curves else []

"""What a comparison would cost, and its plan as a table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from lightning_qsgd.compare.executors import Attempt
from lightning_qsgd.compare.planning.job import TARGET, TUNING, Job, run_name
from lightning_qsgd.compare.planning.question import Question
from lightning_qsgd.compare.run_comparison import spread_of
from lightning_qsgd.compare.running.board import duration
from lightning_qsgd.compare.running.run_jobs import Workshop
from lightning_qsgd.compare.running.stored_run import RunStore

PROBES = ((1, 40), (2, 80))
"""Epochs and steps, whichever ends first, of the two short runs from which a whole one is
extrapolated: their difference is the cost of steps and validation without that of starting."""


@dataclass(frozen=True)
class Cost:
    """What one run of an arm costs, and how that is known.

    Attributes:
        seconds: Wall-clock seconds of a run; NaN if its short runs failed.
        how: "stored runs" or "short runs".
        problem: What a failed short run said last.
    """

    seconds: float
    how: str
    problem: str = ""


def costs_of_arms(question: Question, workshop: Workshop) -> dict[str, Cost]:
    """Find out what a run of each arm costs: from stored runs, or else from two short ones.

    Args:
        question: What is asked.
        workshop: Makes the short runs, which are not kept.
    """
    costs = {}
    for arm in question.plan.arms:
        names = (run_name(arm, seed) for seed in question.plan.seed_block)
        stored = [found for name in names if (found := workshop.store.load(name))]
        walls = [found.wall for found in stored if found.finished and found.wall > 0]
        if walls:
            costs[arm] = Cost(fmean(walls), "stored runs")
    probes = [
        Job(arm, number, _shortened(question.configs[arm], *limits), "forecast")
        for arm in question.plan.arms
        if arm not in costs
        for number, limits in enumerate(PROBES)
    ]
    ended = {a.job.key: a for a in workshop.executor.run(workshop.fit, probes, _ignore)}
    for arm in question.plan.arms:
        if arm not in costs:
            short, long = (ended["forecast", arm, number] for number in range(len(PROBES)))
            costs[arm] = _extrapolated(short, long, question)
    return costs


def runs_left(question: Question, store: RunStore) -> dict[str, int]:
    """Count, by arm, the runs that are not stored yet, those of tuning and target included."""
    plan, left = question.plan, {}
    for arm in plan.arms:
        names = [run_name(arm, seed) for seed in plan.seed_block]
        if arm == plan.baseline:
            names += [run_name(arm, seed, TARGET) for seed in plan.goal.seeds]
        if plan.tuning is not None and arm in plan.tuned:
            names += [
                run_name(arm, seed, f"{TUNING}/trial{trial}")
                for trial in range(plan.tuning.trials)
                for seed in plan.tuning.seed_block
            ]
        left[arm] = sum(not store.path(name).exists() for name in names)
    return left


def describe(question: Question, workshop: Workshop) -> Iterator[str]:
    """Write the forecast for people.

    Args:
        question: What is asked.
        workshop: Makes short runs where nothing is stored.

    Yields:
        Lines: per arm, then the total and how it is known.
    """
    costs, left = costs_of_arms(question, workshop), runs_left(question, workshop.store)
    total = 0.0
    for arm, cost in costs.items():
        if cost.problem:
            yield f"{arm}: its short run FAILED: {cost.problem}"
            continue
        total += cost.seconds * left[arm]
        yield f"{arm}: {left[arm]} runs left of {cost.seconds:.1f} s ({cost.how})"
    yield question.design.words(spread_of(question, workshop.store, question.goal))
    at_a_time = workshop.executor.at_a_time
    yield (
        f"In all {sum(left.values())} runs, {at_a_time} at a time: about "
        f"{duration(total / at_a_time)}. Measured here and now, from stored runs where there are "
        f"any, else extrapolated from runs of {PROBES[0][1]} and {PROBES[1][1]} steps at most."
    )


def _ignore(job: Job) -> None:
    """Show nothing."""


def _shortened(config: Mapping[str, Any], epochs: int, steps: int) -> dict[str, Any]:
    limits = {"max_epochs": epochs, "max_steps": steps, "max_time": None}
    return {**config, "trainer": {**config["trainer"], **limits}}


def _extrapolated(short: Attempt, long: Attempt, question: Question) -> Cost:
    if short.run is None or long.run is None:
        said = (short.traceback or long.traceback).strip().splitlines()
        return Cost(nan, "short runs", said[-1] if said else "it gave no reason")
    budget = question.plan.budget
    if budget.seconds is not None:
        return Cost(short.wall + budget.seconds, "short runs")
    few, many = (run.curves[question.goal.metric] for run in (short.run, long.run))
    steps = many.steps[-1]
    wanted = budget.max_steps or (budget.max_epochs or 0) * steps / max(many.epochs[-1], 1e-9)
    per_step = max(0.0, (long.wall - short.wall) / max(1.0, steps - few.steps[-1]))
    return Cost(long.wall + per_step * max(0.0, wanted - steps), "short runs")


def plan_table(question: Question) -> RenderableType:
    """Lay out arms, seeds, budget, goal and tuning.

    Args:
        question: What is asked.
    """
    plan, goal = question.plan, question.goal
    table = Table(title=f"Comparison on {escape(question.name)}")
    for column in ("arm", "kind", "hyperparameters", "changes"):
        table.add_column(column)
    for name, arm in plan.arms.items():
        kind = f"{arm.kind} of {', '.join(arm.control_of)}" if arm.control_of else arm.kind
        overlay = escape(_lines(question.overlays[name])) or "nothing"
        table.add_row(escape(name), kind, arm.hyperparameters, overlay)
    direction = "higher" if goal.higher_is_better else "lower"
    target = f"{goal.target}" if goal.target is not None else "none"
    if plan.goal.seeds:
        target = f"from the baseline, on seeds {_span(plan.goal.seeds)}"
    facts = {
        "seeds": _span(plan.seed_block),
        "budget of a run": str(plan.budget),
        "primary metric": f"{goal.metric}, {direction} is better",
        "target": target,
        "tuning": _tuning(question),
    }
    return Group(table, *(f"{name}: {escape(value)}" for name, value in facts.items()))


def _lines(overlay: str) -> str:
    kept = [line for line in overlay.splitlines() if not line.startswith(("#", "run:"))]
    return "\n".join(kept)


def _tuning(question: Question) -> str:
    search = question.plan.tuning
    if search is None or not question.plan.tuned:
        return "none"
    space = ", ".join(
        f"{name} in [{span.low:g}, {span.high:g}] ({span.scale})"
        for name, span in search.space.items()
    )
    return (
        f"{search.trials} trials on seeds {_span(search.seed_block)} for each of "
        f"{', '.join(question.plan.tuned)}: {space}"
    )


def _span(seeds: tuple[int, ...]) -> str:
    consecutive = seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))
    if consecutive and len(seeds) > 2:
        return f"{seeds[0]} to {seeds[-1]} ({len(seeds)})"
    return ", ".join(map(str, seeds))

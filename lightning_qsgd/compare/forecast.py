"""What a comparison would cost, and its plan as a table."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from lightning_qsgd.compare.executors import Attempt
from lightning_qsgd.compare.executors.executor import attempts_of
from lightning_qsgd.compare.planning.job import (
    TARGET,
    TUNING,
    Job,
    horizon_block,
    run_name,
    value_at,
    with_values,
)
from lightning_qsgd.compare.planning.question import (
    OWN_RECIPE,
    Question,
    is_meant,
    own_and_named,
    refuse_lost_recipe,
    refuse_other_optimizer,
)
from lightning_qsgd.compare.planning.search import ALWAYS, Search
from lightning_qsgd.compare.run_comparison import spread_of
from lightning_qsgd.compare.running.board import duration
from lightning_qsgd.compare.running.run_jobs import Workshop
from lightning_qsgd.compare.running.stored_run import RunStore
from lightning_qsgd.training.recorded_run import FINAL_WEIGHTS, INITIAL_WEIGHTS, RecordedRun

PROBE = "probe"
"""Block of the runs of a few steps that come before all others."""

SECONDS_OF_A_RUN = "probe/seconds_of_a_run"
"""Under which such a run says, among its final values, what a whole run would take."""

REMARK = "probe/remark"
"""Under which it says, among its checks, what a reader should know of the runs to come."""


@dataclass(frozen=True)
class Cost:
    """What one run of an arm costs, and how that is known.

    Attributes:
        seconds: Wall-clock seconds of a run; NaN if unknown.
        how: "stored runs" or "a few steps".
        problem: What a probe run that failed said; empty if it did not.
        optimizers: What trained it, in words; empty if unknown.
        moved_to: Hash of the weights after a few steps; empty if unknown, or they did not move.
        remark: What a reader should know of the runs to come; mostly empty.
    """

    seconds: float
    how: str
    problem: str = ""
    optimizers: str = ""
    moved_to: str = ""
    remark: str = ""


def costs_of_arms(
    question: Question, workshop: Workshop, arms: Collection[str] | None = None
) -> dict[str, Cost]:
    """Find out what a run of each arm costs: from stored runs, or else from a few steps.

    Args:
        question: What is asked.
        workshop: Makes the probe runs, which are not kept.
        arms: Which arms; None takes all.
    """
    asked = question.plan.arms if arms is None else arms
    costs = {arm: cost for arm in asked if (cost := _stored(arm, question, workshop))}
    seed = question.plan.seed_block[0]
    probes = [
        Job(arm, seed, {**question.configs[arm], "seed_everything": seed}, PROBE)
        for arm in asked
        if arm not in costs
    ]
    fit = workshop.probe or workshop.fit
    for attempt in attempts_of(workshop.executor, fit, probes, _ignore, shortened=True):
        costs[attempt.job.arm] = _probed(attempt)
    return {arm: costs[arm] for arm in asked}


def require_trainable(
    question: Question, workshop: Workshop, arms: Collection[str] | None = None
) -> dict[str, str]:
    """Make a few steps of every arm that has no stored runs; return remarks, by their arms.

    Args:
        question: What is asked.
        workshop: Makes the probe runs, which are not kept.
        arms: Which arms; None takes all.

    Raises:
        RuntimeError: At the first arm that fails, with what it said.
        ValueError: If an arm loses more of the module's own `configure_optimizers` than one plain
            optimizer, goes around another one than the baseline's by accident, or its search would
            reach nothing.
    """
    costs = costs_of_arms(question, workshop, arms)
    for arm, cost in costs.items():
        if cost.problem:
            raise RuntimeError(
                f"The arm {arm!r} fails in its first steps, so nothing else was run:\n"
                f"{cost.problem}\n"
                f"{cost.problem.strip().splitlines()[-1]} Mend that, or leave the arm out."
            )
    return _remarks_on(question, workshop, costs)


def _remarks_on(q: Question, workshop: Workshop, costs: Mapping[str, Cost]) -> dict[str, str]:
    """Refuse what would mislead, and return what a reader should know, by the arms it is on."""
    trained = {arm: cost.optimizers for arm, cost in costs.items()}
    refuse_lost_recipe(q, trained)
    refuse_other_optimizer(q, trained)
    refuse_idle_values(q, workshop, costs)
    texts = dict.fromkeys(cost.remark for cost in costs.values() if cost.remark)
    return {", ".join(a for a, cost in costs.items() if cost.remark == t): t for t in texts}


def refuse_idle_values(question: Question, workshop: Workshop, costs: Mapping[str, Cost]) -> None:
    """Refuse a search whose learning rate or weight decay reaches nothing.

    A module may hold both for its own `configure_optimizers`, which is not called where the config
    names an optimizer. A few steps at another value then end with the same weights.

    Args:
        question: What is asked.
        workshop: Makes the runs of a few steps.
        costs: What the first few steps of each arm came to; those of stored runs are passed over.

    Raises:
        ValueError: If there is such an arm.
    """
    seed = question.plan.seed_block[0]
    tried: dict[Job, tuple[str, str, str]] = {}
    asked = question.plan.arms
    for arm in [a for a, cost in costs.items() if cost.moved_to and not is_meant(asked[a])]:
        config = question.configs[arm]
        for name, span in question.space_of(arm).items() if config.get("optimizer") else ():
            place = str(span.path)
            present = value_at(config, place, arm) if place.startswith("model.") else None
            ends = (span.clipped(span.high), span.clipped(span.low))
            another = next((end for end in ends if end != present), None)
            if name in ALWAYS and place.startswith("model.") and another is not None:
                other = with_values(config, {place: another}, arm)
                job = Job(arm, seed, {**other, "seed_everything": seed}, f"{PROBE}/{name}")
                tried[job] = (arm, name, place)
    idle: dict[str, dict[str, str]] = {}
    fit = workshop.probe or workshop.fit
    for ended in attempts_of(workshop.executor, fit, [*tried], _ignore, shortened=True):
        arm, name, place = tried[ended.job]
        if ended.run is not None and _moved_to(ended.run) == costs[arm].moved_to:
            idle.setdefault(arm, {})[name] = place
    for arm, places in idle.items():
        spaces = ", ".join(f"{n}: {{path: optimizer.init_args.{n}, ...}}" for n in places)
        optimizer = question.configs[arm]["optimizer"].get("class_path")
        raise ValueError(
            f"Expected the arm {arm!r} to react to {', '.join(f'`{p}`' for p in places.values())}, "
            "got the same weights to the last bit after a few steps at another value: its config "
            f"names {optimizer}, and the module's `configure_optimizers` is not called, so the "
            f"search would be in vain. Write `space: {{{spaces}}}` with `low` and `high` in the "
            "arm, or `hyperparameters: given`; or, if the module reads the value later, "
            f"`without: [{OWN_RECIPE}]` in the arm, under `arms` of the plan."
        )


def _stored(arm: str, question: Question, workshop: Workshop) -> Cost | None:
    names = (run_name(arm, seed) for seed in question.plan.seed_block)
    stored = [found for name in names if (found := workshop.store.load(name))]
    walls = [found.wall for found in stored if found.finished and found.wall > 0]
    words = next((one.finished.optimizers for one in stored if one.finished), "")
    pairs = [own_and_named(question, other) for other in question.plan.arms]
    is_unknown = not words and any(arm == own for own, _ in filter(None, pairs))
    if not walls or is_unknown:  # runs of earlier versions do not say what trained them
        return None
    return Cost(fmean(walls), "stored runs", optimizers=words)


def _probed(attempt: Attempt) -> Cost:
    if attempt.run is None:
        return Cost(nan, "a few steps", attempt.traceback.strip() or "it gave no reason")
    run, how = attempt.run, "a few steps"
    seconds, remark = run.final.get(SECONDS_OF_A_RUN, attempt.wall), run.checks.get(REMARK, "")
    return Cost(seconds, how, "", run.optimizers, _moved_to(run), remark)


def _moved_to(run: RecordedRun) -> str:
    """Return the hash of a run's final weights; empty if unknown, or they are the first ones."""
    final = run.checks.get(FINAL_WEIGHTS, "")
    return "" if final == run.checks.get(INITIAL_WEIGHTS) else final


def runs_left(question: Question, store: RunStore) -> dict[str, list[float]]:
    """List, by arm, the runs that are not stored yet, those of tuning and target included.

    Returns:
        Length of each run, as a share of the budget.
    """
    plan, left = question.plan, {}
    for arm in plan.arms:
        names = [run_name(arm, seed) for seed in plan.seed_block]
        shorter = {
            run_name(arm, seed, horizon_block(length)): length / (plan.budget.length or length)
            for length in (plan.horizon_lengths if arm in plan.on_horizons else ())
            for seed in plan.seed_block
        }
        finals = 0
        if arm == plan.baseline:
            names += [run_name(arm, seed, TARGET) for seed in plan.goal.seeds]
        if plan.tuning is not None and arm in plan.tuned:
            finals = _finals_left(arm, plan.tuning, store)
            names += [
                run_name(arm, seed, f"{TUNING}/trial{trial}")
                for trial in range(plan.tuning.trials)
                for seed in plan.tuning.seed_block
            ]
        wanted = {**dict.fromkeys(names, 1.0), **shorter}
        left[arm] = [share for name, share in wanted.items() if not store.path(name).exists()]
        left[arm] += [1.0] * finals
    return left


def _finals_left(arm: str, search: Search, store: RunStore) -> int:
    """Count the runs of the best settings at fresh seeds; which settings, nobody knows yet."""
    trials = range(search.trials * (1 + search.extensions))
    stored = sum(
        store.path(run_name(arm, seed, f"{TUNING}/trial{trial}")).exists()
        for trial in trials
        for seed in search.final_block
    )
    return max(0, min(search.finalists, search.trials) * len(search.final_block) - stored)


def describe(question: Question, workshop: Workshop) -> Iterator[str]:
    """Write the forecast for people.

    Args:
        question: What is asked.
        workshop: Makes short runs where nothing is stored.

    Yields:
        Lines: per arm, then the total and how it is known.

    Raises:
        ValueError: If an arm would be refused after its first few steps.
    """
    costs, left = costs_of_arms(question, workshop), runs_left(question, workshop.store)
    of_probes = _remarks_on(question, workshop, costs)
    total, unknown = 0.0, False
    for arm, cost in costs.items():
        number, shorter = len(left[arm]), sum(share < 1 for share in left[arm])
        some = f", {shorter} of them shorter" if shorter else ""
        if cost.problem:
            yield f"{arm}: its first steps FAILED: {cost.problem.splitlines()[-1]}"
        elif isnan(cost.seconds):
            yield f"{arm}: {number} runs left; its data has no length, so nobody knows how long"
        else:
            yield f"{arm}: {number} runs left of {cost.seconds:.1f} s ({cost.how}){some}"
            total += cost.seconds * sum(left[arm])
            continue
        unknown = True
    yield from (f"{arms}: {text}" for arms, text in of_probes.items())
    yield question.design.words(spread_of(question, workshop.store, question.goal))
    at_a_time = workshop.executor.at_a_time
    yield (
        f"In all {sum(map(len, left.values()))} runs, {at_a_time} at a time: "
        f"{'more than' if unknown else 'about'} {duration(total / at_a_time)}. Measured here and "
        "now, from stored runs where there are any, else from a few steps of each arm."
    )


def _ignore(job: Job) -> None:
    """Show nothing."""


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
        table.add_row(escape(name), escape(kind), arm.hyperparameters, overlay)
    direction = "higher" if goal.is_rising else "lower"
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
    if plan.horizons:
        lengths = ", ".join(map(str, plan.horizon_lengths))
        facts["horizons"] = f"{lengths} of {plan.budget}, for {', '.join(plan.on_horizons)}"
        facts |= {"horizons of " + arm: words for arm, words in question.unshortened.items()}
    lines = [f"{name}: {escape(value)}" for name, value in facts.items()]
    lines += [f"{escape(name)}: {escape(text)}" for name, text in remarks(question)]
    return Group(table, *lines)


def remarks(question: Question) -> list[tuple[str, str]]:
    """List the remarks on arms, each with the name of its arm."""
    return [(name, text) for name in question.plan.arms for text in question.remarks(name)]


def _lines(overlay: str) -> str:
    return "\n".join(row for row in overlay.splitlines() if not row.startswith(("#", "run:")))


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
        f"{', '.join(question.plan.tuned)}: {space}{_finals(search)}"
    )


def _finals(search: Search) -> str:
    if not search.final_block:
        return ""
    return f"; then the best {search.finalists} again on seeds {_span(search.final_block)}"


def _span(seeds: tuple[int, ...]) -> str:
    consecutive = seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))
    if consecutive and len(seeds) > 2:
        return f"{seeds[0]} to {seeds[-1]} ({len(seeds)})"
    return ", ".join(map(str, seeds))

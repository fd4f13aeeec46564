"""Tunes, runs and collects a comparison; continues one that was interrupted."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import isfinite, nan
from pathlib import Path
from statistics import median, stdev
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.markup import escape
from typing_extensions import override

from lightning_qsgd.compare.executors import Attempt, Executor, Fit
from lightning_qsgd.compare.planning.job import (
    RUNS,
    TARGET,
    TUNING,
    Job,
    horizon_block,
    run_name,
    with_values,
)
from lightning_qsgd.compare.planning.question import Question
from lightning_qsgd.compare.results.results import (
    Comparison,
    Provenance,
    Results,
    TunedArm,
)
from lightning_qsgd.compare.results.results_folder import save_results, stored_results
from lightning_qsgd.compare.running.board import Board
from lightning_qsgd.compare.running.pairing_guard import PairingGuard, refuse_unpaired
from lightning_qsgd.compare.running.run_jobs import Workshop
from lightning_qsgd.compare.running.stored_run import RunStore, StoredRun, collect
from lightning_qsgd.compare.tuning import Tuning, target_from_baseline
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import RecordedRun


def run_comparison(
    question: Question, workshop: Workshop, provenance: Provenance, console: Console
) -> Results:
    """Make whatever is not stored yet, in this order: tuning, target, runs, horizons.

    Args:
        question: What is asked.
        workshop: Makes and keeps runs.
        provenance: What the comparison runs on.
        console: Where progress is shown.

    Returns:
        All runs; they are saved in the workshop's folder too.

    Raises:
        RuntimeError: If the baseline could not be tuned, or runs are no pairs.
    """
    folder = workshop.store.folder
    tuned, untuned, goal, jobs = _settled(question, workshop, console, folder / TUNING / "studies")
    fingerprints, stored = _fingerprints(jobs, RUNS), stored_results(folder)
    left_out = () if stored is None else _no_longer_on_trial(question, fingerprints, stored, folder)
    comparison = replace(_comparison(question, goal), left_out=left_out)
    workshop.stored(jobs)  # refuses another configuration before a file is replaced
    for job in jobs:
        if workshop.store.is_damaged(job.name):
            file = workshop.store.path(job.name)
            console.print(
                f"{file} is damaged: the run is made again.", soft_wrap=True, markup=False
            )
    known = Results(
        *(comparison, (), (), tuple(tuned.values()), provenance),
        *(_empty_horizons(question, comparison, jobs), untuned, fingerprints),
    )
    known = replace(known, runs=() if stored is None else _known(known, stored))
    save_results(collect(known, workshop.store), folder)
    if left_out:
        console.print(
            f"[bold red]NO LONGER ON TRIAL[/] {escape(', '.join(left_out))}: the folder has runs "
            "of them from when they were. The report names them, and they stay questions that "
            "claims are corrected for.",
            soft_wrap=True,
        )
    for arm, words in question.unshortened.items():
        text = f"[bold red]HORIZONS[/] of {escape(arm)}: {escape(words)}"
        console.print(text, soft_wrap=True)
    console.print(question.design.words(spread_of(question, workshop.store, goal)), soft_wrap=True)
    guards = {job.block: PairingGuard(question.plan.baseline, goal.metric) for job in jobs}

    def watch(job: Job, stored: StoredRun) -> None:
        for violation in guards[job.block].look(job, stored):
            if workshop.running.unpaired == "refuse":
                refuse_unpaired(violation)
            console.print(
                f"[bold red]NOT A PAIR[/] {escape(str(violation))} It is left out of every "
                "difference."
            )

    try:
        workshop.run(jobs, Board(console, "Runs", jobs, workshop.executor.at_a_time), watch)
    except BaseException:
        with suppress(OSError):  # where the disk is full, the first to say so counts
            save_results(collect(known, workshop.store), folder)
        raise
    results = collect(known, workshop.store)
    save_results(results, folder)
    return results


def refuse_other_arms(question: Question, workshop: Workshop) -> None:
    """Refuse a folder whose results are of other arms, or of more seeds or controls than asked.

    Results of other arms would be replaced, with their report. Which seeds and controls count must
    not depend on what they showed: an arm that lost a run, or is matched by its control, would be
    better without them.

    Args:
        question: What is asked.
        workshop: Keeps the runs; the results lie in its folder.

    Raises:
        ValueError: If the stored results may not be replaced, and no arm of theirs is in the plan,
            or the plan lacks seeds or controls that they have.
    """
    folder, asked = workshop.store.folder, [*question.plan.arms]
    stored = stored_results(folder)
    if workshop.running.changed == "rerun" or stored is None:
        return
    known = [arm.name for arm in stored.comparison.arms]
    if set(known).isdisjoint(asked):
        raise ValueError(
            f"The folder {folder} holds another comparison: its results are of the arms {known}, "
            f"and the plan has {asked}. The results and the report would be lost. Choose another "
            "`--folder`, or `--changed rerun` to replace them."
        )
    _refuse_fewer(question, stored, folder)


def _refuse_fewer(question: Question, stored: Results, folder: Path) -> None:
    plan = question.plan
    ended = {(run.arm, run.seed) for run in stored.runs}
    ended |= {(run.arm, run.seed) for run in stored.failures}
    seeds = sorted({seed for arm, seed in ended if arm in plan.arms} - {*plan.seed_block})
    if seeds:
        raise ValueError(
            f"The folder {folder} has runs of the seeds {seeds}, and `seeds` are "
            f"{[*plan.seed_block]}: which of them count must not depend on how they ended. Keep "
            "them, or choose another `--folder`."
        )
    tried = {arm for arm, _ in ended}
    for arm in (one for one in stored.comparison.arms if one.name in plan.arms):
        kept = {name for name, other in plan.arms.items() if arm.name in other.control_of}
        gone = [control for control in arm.controls if control in tried - kept]
        if gone:
            raise ValueError(
                f"The folder {folder} has runs of {gone[0]!r}, a control of {arm.name!r} that the "
                f"plan does not have: without it {arm.name!r} could be called better for want of a "
                "match. Keep it, or choose another `--folder`."
            )


def _no_longer_on_trial(
    question: Question,
    fingerprints: Mapping[str, Sequence[str]],
    stored: Results,
    folder: Path,
) -> tuple[str, ...]:
    """Name the arms that stored results have runs of from when they were on trial.

    Where no stored run is one of those asked for, the results are of something else.

    Raises:
        ValueError: If the plan lacks seeds or controls that they have.
    """
    noted = stored.fingerprints  # earlier versions noted none
    shared = [arm for arm in noted if not {*noted[arm]}.isdisjoint(fingerprints.get(arm, ()))]
    if noted and not any(map(stored.runs_of, shared)):
        return ()
    _refuse_fewer(question, stored, folder)
    seen = [arm.name for arm in stored.comparison.on_trial if stored.runs_of(arm.name)]
    now = {name for name, arm in question.plan.arms.items() if arm.kind == "arm"}
    earlier = dict.fromkeys([*stored.comparison.left_out, *seen])
    return tuple(name for name in earlier if name not in now)


class _StoredOnly(Executor):
    """Makes no run: stops at the first that is not stored."""

    @property
    @override
    def at_a_time(self) -> int:
        return 1

    @override
    def run(
        self, fit: Fit, jobs: Sequence[Job], started: Callable[[Job], None]
    ) -> Generator[Attempt]:
        if jobs:
            raise RuntimeError(f"{jobs[0].name} is not stored.")
        yield from ()


def refuse_changed_runs(question: Question, workshop: Workshop, console: Console) -> None:
    """Refuse stored runs of another configuration, without a run and without a file.

    What a search has chosen is known as far as its runs are stored. So the check ends at the first
    run that is missing or failed; `run_comparison` refuses what lies behind it.

    Args:
        question: What is asked.
        workshop: Keeps the runs.
        console: Where the search is shown.

    Raises:
        ValueError: If stored runs have another configuration and may not be replaced.
    """
    if workshop.running.changed == "rerun":
        return
    reader, plan = replace(workshop, executor=_StoredOnly()), question.plan
    given = {arm: own for arm, own in question.configs.items() if plan.searched(arm) is None}
    reader.stored(question.jobs(given, plan.seed_block) + question.horizon_jobs(given))
    with suppress(RuntimeError), TemporaryDirectory() as scratch:
        *_, jobs = _settled(question, reader, console, Path(scratch))
        reader.stored(jobs)


def _settled(
    question: Question, workshop: Workshop, console: Console, studies: Path
) -> tuple[dict[str, TunedArm], dict[str, str], Goal, list[Job]]:
    """Tune, take the target, and list the runs that follow from both.

    Raises:
        RuntimeError: If the baseline could not be tuned.
    """
    tuned, untuned = _tune(question, workshop, console, studies)
    untuned |= {
        name: f"Cannot run {name!r}: it takes the values of {source!r}, which could not be tuned."
        for name in question.plan.arms
        if (source := question.plan.searched(name)) in untuned and name not in untuned
    }
    _say_untuned(untuned, question.plan.baseline, console)
    configs = {a: c for a, c in _tuned_configs(question, tuned).items() if a not in untuned}
    goal = _with_target(question, configs, workshop, console)
    jobs = question.jobs(configs, question.plan.seed_block) + question.horizon_jobs(configs)
    return tuned, untuned, goal, jobs


def _fingerprints(jobs: Sequence[Job], block: str) -> dict[str, tuple[str, ...]]:
    """Note which runs belong, so that a report can tell without the plan."""
    noted: dict[str, list[str]] = {}
    for job in jobs:  # those of an arm are in the order of the seeds
        if job.block == block:
            noted.setdefault(job.arm, []).append(job.fingerprint)
    return {arm: tuple(own) for arm, own in noted.items()}


def _empty_horizons(
    question: Question, whole: Comparison, jobs: Sequence[Job]
) -> dict[int, Results]:
    """Describe the comparison at each horizon: shorter runs of the baseline and arms on trial."""
    plan = question.plan
    arms = tuple(replace(arm, controls=()) for arm in whole.arms if arm.name in plan.on_horizons)
    budgets = {length: str(plan.budget.of_length(length)) for length in plan.horizon_lengths}
    return {
        length: Results(
            Comparison(whole.name, whole.goal, arms, whole.seeds, budget),
            runs=(),
            fingerprints=_fingerprints(jobs, horizon_block(length)),
        )
        for length, budget in budgets.items()
    }


def _known(asked: Results, stored: Results) -> tuple[RecordedRun, ...]:
    """Return the runs of this very comparison that results on disk have, whatever their files."""
    ours, theirs = asked.comparison, stored.comparison
    if (ours.arms, ours.seeds) != (theirs.arms, theirs.seeds):
        return ()
    return tuple(
        run
        for run in stored.runs
        if asked.fingerprints and asked.belongs(run.arm, run.seed, run.fingerprint)
    )


def spread_of(question: Question, store: RunStore, goal: Goal) -> float:
    """Return how far the baseline's runs lie apart, of whatever is stored; NaN below two runs.

    Its reported runs count, those that a target was taken from, and the trials of its tuning, where
    the spread is that over seeds of one setting.
    """
    plan, blocks = question.plan, {RUNS: question.plan.seed_block, TARGET: question.plan.goal.seeds}
    if plan.tuning is not None:
        trials = range(plan.tuning.trials)
        blocks |= {f"{TUNING}/trial{number}": plan.tuning.seed_block for number in trials}
    spreads = []
    for block, seeds in blocks.items():
        found = [store.load(run_name(plan.baseline, seed, block)) for seed in seeds]
        finals = [one.finished.final for one in found if one is not None and one.finished]
        values = [final[goal.metric] for final in finals if isfinite(final.get(goal.metric, nan))]
        if len(values) > 1:
            spreads.append(stdev(values))
    return median(spreads) if spreads else nan


def _say_untuned(untuned: Mapping[str, str], baseline: str, console: Console) -> None:
    """Name the arms that will have no runs.

    Raises:
        RuntimeError: If the baseline is one of them.
    """
    for arm, reason in untuned.items():
        if arm == baseline:
            raise RuntimeError(
                f"{reason}\nEvery arm is compared with this baseline, so no run was made."
            )
        console.print(
            f"[bold red]NOT TUNED[/] {escape(reason)}\nThe other arms are compared without it.",
            soft_wrap=True,
        )


def _tune(
    question: Question, workshop: Workshop, console: Console, studies: Path
) -> tuple[dict[str, TunedArm], dict[str, str]]:
    search = question.plan.tuning
    if search is None or not question.plan.tuned:
        return {}, {}

    def make_runs(jobs: Sequence[Job], title: str) -> dict[Job, StoredRun]:
        return workshop.run(jobs, Board(console, title, jobs, workshop.executor.at_a_time))

    tuning = Tuning(search, question.goal, studies)
    wanted = {arm: question.configs[arm] for arm in question.plan.tuned}
    spaces = {arm: question.space_of(arm) for arm in wanted}
    tuned, untuned = tuning.run(wanted, make_runs, spaces)
    return tuned, {arm: _with_a_way_on(reason) for arm, reason in untuned.items()}


def _with_a_way_on(reason: str) -> str:
    """Say how to go on after a change that stored trials would refuse, in front of a traceback."""
    said, *failure = reason.split("\n", 1)
    way = "Where that changes configuration or ranges, repeat the command with `--changed rerun`: "
    return "\n".join([f"{said} {way}the stored trials are of what they were.", *failure])


def _tuned_configs(
    question: Question, tuned: Mapping[str, TunedArm]
) -> dict[str, Mapping[str, Any]]:
    return {
        arm: with_values(config, question.chosen(arm, tuned), arm)
        for arm, config in question.configs.items()
    }


def _with_target(
    question: Question,
    configs: Mapping[str, Mapping[str, Any]],
    workshop: Workshop,
    console: Console,
) -> Goal:
    seeds = question.plan.goal.seeds
    if not seeds:
        return question.goal
    jobs = question.jobs({question.plan.baseline: configs[question.plan.baseline]}, seeds, TARGET)
    ended = workshop.run(jobs, Board(console, "Target", jobs, workshop.executor.at_a_time))
    runs = [stored.finished for stored in ended.values()]
    goal = question.goal
    target = target_from_baseline(runs, goal.metric, goal.is_rising)
    return replace(goal, target=target)


def _comparison(question: Question, goal: Goal) -> Comparison:
    arms = tuple(
        question.plan.arm(
            name, question.overlays[name], question.lacks(name), question.remarks(name)
        )
        for name in question.plan.arms
    )
    plan, budget = question.plan, question.plan.budget
    return Comparison(
        *(question.name, goal, arms, plan.seed_block, str(budget), question.published),
        length=budget.length or 0,
        alpha=plan.alpha,
    )

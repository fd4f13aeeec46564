"""What a fit with a baseline found, told and published."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import isfinite, isnan, nan
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_qsgd.compare.planning.job import run_name
from lightning_qsgd.compare.report import summary_table, write_report
from lightning_qsgd.compare.report.origin import other_lengths, set_apart
from lightning_qsgd.compare.results.arm import Arm
from lightning_qsgd.compare.results.gains import diverged_seeds
from lightning_qsgd.compare.results.results import Comparison, Results
from lightning_qsgd.compare.running.stored_run import RunStore
from lightning_qsgd.compare.statistics import Design, Method
from lightning_qsgd.compare.tensorboard_runs import MEAN, write_tensorboard
from lightning_qsgd.compare.verdicts import Outcome as Judgement
from lightning_qsgd.compare.verdicts import analyse, verdicts
from lightning_qsgd.tracking import page_of, tags
from lightning_qsgd.training.convergence_callback import Goal, Summary, summarise
from lightning_qsgd.training.recorded_run import RecordedRun

MOST_SHOWN = 40
"""TensorBoard selects no run of its own accord where there are more."""


def publish(results: Results, folder: Path, console: Console) -> None:
    """Write the report and the TensorBoard runs, and show the outcome.

    Args:
        results: The runs.
        folder: Folder of the comparison.
        console: Where the outcome is shown.
    """
    report = write_report(results, folder)
    store = RunStore(folder)
    configs = {
        run.arm: stored.config
        for run in results.runs
        if (stored := store.load(run_name(run.arm, run.seed))) is not None
    }
    logs = write_tensorboard(results, folder, configs)
    console.print(summary_table(results))
    for tuned in results.tuning:
        if tuned.inert:
            names = " and ".join(f"`{name}`" for name in tuned.inert)
            console.print(
                f"[bold yellow]No effect[/] of {escape(names)} in the search of "
                f"{escape(tuned.arm)}: trials that differ in it ended with the same weights. Look "
                "at the `path` of the range.",
                soft_wrap=True,
            )
    if results.untuned:
        console.print(f"[bold red]Could not be tuned:[/] {escape(', '.join(results.untuned))}.")
    if results.all_failures:
        console.print(f"[bold red]{len(results.all_failures)} runs failed[/]; see the report.")
    for title, text in (set_apart(results) | other_lengths(results)).items():
        console.print(f"[bold red]{escape(title)}[/] {escape(text)}", soft_wrap=True)
    goal = results.comparison.goal
    closing = {
        "Picture": drawn if (drawn := folder / "gains.png").is_file() else "",
        "Report": report,
        "Curves": tensorboard_command(logs / MEAN),
        "then open": page_of(tags.mean_tag(goal.loss), tags.mean_tag(goal.metric)),
        "All runs": tensorboard_command(logs),
        "Next, type": next_command(results),
    }
    for title, line in closing.items():
        if line:  # in one piece, so that it can be copied
            console.print(f"{title:<12}{line}", soft_wrap=True, highlight=False, markup=False)
    if len(results.runs) > MOST_SHOWN:
        console.print(f"TensorBoard hides more than {MOST_SHOWN} runs until they are ticked.")


ANOTHER = "torch.optim.NAdam"
"""An optimizer that no shipped comparison has, to be put beside the others."""


def next_command(results: Results) -> str:
    """Say what to type next: repeat what failed, more seeds, or one arm less or more.

    Args:
        results: The runs.

    Returns:
        A command; empty if the comparison was not made by one, has another arm already, or has no
        arm left whose search found settings: another search of the same ranges would find none. A
        control whose search found none has to be mended, without it "better" would mean less, and
        so has an arm whose runs diverged: it will diverge again.
    """
    command, asked = results.provenance.command, results.comparison
    if not command.startswith("lightning-qsgd compare"):
        return ""
    if results.all_failures or results.missing:
        return command
    if results.untuned:
        on_trial = {arm.name for arm in asked.on_trial}
        may_go = results.untuned.keys() <= on_trial and on_trial - results.untuned.keys()
        return _without(command, results.untuned) if may_go else ""
    if any(diverged_seeds(results, arm.name) for arm in (asked.baseline, *asked.on_trial)):
        return ""
    design = Design(len(asked.seeds), asked.num_questions, Method(asked.alpha))
    if asked.on_trial and not design.is_comparison:
        return _with_seeds(command, design.seeds_needed)
    return "" if "--arm" in command else f"{command} --arm {ANOTHER}"


def _with_seeds(command: str, seeds: int) -> str:
    """Ask for so many seeds, in place of those that a command asks for."""
    kept, words = list[str](), iter(shlex.split(command))
    for word in words:
        if word == "--seeds":
            next(words, None)
        elif not word.startswith("--seeds="):
            kept.append(word)
    return shlex.join([*kept, "--seeds", str(seeds)])


def _without(command: str, arms: Iterable[str]) -> str:
    """Leave arms out beside those that a command leaves out: it would take the last `--skip`."""
    before, *others = re.split(" --skip[ =]", command, maxsplit=1)
    return " ".join([before, "--skip", shlex.join(arms), *others])


def tensorboard_command(logs: Path) -> str:
    """Write the command that shows logs, with the TensorBoard of the Python that runs this.

    Args:
        logs: Folder of event files.
    """
    beside = Path(sys.executable).with_name("tensorboard")
    found = beside if beside.is_file() else shutil.which("tensorboard") or beside
    return shlex.join([os.path.relpath(found), "--logdir", str(logs)])


def where_to_look(folder: Path, loggers: Sequence[Logger], goal: Goal) -> list[str]:
    """Say where a run has written, and how to see its curves if TensorBoard can show them.

    Args:
        folder: The run's folder.
        loggers: Those of its trainer.
        goal: What is compared.
    """
    boards = [Path(one.log_dir) for one in loggers if isinstance(one, TensorBoardLogger)]
    if not boards:
        return [f"Record: {folder}"]
    is_beside = folder in boards
    return [
        f"Record and event files: {folder}" if is_beside else f"Record: {folder}",
        *(f"Event files: {board}" for board in boards if board != folder),
        f"See the curves: {tensorboard_command(folder.parent.parent if is_beside else boards[0])}",
        f"and open {page_of(goal.loss, goal.metric)}",
    ]


BASELINE, OWN = "adamw", "own"
VISIBLE = 1e-3


@dataclass(frozen=True)
class Outcome:
    """An arm beside its baseline.

    Attributes:
        arm: Name of the arm.
        run: The arm's record.
        baseline: The baseline's record, whose `arm` is the kind of baseline; None if none was
            asked for.
        goal: What both are judged by.
        relative_size: Median size of the perturbation relative to the base step on the perturbed
            entries; NaN if the arm is not perturbed.
        model_relative_size: The same relative to the whole model's base step; NaN if not measured.
    """

    arm: str
    run: RecordedRun
    baseline: RecordedRun | None
    goal: Goal
    relative_size: float = nan
    model_relative_size: float = nan

    @property
    def columns(self) -> dict[str, RecordedRun]:
        """The runs by name, the baseline first."""
        if self.baseline is None:
            return {self.arm: self.run}
        kind = self.baseline.arm or BASELINE
        name = kind if self.arm != kind else f"{kind} (baseline)"
        return {name: self.baseline, self.arm: self.run}

    @property
    def peer(self) -> str:
        """What the arm is compared with, in words."""
        is_own = self.baseline is not None and self.baseline.arm == OWN
        return "its own optimizer without perturbation" if is_own else "AdamW"

    @property
    def results(self) -> Results:
        """The comparison of two arms at one seed that a fit with a baseline is."""
        arms = tuple(Arm(name, "arm" if n else "baseline") for n, name in enumerate(self.columns))
        runs = tuple(replace(run, arm=name, seed=0) for name, run in self.columns.items())
        return Results(Comparison("fit", self.goal.as_logged, arms, (0,)), runs)


def outcome_table(outcome: Outcome) -> Table:
    """Lay out the arm and its baseline side by side.

    A target that was not reached is shown as "never".
    """
    columns = outcome.columns
    summaries = [_with_seconds(run, outcome.goal) for run in columns.values()]
    table = Table(
        title=f"One seed, {outcome.goal.metric}",
        caption="Seconds are wall time of one run: on a busy machine they say little.",
    )
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    if len(columns) == 2:
        table.add_column("difference", justify="right")
    for label, tag in _rows(outcome.goal).items():
        values = [summary.get(tag, nan) for summary in summaries]
        cells = [_cell(value) for value in values]
        if len(values) == 2:
            cells.append(_cell(values[1] - values[0], signed=True))
        table.add_row(label, *cells)
    blanks = [""] * (len(columns) - 1)
    for label, size in _sizes(outcome).items():
        table.add_row(label, *blanks, f"{size:.1e}")
    return table


def verdict(outcome: Outcome) -> str:
    """Say what the pair shows, and what it does not."""
    if outcome.baseline is None:
        return "Without a baseline there is nothing to compare: add `--baseline '{}'`."
    silent = [
        name for name, run in outcome.columns.items() if not run.curve(outcome.goal.loss).steps
    ]
    if silent:
        return (
            f"No verdict: no loss was recorded under {outcome.goal.loss!r} for "
            f"{' and '.join(silent)}, so the runs cannot be compared step by step. A warning above "
            "names what was logged: set `goal.loss` to one of those, or log it in `training_step`."
        )
    judged = verdicts(analyse(outcome.results))[outcome.arm]
    if judged.outcome is Judgement.IDENTICAL:
        return (
            f"No effect: {outcome.arm} has the loss of {outcome.peer} at every step, to the last "
            "bit."
        )
    metric = outcome.goal.metric
    unmeasured = [name for name, run in outcome.columns.items() if not run.curve(metric).steps]
    if unmeasured:
        return (
            f"No verdict: {metric!r} was not recorded for {' and '.join(unmeasured)}. Set "
            "`goal.metric` to what runs are judged by, or log it in `validation_step` or "
            "`training_step`."
        )
    # Not the gap at equal step: where one stopped early, neither run ended there.
    ours, theirs = outcome.run.curve(metric), outcome.baseline.curve(metric)
    gap = ours.values[-1] - theirs.values[-1]
    if isnan(gap):
        ends = (f"{name} {run.curve(metric).values[-1]:g}" for name, run in outcome.columns.items())
        return (
            f"No verdict: the runs ended with {metric!r} of {' and '.join(ends)}, whose difference "
            "is not a number. Did one diverge? Lower its learning rate or its strength."
        )
    steps = ours.steps[-1], theirs.steps[-1]
    where = f" (at steps {steps[0]:.0f} and {steps[1]:.0f})" if steps[0] != steps[1] else ""
    words = [
        f"No claim: {outcome.arm} ended {gap:+.4f} from {outcome.peer} in {metric}{where}, "
        "but one seed cannot tell an effect from chance. Repeat with other --seed_everything, "
        "with a tuned baseline and with controls, before believing either sign."
    ]
    size = min(_sizes(outcome).values(), default=nan)
    if size < VISIBLE:
        words.append(
            f"The perturbation was {size:.1e} of the base step (median), below {VISIBLE:g}: a "
            "difference comes from elsewhere, such as another base optimizer or rounding that grew."
        )
    return " ".join(words)


def _sizes(outcome: Outcome) -> dict[str, float]:
    sizes = {
        "perturbation / step there": outcome.relative_size,
        "perturbation / whole step (estimate)": outcome.model_relative_size,
    }
    return {label: size for label, size in sizes.items() if not isnan(size)}


def _rows(goal: Goal) -> dict[str, str]:
    rows = {
        f"best {goal.metric}": tags.best_tag(goal.metric),
        f"final {goal.metric}": tags.final_tag(goal.metric),
        "mean loss over training": tags.AREA_UNDER_LOSS_CURVE,
    }
    if goal.higher_is_better is None:
        del rows[f"best {goal.metric}"]
    elif goal.target is not None:
        rows |= {
            f"steps to {goal.target:g}": tags.STEPS_TO_TARGET,
            f"epochs to {goal.target:g}": tags.EPOCHS_TO_TARGET,
            f"seconds to {goal.target:g}": tags.SECONDS_TO_TARGET,
        }
    return rows | {_SECONDS: _SECONDS}


_SECONDS = "seconds of training"


def _with_seconds(run: RecordedRun, goal: Goal) -> Summary:
    seconds = run.curve(goal.loss).seconds
    return {**summarise(run, goal), **({_SECONDS: seconds[-1]} if seconds else {})}


def _cell(value: float, signed: bool = False) -> str:
    if isnan(value):
        return "-"
    if not isfinite(value):
        return "-" if signed else "never"
    return f"{value:+.4g}" if signed else f"{value:.4g}"


ALIKE = 0.8
"""Similarity above which another name is taken for a misspelling and not for another metric."""


def never_logged(metric: str, logged: Collection[str]) -> str:
    """Say that the goal's metric was not logged, and what was.

    Args:
        metric: Tag of the goal's metric.
        logged: Tags that were logged.

    Example:
        >>> never_logged("val/acc", ["val_acc"])
        '`val/acc` was never logged; logged were val_acc. Did you mean val_acc? Set ...'
    """
    nearest = get_close_matches(metric, logged, n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    known = ", ".join(sorted(logged)) or "no metrics at all"
    return (
        f"`{metric}` was never logged; logged were {known}.{hint} Set `goal.metric` to what runs "
        "are judged by, or log it in `validation_step` or `training_step`."
    )


class GoalWatch(Callback):
    """Warns of a goal that seems a misspelling of what the validation before training logs.

    It refuses nothing: a metric may begin later, such as one of averaged weights. A fit ends with
    an error if it never did, and a comparison before its first whole run.

    Args:
        metric: Tag of the goal's metric.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what the first validation batches logged."""
        logged = [str(tag) for tag in trainer.callback_metrics]
        alike = get_close_matches(self.metric, logged, n=1, cutoff=ALIKE)
        if self.metric not in logged and alike and not tags.are_splits(self.metric, alike[0]):
            rank_zero_warn(
                f"The goal's metric `{self.metric}` is not among what the validation before "
                f"training logged: {', '.join(sorted(logged))}. Did you mean {alike[0]}? If so, "
                "stop, and set `goal.metric`: the run would end without a value of it."
            )

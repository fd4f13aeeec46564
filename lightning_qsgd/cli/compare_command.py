"""The commands ``compare`` and ``report``: arms x seeds of any experiment, with a verdict."""

import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jsonargparse import ActionConfigFile, Namespace  # type: ignore[attr-defined]
from rich.console import Console
from rich.markup import escape

from lightning_qsgd.cli.arm_configs import read_question
from lightning_qsgd.cli.commands import INTERRUPTED, TERMINATED, plain_console
from lightning_qsgd.cli.configs_command import by_name
from lightning_qsgd.cli.fit_job import FitJob, ProbeJob
from lightning_qsgd.cli.outcome import publish
from lightning_qsgd.cli.perturbation_cli import PerturbationCLI
from lightning_qsgd.cli.recipe import Recipe
from lightning_qsgd.cli.suggesting_parser import SuggestingParser
from lightning_qsgd.cli.suite_command import name_of_arm, suite_command, suite_in
from lightning_qsgd.compare.executors import choose_executor
from lightning_qsgd.compare.forecast import describe, plan_table, remarks, require_trainable
from lightning_qsgd.compare.planning import Plan
from lightning_qsgd.compare.planning.job import as_yaml
from lightning_qsgd.compare.planning.question import Question
from lightning_qsgd.compare.results.gains import unequal_seeds
from lightning_qsgd.compare.results.published import Published
from lightning_qsgd.compare.results.results import Results, provenance_of
from lightning_qsgd.compare.results.results_folder import RESULTS, load_results, save_results
from lightning_qsgd.compare.run_comparison import (
    refuse_changed_runs,
    refuse_other_arms,
    run_comparison,
)
from lightning_qsgd.compare.running import Running
from lightning_qsgd.compare.running.folder_lock import locked
from lightning_qsgd.compare.running.run_jobs import Workshop
from lightning_qsgd.compare.running.stored_run import (
    RunStore,
    collect,
    damaged_files,
    foreign_files,
)

ROOT = Path("runs") / "compare"
FAILED = 1
"""Exit status after runs that failed; the report is written all the same."""


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let a SIGTERM end a command as Ctrl-C does: its runs, and what they have written, go too."""
    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _end(*_: Any) -> None:
    sys.exit(TERMINATED)


@_ending_in_order()
def compare_command(arguments: list[str], recipe: Recipe | None = None) -> None:
    """Run a comparison, or continue it.

    Args:
        arguments: What follows ``compare`` on the command line.
        recipe: The command line that trains the arms; this package's own if None.

    Raises:
        SystemExit: With status 2 if an argument is wrong, 1 if runs failed, 130 after Ctrl-C, and
            143 after a SIGTERM.
        RuntimeError: If the folder is in use, runs are no pairs, or an arm that must equal the
            baseline does not.
    """
    recipe = recipe or Recipe(PerturbationCLI)
    suite = suite_in(arguments)
    if suite is not None:
        commands = (partial(one, recipe=recipe) for one in (compare_command, _tried))
        suite_command(suite, arguments, *commands)
        return
    parser, parsed, running, question = _understood(arguments, recipe)
    folder = Path(running.folder) if running.folder is not None else _default_folder(parsed)
    console = plain_console(markup=True)
    try:
        if parsed.dry_run:
            _show_plan(question, folder, running, recipe, console)
            return
        workshop = workshop_in(folder, running, recipe)
        with locked(folder):
            command = f"lightning-qsgd compare {shlex.join(by_name(arguments))}"
            results = carry_out(question, workshop, command, console)
    except (ModuleNotFoundError, ValueError) as error:
        parser.error(str(error), error)
    except KeyboardInterrupt:
        console.print(
            "Interrupted. Every run that had ended is stored: the same command goes on from there.",
            soft_wrap=True,
        )
        sys.exit(INTERRUPTED)
    if results.all_failures or results.untuned:
        sys.exit(FAILED)


def _understood(
    arguments: list[str], recipe: Recipe
) -> tuple[SuggestingParser, Namespace, Running, Question]:
    """Read what is asked, without a run and without a file.

    Raises:
        SystemExit: With status 2 if an argument is wrong.
    """
    parser = _parser()
    parsed = parser.parse_args(arguments)
    try:
        _add_arms(parsed)
        ready = parser.instantiate_classes(parsed)
        running = Running(**_part(Running, ready))
        whole, published = Plan(**_part(Plan, ready)), ready["published"] or Published()
        published.require_known(whole.arms)
        plan = whole.with_arms(parsed.only, parsed.skip)
        recipe.require_picklable()
        shown = published.of(plan.arms)
        question = read_question(plan, _folder_of_config(parsed), shown, recipe)
    except (TypeError, ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        parser.error(str(error), error)
    return parser, parsed, running, question


def _tried(arguments: list[str], recipe: Recipe) -> None:
    """Refuse what cannot be understood or carried on, and a baseline that fails at once.

    Raises:
        SystemExit: With status 2 if an argument is wrong.
        RuntimeError: If the baseline fails.
    """
    parser, parsed, running, question = _understood(arguments, recipe)
    if parsed.dry_run:  # it makes these steps itself
        return
    console = plain_console()
    console.quiet = True  # the runs that are there are shown when it is this task's turn
    with TemporaryDirectory() as scratch:
        try:
            workshop = workshop_in(Path(running.folder or scratch), running, recipe, Path(scratch))
            refuse_other_arms(question, workshop)
            refuse_changed_runs(question, workshop, console)
            require_trainable(question, workshop, [question.plan.baseline])
        except (ModuleNotFoundError, ValueError) as error:
            parser.error(str(error), error)


def report_command(arguments: list[str]) -> None:
    """Rebuild the report of a comparison, also of one that was interrupted.

    Args:
        arguments: What follows ``report`` on the command line.

    Raises:
        SystemExit: With status 2 if the folder holds no comparison.
        RuntimeError: If a comparison is running in the folder.
    """
    parser = SuggestingParser(
        prog="lightning-qsgd report", description="Rebuild the report of a comparison."
    )
    parser.add_argument("folder", type=str, help="Folder of the comparison.")
    folder, console = Path(parser.parse_args(arguments).folder), plain_console(markup=True)
    try:
        known = load_results(folder)
        with locked(folder):
            damaged, foreign = list[str](), list[str]()
            if (folder / "runs").is_dir():  # else the folder holds the results alone
                store = RunStore(folder)
                damaged = damaged_files(known, store)
                foreign = foreign_files(known, store)
                results = collect(known, store)
                save_results(results, folder)
            else:
                results = known
            publish(results, folder, console)
    except RuntimeError:
        raise  # the folder is in use
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error), error)
    except Exception as error:  # whatever values that do not fit together lead to
        parser.error(
            f"Cannot report {folder}: what is stored there does not fit together ({error!r}). A "
            "file is damaged, or was written by something else. Repeat the command of the "
            "comparison: it goes on from the runs that are intact.",
            error,
        )
    for file in damaged:
        console.print(
            f"[bold red]Damaged or gone[/]: {escape(file)}. {RESULTS} still knows what it held, "
            "if the run had ended. The comparison's command makes the run again.",
            soft_wrap=True,
        )
    if foreign:
        console.print(
            f"[bold red]{len(foreign)} stored runs left out[/], such as {escape(foreign[0])}: "
            "another configuration made them, as after a rerun that was stopped, so they are no "
            "pairs with the others. The comparison's command with `--changed rerun` makes them "
            "again.",
            soft_wrap=True,
        )


def workshop_in(
    folder: Path, running: Running, recipe: Recipe, logs: Path | None = None
) -> Workshop:
    """Return who makes the runs of a comparison, and keeps them in its folder.

    Args:
        folder: Folder of the comparison.
        running: Who makes the runs.
        recipe: The command line that trains them.
        logs: Folder for what they print; None takes `logs` in the comparison's own.
    """
    executor = choose_executor(running, folder / "logs" if logs is None else logs)
    return Workshop(FitJob(recipe), executor, RunStore(folder), running, ProbeJob(recipe))


def carry_out(question: Question, workshop: Workshop, command: str, console: Console) -> Results:
    """Make all runs that are not stored, write the report and show the outcome.

    Args:
        question: What is asked.
        workshop: Makes and keeps the runs.
        command: What repeats the comparison, for the report.
        console: Where progress and outcome are shown.

    Returns:
        All runs, also those that failed.

    Raises:
        ValueError: If the folder holds another comparison, or an arm loses more than it seems.
        RuntimeError: If the report could not be written, which costs no run, or an arm that must
            equal the baseline does not.
    """
    folder = workshop.store.folder
    provenance = provenance_of(command, _whole_config(question))
    refuse_other_arms(question, workshop)
    of_probes = require_trainable(question, workshop)
    for name, text in [*remarks(question), *of_probes.items()]:
        console.print(f"[yellow]{escape(name)}[/]: {escape(text)}", soft_wrap=True)
    results = run_comparison(question, workshop, provenance, console)
    try:
        publish(results, folder, console)
    except Exception as error:  # whatever drawing and writing raise: the runs are there
        raise RuntimeError(
            f"The report could not be written ({error!r}). No run is lost: the {len(results.runs)} "
            f"that ended are in {folder / RESULTS}. When the cause is gone, build the report again "
            f"with `lightning-qsgd report {shlex.quote(str(folder))}`."
        ) from error
    plan = question.plan
    equal = [name for name, arm in plan.arms.items() if arm.must_equal_baseline]
    unequal = [name for name in equal if unequal_seeds(results, name, plan.baseline)]
    if unequal:
        raise RuntimeError(
            f"{unequal} must equal the baseline to the last bit, and do not: something besides "
            "the arms differs between runs, so no difference here means anything. Look for "
            "threads, clocks and global state in model and data."
        )
    return results


def _show_plan(
    question: Question, folder: Path, running: Running, recipe: Recipe, console: Console
) -> None:
    """Show plan and forecast; what is stored is read, and nothing is written beside it."""
    console.print(plan_table(question))
    console.print("Measuring what a run costs ...")
    with TemporaryDirectory() as scratch:
        workshop = workshop_in(folder, running, recipe, Path(scratch))
        for line in describe(question, workshop):
            console.print(line, soft_wrap=True, markup=False)


def _parser() -> SuggestingParser:
    parser = SuggestingParser(prog="lightning-qsgd compare", description=__doc__)
    parser.add_argument("--config", action=ActionConfigFile, help="File with all of the below.")
    parser.add_class_arguments(Plan, fail_untyped=True)
    parser.add_class_arguments(Running, fail_untyped=True)
    parser.add_argument(
        "--published",
        type=Published | None,
        default=None,
        help="Figures of others, with their source, to show beside the measured ones.",
    )
    parser.add_argument(
        "--arm",
        action="append",
        default=[],
        help="An arm to add, tuned as the baseline is: class path of an optimizer, or a config.",
    )
    parser.add_argument(
        "--only", type=str, nargs="+", default=[], help="Arms to keep, with their controls."
    )
    parser.add_argument("--skip", type=str, nargs="+", default=[], help="Arms to leave out.")
    parser.add_argument(
        *("--dry_run", "--dry-run"),
        action="store_true",
        help="Show the plan and a forecast of its cost, and stop.",
    )
    return parser


def _add_arms(parsed: Namespace) -> None:
    """Add an arm for each `--arm`, named after its class or file."""
    for given in parsed.arm:
        is_file, name = given.endswith((".yaml", ".yml")), name_of_arm(given)
        if not is_file and "." not in given:
            raise ValueError(
                f"Expected `--arm` to be the class path of an optimizer or a config, got "
                f"{given!r}: it names no module. Write `my_package.MyOptimizer`, or a file that "
                "ends in .yaml."
            )
        if name in parsed.arms:
            raise ValueError(
                f"Expected `--arm {given}` to have a name of its own, got {name!r}: the plan has "
                "an arm of that name. Give it another name under `arms`."
            )
        overlay = str(Path(given).absolute()) if Path(given).is_file() else given
        parsed.arms[name] = Namespace(
            overlay=overlay if is_file else {"optimizer": {"class_path": given}},
            hyperparameters="tuned" if parsed.tuning else "given",
            description="" if is_file else given,
        )


def _part(kind: type[Plan] | type[Running], ready: Namespace) -> dict[str, Any]:
    return {field.name: ready[field.name] for field in fields(kind)}


def _folder_of_config(parsed: Namespace) -> Path:
    given = parsed.get("config") or []
    return Path(given[-1].absolute).parent if given else Path()


def _default_folder(parsed: Namespace) -> Path:
    given = parsed.get("config") or []
    return ROOT / (Path(given[-1].absolute).stem if given else "comparison")


def _whole_config(question: Question) -> str:
    parts = {"comparison": question.name, "runs": dict(question.configs)}
    return as_yaml(parts)

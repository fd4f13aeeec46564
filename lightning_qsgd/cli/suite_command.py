"""Suites: ``compare`` over several tasks, one comparison after the other, and one page for all."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import yaml
from rich.console import Console
from rich.markup import escape

from lightning_qsgd.argument_checks import text_of
from lightning_qsgd.atomic_file import write_atomically
from lightning_qsgd.cli.commands import TERMINATED, plain_console
from lightning_qsgd.cli.suggesting_parser import SuggestingParser, read_yaml
from lightning_qsgd.compare.planning import ArmPlan, Plan, Search, Task
from lightning_qsgd.compare.planning.plan import require_arms
from lightning_qsgd.compare.report.suite_page import suite_answer, words_for_stored, write_suite
from lightning_qsgd.compare.results.arm import require_folder_name
from lightning_qsgd.compare.results.results_folder import RESULTS, load_results
from lightning_qsgd.compare.running.folder_lock import locked, require_free
from lightning_qsgd.compare.statistics import Method
from lightning_qsgd.compare.verdicts.suite import analyse_suite, share_of

ROOT = Path("runs") / "suites"
TASKS, FOLDER = "tasks", "folder"
OF_A_TASK = ("experiment", "budget")
PLAN = "plan.yaml"
REFUSED = 2
"""Exit status of a command whose arguments are wrong."""


def suite_in(arguments: list[str]) -> Path | None:
    """Return the config of a suite among the arguments of ``compare``; None if there is none.

    Args:
        arguments: What follows ``compare`` on the command line.
    """
    for before, given in zip(["", *arguments], [*arguments, ""], strict=True):
        is_config = before == "--config" or given.startswith("--config=")
        path = Path(given.removeprefix("--config="))
        if is_config and path.is_file() and TASKS in _read(path):
            return path
    return None


Check: TypeAlias = Callable[[list[str]], Any]


def suite_command(
    config: Path, arguments: list[str], compare: Any, check: Check = lambda arguments: None
) -> None:
    """Compare the same arms on every task of a suite, then answer for all of them.

    Each task is a comparison below the suite's folder with a plan that is written there, and may be
    continued by itself. All of them are checked before the first run, a few steps of the baseline
    included. A task that cannot be carried out later on stops no other: the page says so.

    Args:
        config: Config of the suite.
        arguments: What follows ``compare`` on the command line.
        compare: The function that runs one comparison, given its arguments.
        check: Refuses such arguments with status 2 where they are wrong, and keeps nothing.

    Raises:
        SystemExit: With status 2 if the suite is wrong, 1 if runs or whole tasks failed.
        RuntimeError: If the baseline of a task fails in its first steps, or the folder of the suite
            or of a task is in use.
    """
    parser = SuggestingParser(prog="lightning-qsgd compare")
    parser.add_argument(f"--{TASKS}", type=dict[str, Task])
    parser.add_argument("--arms", type=dict[str, ArmPlan])
    try:
        taken, others = _taken_out(arguments, "--folder", "--config", "--alpha")
        others, chosen = _choices(others)
        suite = _read(config)
        own = {f"--{key}": list(suite[key]) for key in ("only", "skip") if suite.get(key)}
        chosen = {**own, **chosen}
        plans = _plans(suite, config.parent, parser, chosen, _added(suite, others))
        method = Method(float(taken.get("--alpha", suite.get("alpha", Method.alpha))))
        root = Path(taken.get("--folder") or suite.get(FOLDER) or ROOT / config.stem)
        dry = bool(suite.get("dry_run")) or not {"--dry_run", "--dry-run"}.isdisjoint(others)
        if not dry:
            _refuse_dropped_tasks(root, suite, others)
    except (TypeError, ValueError) as error:
        parser.error(str(error), error)
    console = plain_console(markup=True)
    for name in (name for name in suite[TASKS] if name not in plans):
        text = f"{name} is left out: none of its arms is asked for."
        console.print(text, soft_wrap=True, markup=False)
    level = {"alpha": share_of(method, len(plans)).alpha}
    calls = {
        name: ({**plan, **level}, ["--folder", str(root / name), *others, *choice])
        for name, (plan, choice) in plans.items()
    }
    with ExitStack() as held, TemporaryDirectory() as scratch:
        there = root.is_dir()
        if there and not dry:
            held.enter_context(locked(root))
        if not dry:
            console.print("Trying a few steps of the baseline of each task ...")
        for name, call in calls.items():
            what = f"the task {name!r} of {config}"
            _look_at(what, call, Path(scratch) / name, None if dry else root / name, check)
        if not there and not dry:  # no folder is made for a suite that is refused
            held.enter_context(locked(root))
        failed, unanswered = _carried_out(calls, Path(scratch) if dry else root, compare, console)
        if not dry:
            _answer(config.stem, [*plans], unanswered, method, root, console)
    if failed or unanswered:
        sys.exit(1)


Call: TypeAlias = tuple[dict[str, Any], list[str]]
"""The plan of a task, and what follows its config on the command line."""


def _carried_out(
    calls: Mapping[str, Call], root: Path, compare: Any, console: Console
) -> tuple[bool, dict[str, str]]:
    """Run one task after the other; return whether runs failed, and why tasks have no answer."""
    failed, unanswered = False, dict[str, str]()
    for name, call in calls.items():
        console.rule(escape(name))
        try:
            failed |= _compared(call, root / name, compare)
        except (RuntimeError, OSError) as error:  # such as an arm whose every trial failed
            unanswered[name] = _ends_of(str(error))
            console.print(f"[bold red]{escape(name)} cannot answer:[/] {escape(str(error))}")
    return failed, unanswered


def _answer(
    name: str,
    tasks: Sequence[str],
    unanswered: Mapping[str, str],
    method: Method,
    root: Path,
    console: Console,
) -> None:
    """Answer for all tasks, if there is one with an answer."""
    results = {task: load_results(root / task) for task in tasks if task not in unanswered}
    if not results:
        return
    analysis = analyse_suite(results, method, unanswered)
    stored = [task for task in _stored_tasks(root) if task not in tasks]
    for text in (suite_answer(analysis), *words_for_stored(stored)):
        plain = text.replace("**", "").replace("`", "")
        console.print(plain, soft_wrap=bool(stored), markup=False)
    page = write_suite(name, results, analysis, root, stored)
    console.print(f"Page of the suite: {page}", soft_wrap=True, markup=False)


def _stored_tasks(root: Path) -> list[str]:
    """List the tasks of a suite's folder that have results."""
    return sorted(file.parent.name for file in root.glob(f"*/{RESULTS}") if _is_task(file.parent))


def _is_task(folder: Path) -> bool:
    return (folder / PLAN).is_file()  # a comparison by itself has none


def _refuse_dropped_tasks(root: Path, suite: Mapping[str, Any], arguments: list[str]) -> None:
    """Refuse a folder that has results of a task which the suite does not name any more.

    Raises:
        ValueError: If there is such a task, and nothing may be replaced.
    """
    if _found("changed", arguments, default=suite.get("changed")) == "rerun":
        return
    dropped = [task for task in _stored_tasks(root) if task not in suite[TASKS]]
    if dropped:
        raise ValueError(
            f"The folder {root} holds another suite: it has results of the tasks {dropped}, and "
            f"`{TASKS}` names {[*suite[TASKS]]}. The page of the suite would be replaced by one of "
            "fewer tasks, each with a larger share of the level. Choose another `--folder`, or "
            "`--changed rerun` for a page that says which tasks it leaves out."
        )


def _look_at(what: str, call: Call, scratch: Path, folder: Path | None, check: Check) -> None:
    """Check one task, and say which one it is if it is wrong or in use; None asks for no folder."""
    try:
        if folder is not None:
            require_free(folder)
        _compared(call, scratch, check)
    except SystemExit as end:
        if end.code != TERMINATED:
            sys.stderr.write(f"This is what {what} asks for.\n")
        raise
    except RuntimeError as error:
        raise RuntimeError(
            f"{error} This is what {what} asks for; without its lines there the other tasks can "
            "be compared."
        ) from error


def _ends_of(message: str) -> str:
    """Leave out what stands between the first and the last line, such as a traceback."""
    lines = message.strip().splitlines() or ["it gave no reason"]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"


def _compared(call: Call, place: Path, compare: Any) -> bool:
    """Run one task; return whether runs failed, which does not stop the other tasks."""
    plan, others = call
    require_free(place)  # before its plan is replaced
    place.mkdir(parents=True, exist_ok=True)
    file = place / PLAN
    before = file.read_bytes() if file.is_file() else None
    text = yaml.safe_dump(plan, sort_keys=False, allow_unicode=True)
    write_atomically(file, text.encode())  # a full disk leaves the one that is there
    try:
        compare(["--config", str(file), *others])
    except SystemExit as end:
        if end.code == REFUSED and before is not None:
            write_atomically(file, before)  # the plan of what is stored there
        if end.code != 1:
            raise
        return True
    return False


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_yaml(text_of(path))
    except (OSError, ValueError, yaml.YAMLError):
        return {}  # what is wrong with it, the parser of the command says
    return found if isinstance(found, dict) else {}


def name_of_arm(given: str) -> str:
    """Return the name of an arm that `--arm` adds: its file's, or its class's in small letters.

    Example:
        >>> name_of_arm("torch.optim.NAdam"), name_of_arm("configs/arms/zoo/lion.yaml")
        ('nadam', 'lion')
    """
    is_file = given.endswith((".yaml", ".yml"))
    return Path(given).stem if is_file else given.rsplit(".", 1)[-1].lower()


def _added(suite: dict[str, Any], arguments: list[str]) -> list[str]:
    """Return the names of the arms that `arm` of the suite and `--arm` add."""
    given = _found("arm", arguments, action="append", default=list(suite.get("arm") or []))
    return list(map(name_of_arm, given))


def _found(option: str, arguments: list[str], **settings: Any) -> Any:
    """Read an option that the tasks are given as well, and leave it where it is."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(f"--{option}", **settings)
    return getattr(parser.parse_known_args(arguments)[0], option)


def _choices(arguments: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Take the names behind `--only` and `--skip` out of the arguments; the last of each counts."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--only", "--skip"):
        parser.add_argument(option, nargs="*")
    found, kept = parser.parse_known_args(arguments)
    return kept, {f"--{name}": own for name, own in vars(found).items() if own is not None}


def _plans(
    suite: dict[str, Any],
    folder: Path,
    parser: SuggestingParser,
    chosen: dict[str, list[str]],
    added: list[str],
) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """Return the plan of each task, and which of its arms `--only` and `--skip` name.

    A task of which nothing but the baseline is asked for is left out.

    Raises:
        TypeError, ValueError: If the suite, or what is chosen of it, is wrong.
    """
    for key in OF_A_TASK:
        if key in suite:
            raise ValueError(
                f"Expected no `{key}` beside `{TASKS}`, got {suite[key]!r}: a task has its own, "
                "and nothing of this would be used. Write it into each task."
            )
    _require_lines(suite.get("arms", {}))
    parts = {key: deepcopy(suite[key]) for key in (TASKS, "arms") if key in suite}
    ready = parser.instantiate_classes(parser.parse_object(parts))
    tasks, arms = ready[TASKS], ready["arms"] or {}
    if not tasks:
        raise ValueError(
            f"Expected `{TASKS}` to hold a task or more, got none: there is nothing to run. Give "
            "each a name, with `experiment` and `budget` below it."
        )
    for option, names in chosen.items():
        if not names:
            raise ValueError(f"Expected names of arms behind `{option}`, got none. Name some.")
        require_arms(f"`{option}` to name arms of the suite", names, [*arms, *added])
    plans = {}
    for title, task in tasks.items():
        what = f"`skip` of the task {title!r} to name arms of the suite"
        require_arms(what, task.skip, arms)
        # Of the plan only the arms count here; `check` looks at all of it.
        whole = {**arms, **{name: ArmPlan() for name in added}}
        plan = Plan(task.experiment, whole, task.budget, tuning=Search())
        kept = {a: own for a, own in plan.with_arms(skip=task.skip).arms.items() if a in arms}
        here = {
            option: [arm for arm in names if arm in kept or arm in added]
            for option, names in chosen.items()
        }
        only, skip = here.get("--only", []), here.get("--skip", [])
        left = {arm for arm in (*kept, *added) if arm in only or "--only" not in chosen}
        if chosen and left - {*skip, plan.baseline} == set():
            continue
        choice = [word for option, own in here.items() if own for word in (option, *own)]
        plans[title] = (_plan(suite, suite[TASKS][title], kept, folder), choice)
    return plans


def _require_lines(arms: Any) -> None:
    if not isinstance(arms, dict):
        raise ValueError(
            f"Expected `arms` of the suite to name arms, got {arms!r}: nothing says what they are. "
            "Write `name: {...}` for each."
        )
    for name, lines in arms.items():
        require_folder_name("the name of an arm", name)
        if not isinstance(lines, dict):
            raise ValueError(
                f"Expected the arm {name!r} of the suite to have lines of its own, got {lines!r}: "
                "nothing says what it is. Write `{overlay: ...}`, or `{}` for an arm that changes "
                "nothing."
            )


def _plan(
    suite: dict[str, Any], task: dict[str, Any], arms: Mapping[str, ArmPlan], folder: Path
) -> dict[str, Any]:
    """Join what a suite says of all tasks with what it says of one, with whole paths."""
    of_all = (TASKS, FOLDER, "only", "skip")
    parts = {key: value for key, value in {**suite, **task}.items() if key not in of_all}
    if isinstance(parts.get("published"), dict):
        parts["published"] = _published(parts["published"], suite["arms"].keys() - arms)
    parts["experiment"] = _whole(parts["experiment"], folder)
    parts["arms"] = {}
    for name, arm in arms.items():
        own = suite["arms"][name]
        parts["arms"][name] = {**own, "overlay": _whole(own.get("overlay"), folder)}
        if "control_of" in own:
            parts["arms"][name]["control_of"] = arm.control_of
    return parts


def _published(given: dict[str, Any], skipped: Collection[str]) -> dict[str, Any]:
    """Leave out the figures of arms that a task skips; those of no arm are refused later."""
    figures = given.get("figures") or {}
    return {**given, "figures": {arm: own for arm, own in figures.items() if arm not in skipped}}


def _whole(given: Any, folder: Path) -> Any:
    """Make the paths of files that are there whole; a shipped config is found by its name."""
    if isinstance(given, list):
        return [_whole(one, folder) for one in given]
    path = folder / given if isinstance(given, str) else None
    return str(path.resolve()) if path is not None and path.is_file() else given


def _taken_out(arguments: list[str], *names: str) -> tuple[dict[str, str], list[str]]:
    """Take what concerns the suite and no single task out of the arguments.

    Raises:
        ValueError: If one is given twice: the last would win, and the other be lost.
    """
    kept, taken, rest = list[str](), dict[str, str](), list(arguments)
    while rest:
        given = rest.pop(0)
        name, joined, value = given.partition("=")
        if name in taken:
            raise ValueError(
                f"Got `{name}` twice, and a suite takes it once: nothing of the other would be "
                "used. Write what it says into the suite's config, which `lightning-qsgd configs "
                "copy` copies for editing."
            )
        if name in names:
            taken[name] = value if joined else (rest.pop(0) if rest else "")
        else:
            kept.append(given)
    return taken, kept

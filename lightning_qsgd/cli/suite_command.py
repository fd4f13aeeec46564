"""Suites: ``compare`` over several tasks, one comparison after the other, and one page for all."""

import sys
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape

from lightning_qsgd.argument_checks import text_of
from lightning_qsgd.cli.suggesting_parser import SuggestingParser
from lightning_qsgd.compare.planning import Task
from lightning_qsgd.compare.report.suite_page import suite_answer, write_suite
from lightning_qsgd.compare.results.results_folder import load_results
from lightning_qsgd.compare.statistics import Method
from lightning_qsgd.compare.verdicts.suite import analyse_suite, share_of

ROOT = Path("runs") / "suites"
TASKS = "tasks"
PLAN = "plan.yaml"


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


def suite_command(config: Path, arguments: list[str], compare: Any) -> None:
    """Compare the same arms on every task of a suite, then answer for all of them.

    Each task is a comparison below the suite's folder with a plan that is written there, and may be
    continued by itself. A task that cannot be carried out stops no other: the page says so.

    Args:
        config: Config of the suite.
        arguments: What follows ``compare`` on the command line.
        compare: The function that runs one comparison, given its arguments.

    Raises:
        SystemExit: With status 2 if the suite is wrong, 1 if runs or whole tasks failed.
    """
    parser = SuggestingParser(prog="lightning-qsgd compare")
    parser.add_argument(f"--{TASKS}", type=dict[str, Task])
    suite = _read(config)
    try:
        parsed = parser.parse_object({TASKS: deepcopy(suite[TASKS])})
        tasks = parser.instantiate_classes(parsed)[TASKS]
        taken, others = _taken_out(arguments, "--folder", "--config", "--alpha")
        method = Method(float(taken.get("--alpha", suite.get("alpha", Method.alpha))))
    except (TypeError, ValueError) as error:
        parser.error(str(error), error)
    root = Path(taken["--folder"]) if "--folder" in taken else ROOT / config.stem
    console, failed, unanswered = Console(), False, dict[str, str]()
    dry = not {"--dry_run", "--dry-run"}.isdisjoint(others)
    with TemporaryDirectory() as scratch:
        for name, task in tasks.items():
            console.rule(name)
            plan = _plan(suite, {**suite[TASKS][name], "skip": task.skip}, config.parent)
            plan["alpha"] = share_of(method, len(tasks)).alpha
            place = (Path(scratch) if dry else root) / name
            try:
                failed |= _compared(plan, place, ["--folder", str(root / name), *others], compare)
            except RuntimeError as error:  # such as an arm whose every trial failed
                unanswered[name] = _ends_of(str(error))
                console.print(f"[bold red]{name} cannot answer:[/] {escape(str(error))}")
    answered = [name for name in tasks if name not in unanswered]
    if answered and not dry:
        results = {name: load_results(root / name) for name in answered}
        analysis = analyse_suite(results, method, unanswered)
        console.print(suite_answer(analysis).replace("**", "").replace("`", ""))
        page = write_suite(config.stem, results, analysis, root)
        console.print(f"Page of the suite: {page}", soft_wrap=True)
    if failed or unanswered:
        sys.exit(1)


def _ends_of(message: str) -> str:
    """Leave out what stands between the first and the last line, such as a traceback."""
    lines = message.strip().splitlines() or ["it gave no reason"]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"


def _compared(plan: dict[str, Any], place: Path, others: list[str], compare: Any) -> bool:
    """Run one task; return whether runs failed, which does not stop the other tasks."""
    place.mkdir(parents=True, exist_ok=True)
    file = place / PLAN
    file.write_text(yaml.safe_dump(plan, sort_keys=False, allow_unicode=True), "utf-8")
    try:
        compare(["--config", str(file), *others])
    except SystemExit as end:
        if end.code != 1:
            raise
        return True
    return False


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text_of(path))
    except (OSError, ValueError, yaml.YAMLError):
        return {}  # what is wrong with it, the parser of the command says
    return found if isinstance(found, dict) else {}


def _plan(suite: dict[str, Any], task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Join what a suite says of all tasks with what it says of one, with whole paths."""
    skipped = task.pop("skip")
    plan = {**{key: value for key, value in suite.items() if key != TASKS}, **task}
    plan["experiment"] = _whole(plan["experiment"], folder)
    plan["arms"] = {
        name: {**arm, "overlay": _whole(arm.get("overlay"), folder)}
        for name, arm in suite.get("arms", {}).items()
        if name not in skipped
    }
    return plan


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

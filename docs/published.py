"""Reads published comparisons back from their raw files, and makes the page of a suite from them.

python -m docs.published 2026-11-30-league

The second is for a suite whose tasks were carried out one after the other, in folders of their own:
put each task's `results.csv` into a folder with its name, and the plan of all of them beside it.
"""

import csv
import sys
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from docs.publish_results import with_links
from lightning_qsgd.compare import Arm, ArmRun, Comparison, Method, Results
from lightning_qsgd.compare.report.suite_page import MARKDOWN, PAGE, write_suite
from lightning_qsgd.compare.results.run_table import HASHES
from lightning_qsgd.compare.verdicts.suite import analyse_suite
from lightning_qsgd.training import Goal
from lightning_qsgd.training.recorded_run import RecordedCurve

PUBLISHED = Path(__file__).parent / "results"


def published(name: str) -> Results:
    """Read a comparison of `docs/results` back from its plan and its raw file."""
    plan = yaml.safe_load((PUBLISHED / name / "plan.yaml").read_text())
    return _results(name, PUBLISHED / name, plan, plan)


def published_suite(folder: Path) -> dict[str, Results]:
    """Read the tasks of a suite back from their raw files, in the order of the plan."""
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    tasks = plan["tasks"].items()
    return {task: _results(task, folder / task, plan, asked) for task, asked in tasks}


def _results(name: str, folder: Path, plan: Mapping[str, Any], asked: Mapping[str, Any]) -> Results:
    arms = tuple(_arms(plan["arms"]))
    metric, higher = asked["goal"]["metric"], asked["goal"].get("higher_is_better")
    with (folder / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "done"]
    goal = Goal(metric=metric, higher_is_better=higher, target=0.0)
    length = asked.get("budget", {}).get("max_steps", 0)
    runs = tuple(
        ArmRun(
            arm=row["arm"],
            seed=int(row["seed"]),
            final={metric: float(row[metric])},
            checks={check: row[check] for check in HASHES if row.get(check)},
            curves={metric: _reaching(goal, float(row["steps_to_target"]), length)},
        )
        for row in rows
    )
    seeds = tuple(sorted({run.seed for run in runs}))
    return Results(Comparison(name, goal, arms, seeds), runs)


def _arms(described: Mapping[str, Any]) -> Iterator[Arm]:
    controls: dict[str, list[str]] = {}
    for arm, lines in described.items():
        for matched in lines.get("control_of", []):
            controls.setdefault(matched, []).append(arm)
    for arm, lines in described.items():
        own = tuple(controls.get(arm, []))
        yield Arm(arm, lines.get("kind", "arm"), own, lines.get("description", ""))


def _reaching(goal: Goal, steps: float, length: float) -> RecordedCurve:
    """Return a curve that is at a target of 0 after so many steps: the rest is not published."""
    short = -1.0 if goal.is_rising else 1.0
    points = {steps: 0.0} if isfinite(steps) else {}
    points.setdefault(max(length, 1.0), 0.0 if points else short)
    axis = list(points)
    return RecordedCurve(axis, axis, axis, list(points.values()))


def make_page(folder: Path, alpha: float = Method.alpha) -> None:
    """Write `index.md`, `suite.csv` and `profile.png` of a published suite from its raw files."""
    tasks = published_suite(folder)
    name = folder.name.split("-", 3)[-1]
    write_suite(name, tasks, analyse_suite(tasks, Method(alpha)), folder)
    (folder / PAGE).unlink()
    page = folder / MARKDOWN
    (folder / "index.md").write_text(with_links(page.read_text()))
    page.unlink()


if __name__ == "__main__":
    make_page(PUBLISHED / sys.argv[1])

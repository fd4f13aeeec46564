"""A run gives the same numbers in whatever invocation of the command it is made."""

import json
import os
import random
import re
import subprocess
import sys
from ast import literal_eval
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_qsgd.compare.executors import attempt
from lightning_qsgd.compare.executors.local import _environment_of_runs
from lightning_qsgd.training.recorded_run import RecordedRun
from tests.compare_jobs import made_job

PROJECT = """
import random, numpy, torch
DRAWN = random.random(), float(numpy.random.normal()), float(torch.rand(()))
ORDER = [*set("a vocabulary that is made of a set of words".split())]
"""

SCRIPT = """
import json, sys
from pathlib import Path
import numpy

AT_THE_TOP, UNGUARDED = float(numpy.random.normal()), 2

from lightning_qsgd.cli.recipe import refuse_while_imported
from lightning_qsgd.compare.executors import LocalExecutor
from lightning_qsgd.compare.planning.job import Job
from lightning_qsgd.training.recorded_run import RecordedRun


class Fit:
    def __call__(self, job):
        import project

        found = {"top": AT_THE_TOP, "module": project.DRAWN, "order": project.ORDER}
        return RecordedRun(job.arm, job.seed, checks=found)


if __name__ == "__main__":
    jobs = [Job("a", 0, {}), Job("b", 0, {}), Job("a", 1, {}), Job("a", UNGUARDED, {})]
    ended = LocalExecutor(Path(sys.argv[1]), processes=2).run(Fit(), jobs, lambda job: None)
    found = {each.job.name: each.run.checks if each.run else each.traceback for each in ended}
    print(json.dumps(found))
else:
    print("imported by a run")
    if AT_THE_TOP == numpy.random.RandomState(UNGUARDED).normal():
        refuse_while_imported()
"""


def plain(code: str, folder: Path, typed: str = "", **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    return subprocess.run(
        [sys.executable, *code.split()],
        input=typed,
        cwd=folder,
        env={**kept, "PYTHONPATH": str(Path(__file__).parents[3]), **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def drawn_at(seed: int) -> dict[str, Any]:
    """What script and project draw if they are imported in this order at this seed."""
    generator = np.random.RandomState(seed)
    top, inside = float(generator.normal()), float(generator.normal())
    torch.manual_seed(seed)
    return {"top": top, "module": [random.Random(seed).random(), inside, torch.rand(()).item()]}


def test_what_modules_draw_on_import_is_the_same_in_every_invocation(tmp_path):
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "order.py").write_text(PROJECT.splitlines()[-1] + "\nprint(repr(ORDER))")
    found = json.loads(plain("script.py logs", tmp_path))  # what the script prints is in the logs
    *_, last = found.pop("runs/a/seed2").splitlines()  # no "process died" behind it
    assert re.match(r"RuntimeError: The script runs .* under `if __name__ == '__main__':`\.", last)
    assert "imported by a run" in (tmp_path / "logs/runs/a/seed2.log").read_text()
    order = literal_eval(plain("order.py", tmp_path, PYTHONHASHSEED="0"))
    assert found == {
        "runs/a/seed0": {**drawn_at(0), "order": order},
        "runs/b/seed0": {**drawn_at(0), "order": order},
        "runs/a/seed1": {**drawn_at(1), "order": order},
    }


def test_every_attempt_begins_with_the_generators_of_its_seed():
    def drawn(job):
        return RecordedRun(
            job.arm,
            job.seed,
            {
                "python": random.random(),
                "numpy": np.random.normal(),  # noqa: NPY002 - the global generator is meant
                "torch": torch.rand(()).item(),
            },
        )

    one, again, other = (attempt(drawn, made_job(seed=seed)).run.final for seed in (3, 3, 4))
    assert one == again
    assert not set(one.values()) & set(other.values())


def test_the_environment_of_runs_ends_with_them(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for given in (None, "7"):
        monkeypatch.delenv("PYTHONHASHSEED", raising=False)
        if given is not None:
            monkeypatch.setenv("PYTHONHASHSEED", given)
        before = dict(os.environ)
        with _environment_of_runs():
            assert os.environ["PYTHONHASHSEED"] == (given or "0")
            assert os.environ["OMP_NUM_THREADS"] == "1"
        assert dict(os.environ) == before


FROM_ELSEWHERE = """
import sys
from pathlib import Path

from lightning_qsgd.compare.executors import LocalExecutor
from lightning_qsgd.compare.planning.job import Job
from project_fit import Fit

if __name__ == "__main__":
    (ended,) = LocalExecutor(Path("logs"), 1).run(Fit(), [Job("a", 0, {})], lambda job: None)
    print("made" if ended.run else ended.traceback)
"""
FIT = """
from lightning_qsgd.training.recorded_run import RecordedRun


class Fit:
    def __call__(self, job):
        return RecordedRun(job.arm, job.seed)
"""


def test_a_script_in_no_file_starts_runs_of_what_it_imports(tmp_path):
    (tmp_path / "project_fit.py").write_text(FIT)
    assert plain("-", tmp_path, typed=FROM_ELSEWHERE).strip() == "made"


IN_NO_FILE = """
from lightning_qsgd.cli.recipe import Recipe
from lightning_qsgd.cli.perturbation_cli import PerturbationCLI


class Model: ...


Recipe(PerturbationCLI).require_picklable()
try:
    Recipe(PerturbationCLI, (Model,)).require_picklable()
except ValueError as error:
    print(error)
"""


def test_classes_in_no_file_are_refused_before_a_process_starts(tmp_path):
    words = plain("-", tmp_path, typed=IN_NO_FILE)
    assert re.match(r"Cannot hand PerturbationCLI .* is in no file, .* Write it into a file", words)

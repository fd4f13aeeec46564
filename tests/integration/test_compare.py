"""`lightning-qsgd compare` from the config to the report, on a few steps of digits."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_qsgd.cli import compare_command
from lightning_qsgd.cli.arm_configs import read_question
from lightning_qsgd.cli.compare_command import _add_arms, _parser, _part
from lightning_qsgd.compare import (
    Outcome,
    analyse,
    load_results,
    verdicts,
)
from lightning_qsgd.compare.executors import RayExecutor
from lightning_qsgd.compare.planning import ArmPlan, Budget, Plan
from lightning_qsgd.compare.results.pairing import check_pairing, extra_parameters
from lightning_qsgd.compare.running.folder_lock import LOCK, locked
from lightning_qsgd.compare.running.run_jobs import Workshop
from tests.compare_jobs import made_job, quick_fit

CONFIGS = Path(__file__).parents[2] / "configs"
EXPERIMENT = str(CONFIGS / "experiments" / "digits.yaml")
MODULES = "tests.integration.compare_modules"
STILL = {"optimizer": {"init_args": {"lr": 0.0, "weight_decay": 0.0}}}
FAST = {"optimizer": {"init_args": {"lr": 0.01}}}
PLAN: dict[str, Any] = {
    "experiment": EXPERIMENT,
    "budget": {"max_steps": 12},
    "seeds": 3,
    "arms": {
        "adamw": {"kind": "baseline", "overlay": FAST},
        "still": {"overlay": {"trainer": {"limit_val_batches": 4}, **STILL}},
    },
}
PLAN["arms"]["adamw"]["overlay"] = {"trainer": {"limit_val_batches": 4}, **FAST}


class Compare:
    """Runs the command in an empty folder."""

    def __init__(self, command_line: Any, folder: Path) -> None:
        self.command_line = command_line
        self.folder = folder

    def write(self, **changes: Any) -> Path:
        file = self.folder / "plan.yaml"
        file.write_text(yaml.safe_dump({**PLAN, **changes}, sort_keys=False))
        return file

    def __call__(self, *more: str, folder: str = "out", **changes: Any) -> str:
        arguments = ["--config", str(self.write(**changes)), "--folder", folder, *more]
        return str(self.command_line.main("compare", *arguments))

    def refuse(self, *more: str, folder: str = "out", **changes: Any) -> str:
        with pytest.raises(SystemExit) as caught:
            self(*more, folder=folder, **changes)
        assert caught.value.code == 2
        return " ".join(self.command_line._capsys.readouterr().err.split())

    def fail(self, *more: str, folder: str = "out", **changes: Any) -> str:
        """Expect the status of a comparison with failed runs, and return what was printed."""
        with pytest.raises(SystemExit) as caught:
            self(*more, folder=folder, **changes)
        assert caught.value.code == 1
        return str(self.command_line._capsys.readouterr().out)

    def table(self, folder: str = "out") -> bytes:
        return (self.folder / folder / "results.csv").read_bytes()


@pytest.fixture
def compare(command_line: Any, tmp_path: Path) -> Compare:
    return Compare(command_line, tmp_path)


@pytest.fixture(scope="module")
def whole() -> list[bytes]:
    """Table of the uninterrupted plan on this machine, made by the first test that asks for it."""
    return []


def table_of_the_whole(compare: Compare, whole: list[bytes]) -> bytes:
    if not whole:
        compare(folder="whole")
        whole.append(compare.table("whole"))
    return whole[0]


def a_suite(folder: Path, **tasks: Any) -> Path:
    budget, arms = PLAN["budget"], PLAN["arms"]
    task = {"experiment": EXPERIMENT, "budget": budget}
    suite = {"tasks": {name: {**task, **own} for name, own in tasks.items()}}
    file = folder / "suite.yaml"
    file.write_text(yaml.safe_dump({**suite, "seeds": 3, "arms": arms}, sort_keys=False))
    return file


def test_a_suite_answers_for_its_tasks_and_repeats_without_a_run(
    command_line: Any, tmp_path: Path
) -> None:
    file = a_suite(tmp_path, one={}, two={"budget": {"max_steps": 6}})
    arguments = ["compare", "--config", str(file), "--folder", "out"]
    said = command_line.main(*arguments)
    assert "No arm can be said to do better than adamw over 2 tasks." in said
    page, table = (tmp_path / "out" / name for name in ("suite.html", "suite.csv"))
    assert "still" in page.read_text()
    assert [line.split(",")[:2] for line in table.read_text().splitlines()[1:]] == [
        ["still", "one"],
        ["still", "two"],
        ["still", "(all)"],
    ]
    runs = sorted((tmp_path / "out").rglob("seed*.json"))
    before, was = [run.stat().st_mtime_ns for run in runs], table.read_bytes()
    assert len(runs) == 12
    command_line.main(*arguments)
    assert [run.stat().st_mtime_ns for run in runs] == before
    assert table.read_bytes() == was


def test_a_suite_without_the_data_of_its_last_task_runs_nothing(
    command_line: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gsm8k = str(CONFIGS / "experiments" / "gsm8k_tiny.yaml")
    file = a_suite(tmp_path, one={}, two={"experiment": gsm8k})
    with pytest.raises(SystemExit) as caught:
        command_line.main("compare", "--config", str(file), "--folder", "out")
    assert caught.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Cannot read the problems in data/gsm8k" in last
    assert "what the task 'two' of" in last
    assert not (tmp_path / "out").exists()


def test_a_suite_with_one_changed_task_names_it_and_replaces_no_plan(
    command_line: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", "--config", str(a_suite(tmp_path, one={}, two={})), "--folder", "out"]
    command_line.main(*arguments, "--seeds", "1")
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    before = {file: file.read_bytes() for file in files if file.name != LOCK}
    a_suite(tmp_path, one={}, two={"budget": {"max_steps": 6}})
    with pytest.raises(SystemExit) as caught:
        command_line.main(*arguments, "--seeds", "2")
    assert caught.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "2 stored runs were made with another configuration" in said
    assert "trainer.max_steps: 12, now 6" in said
    assert "or `--changed rerun` to replace them." in said
    assert "what the task 'two' of" in said
    assert {file: file.read_bytes() for file in before} == before
    assert not (tmp_path / "out/one/runs/adamw/seed1.json").exists()


def with_model(name: str) -> dict[str, Any]:
    """Arms that train a module of the user, named by its class path."""
    model = {"model": {"class_path": f"{MODULES}.{name}"}}
    own = {"model": {"class_path": f"{MODULES}.Digits"}}
    return {"good": {"kind": "baseline", "overlay": own}, "bad": {"overlay": model}}


def test_a_comparison_tells_worse_from_equal_and_resumes_without_running(compare: Compare) -> None:
    zero = {"kind": "control", "must_equal_baseline": True}
    overlay = {**PLAN["arms"]["adamw"]["overlay"], "perturbation": {"strength": 0.0}}
    arms = {**PLAN["arms"], "zero": {**zero, "overlay": overlay}}
    printed = compare(arms=arms)
    results = load_results(compare.folder / "out")
    assert not results.missing
    assert not results.failures
    assert all(check.equal == 6 and not check.different for check in check_pairing(results))
    for check in ("initial_weights", "data_order"):
        assert len({run.checks[check] for run in results.runs}) == 3  # one per seed
    judged = verdicts(analyse(results))
    assert judged["still"].outcome == Outcome.WORSE
    assert judged["zero"].outcome == Outcome.IDENTICAL
    assert (compare.folder / "out" / "report.html").exists()
    assert "9/9" in printed
    assert re.search(r"Report +\S*out/report\.html", printed)
    assert re.search(r"Curves +\S*tensorboard --logdir \S*/_mean", printed)
    assert (compare.folder / "out" / "tensorboard" / "_mean" / "adamw").is_dir()
    assert results.comparison.budget == "12 steps"
    steps = [run.curves["val/accuracy"].steps[-1] for run in results.runs]
    assert steps == [12.0] * 9  # measured at the end of the budget, not of the last epoch

    files = {file: file.stat().st_mtime_ns for file in (compare.folder / "out/runs").rglob("*")}
    before = compare.table()
    again = compare(arms=arms)
    assert again.count("was done before") == 9
    assert " done (" not in again
    assert files == {f: f.stat().st_mtime_ns for f in (compare.folder / "out/runs").rglob("*")}
    assert compare.table() == before


def test_planted_truths_are_found(compare: Compare) -> None:
    def at(rate: float, **more: Any) -> dict[str, Any]:
        changes = {"trainer": {"limit_val_batches": 4}, "optimizer": {"init_args": {"lr": rate}}}
        return {"overlay": {**changes, **more}}

    arms = {
        "undertrained": {"kind": "baseline", **at(1e-3)},
        "really_better": at(1e-2),
        "really_worse": at(1e-5),
        "equal": {**at(1e-3, perturbation={"strength": 0.0}), "must_equal_baseline": True},
        "hardly_different": at(1e-3, perturbation={"strength": 0.5}),
    }
    compare(arms=arms, seeds=5, budget={"max_steps": 25})
    found = verdicts(analyse(load_results(compare.folder / "out")))
    assert {arm: verdict.outcome for arm, verdict in found.items()} == {
        "really_better": Outcome.BETTER,
        "really_worse": Outcome.WORSE,
        "equal": Outcome.IDENTICAL,
        "hardly_different": Outcome.TOO_FEW,
    }


def test_a_killed_comparison_continues_to_the_same_table(
    compare: Compare, whole: list[bytes]
) -> None:
    file = compare.write()
    command = [sys.executable, "-m", "lightning_qsgd", "compare", "--config", str(file)]
    process = subprocess.Popen(
        [*command, "--folder", "killed", "--processes", "1"],
        cwd=compare.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    runs = compare.folder / "killed" / "runs"
    wait_for(lambda: len(list(runs.rglob("*.json"))) >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not processes_in(compare.folder))  # nobody trains on for a parent that is dead
    stored = {file: file.stat().st_mtime_ns for file in runs.rglob("*.json")}
    assert 2 <= len(stored) < 6
    printed = compare(folder="killed")
    assert printed.count("was done before") == len(stored)
    assert all(file.stat().st_mtime_ns == changed for file, changed in stored.items())
    assert compare.table("killed") == table_of_the_whole(compare, whole)


def processes_in(folder: Path) -> list[str]:
    """Processes, besides this one, that work in a folder; none where the system does not tell."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").resolve(strict=True) == folder and int(
                process.name
            ) != os.getpid():
                found.append(process.name)
    return found


def wait_for(
    condition: Callable[[], bool], process: "subprocess.Popen[bytes] | None" = None
) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process is None or process.poll() is None, "the comparison ended by itself"
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("FailsAtSeedOne", "ArithmeticError: the second seed is unlucky"),
        ("DiesAtSeedOne", "The process died: killed by SIGKILL, as the system does when memory"),
    ],
)
def test_a_run_that_fails_does_not_take_the_others_down(
    name: str, said: str, compare: Compare
) -> None:
    printed = compare.fail(arms=with_model(name))
    results = load_results(compare.folder / "out")
    assert [(failure.arm, failure.seed) for failure in results.failures] == [("bad", 1)]
    assert said in results.failures[0].traceback
    assert len(results.runs) == 5
    assert "runs/bad/seed1 FAILED" in printed
    assert "1 runs failed" in printed


UNLUCKY: dict[str, Any] = {
    "tuning": {
        "trials": 1,
        "seeds": [1],
        "space": {"lr": {"low": 1e-3, "high": 1e-1}, "weight_decay": {"low": 1e-3, "high": 0.1}},
    },
    "seeds": [0, 2, 3],
}
"""Of `FailsAtSeedOne`, each trial fails, and no other run."""


def tuned(arms: dict[str, Any]) -> dict[str, Any]:
    return {name: {**arm, "hyperparameters": "tuned"} for name, arm in arms.items()}


def test_an_arm_that_cannot_be_tuned_stops_no_other(compare: Compare) -> None:
    unlucky = with_model("FailsAtSeedOne")
    arms = {**unlucky, "still": {"overlay": {**unlucky["good"]["overlay"], **STILL}}}
    same = {
        **unlucky["good"],
        "kind": "control",
        "control_of": ["bad"],
        "hyperparameters": "of_arm",
    }
    arms = {**tuned({"good": arms["good"], "bad": arms["bad"]}), "still": arms["still"]}
    arms |= {"same": same}
    printed = compare.fail(arms=arms, **UNLUCKY)
    assert "Could not be tuned: bad, same." in printed
    results = load_results(compare.folder / "out")
    assert len(results.runs) == 6
    assert set(results.untuned) == {"bad", "same"}
    assert results.untuned["same"].startswith("Cannot run 'same': it takes the values of 'bad'")
    assert "the second seed is unlucky" in results.untuned["bad"]
    verdict = verdicts(analyse(results))["bad"]
    assert (verdict.outcome, verdict.reason[:17]) == (Outcome.NO_CLAIM, "Cannot tune 'bad'")
    report = (compare.folder / "out" / "report.md").read_text()
    assert "**Could not be tuned:** `bad`, `same`." in report
    assert compare("--skip", "bad", arms=arms, **UNLUCKY).count("was done before") == 7


def test_a_baseline_that_cannot_be_tuned_stops_the_comparison(compare: Compare) -> None:
    good, bad = with_model("FailsAtSeedOne").values()
    arms = tuned({"good": {"overlay": good["overlay"]}, "bad": {**bad, "kind": "baseline"}})
    with pytest.raises(SystemExit):
        compare(arms=arms, **UNLUCKY)
    said = " ".join(compare.command_line._capsys.readouterr().err.split())
    assert "Cannot tune 'bad'" in said
    assert "Every arm is compared with this baseline, so no run was made." in said
    assert not (compare.folder / "out" / "runs").exists()


def test_an_arm_without_the_metric_is_refused_with_what_was_logged(compare: Compare) -> None:
    refused = compare.refuse(arms=with_model("Silent"), seeds=[0])
    assert "The arm 'bad' fails in its first steps" in refused
    assert "`val/accuracy` was never logged; logged were" in refused
    assert "train/loss" in refused
    assert not (compare.folder / "out" / "runs").exists()


def test_runs_that_are_no_pairs_are_refused_unless_allowed(compare: Compare) -> None:
    arms = with_model("DrawsFromTheClock")
    refused = compare.refuse(arms=arms)
    assert "differ in the initial weights" in refused
    assert "--unpaired allow" in refused
    printed = compare("--unpaired", "allow", arms=arms)
    assert printed.count("NOT A PAIR") == 3
    results = load_results(compare.folder / "out")
    assert len(check_pairing(results)[0].different) == 3


def test_seeds_that_change_nothing_are_refused(compare: Compare) -> None:
    model = {"class_path": f"{MODULES}.SeedsItself"}
    arms = {"good": {"kind": "baseline", "overlay": {"model": model}}}
    arms |= {"bad": {"overlay": {"model": model, **FAST}}}
    refused = compare.refuse(arms=arms, budget={"max_steps": 2})
    assert "Seed 1: bad and good repeat seed 0 to the last bit" in refused
    assert "leave out a fixed `seed_everything`" in refused
    (verdict,) = verdicts(analyse(load_results(compare.folder / "out"))).values()
    assert verdict.outcome is Outcome.NO_CLAIM
    assert "both repeat an earlier seed to the last bit at seed 1" in verdict.reason


def test_ctrl_c_says_how_to_go_on(compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_command, "run_comparison", interrupted)
    with pytest.raises(SystemExit) as caught:
        compare()
    assert caught.value.code == 130
    assert "the same command goes on" in compare.command_line._capsys.readouterr().out


def test_a_sigterm_ends_in_order(compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def terminated(*_: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            ended.append("what runs have written")

    monkeypatch.setattr(compare_command, "run_comparison", terminated)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # or a failure would end the tests
    try:
        with pytest.raises(SystemExit) as caught:
            compare()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143
    assert ended == ["what runs have written"]


def test_a_second_comparison_in_the_folder_is_refused(compare: Compare) -> None:
    with locked(compare.folder / "out"):
        refused = compare.refuse()
    assert f"in use by another comparison (process {os.getpid()})" in refused
    assert not (compare.folder / "out" / "runs").exists()


def test_a_changed_configuration_is_refused_or_run_again(compare: Compare) -> None:
    compare(seeds=[0])
    before = compare.table()
    refused = compare.refuse(seeds=[0], budget={"max_steps": 13})
    assert "2 stored runs were made with another configuration" in refused
    assert "trainer.max_steps: 12, now 13" in refused
    assert compare.table() == before
    compare("--changed", "rerun", seeds=[0], budget={"max_steps": 13})
    assert compare.table() != before
    assert load_results(compare.folder / "out").comparison.budget == "13 steps"


def test_a_comparison_of_other_arms_is_refused_or_takes_the_place(compare: Compare) -> None:
    compare(seeds=[0])
    base, other = (dict(arm) for arm in PLAN["arms"].values())
    arms, out = {"base": base, "other": other}, compare.folder / "out"
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    refused = compare.refuse(seeds=[0], arms=arms)
    assert "out holds another comparison: its results are of the arms ['adamw', 'still']" in refused
    assert "Choose another `--folder`, or `--changed rerun` to replace them." in refused
    found = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert {**found, out / LOCK: b""} == {**before, out / LOCK: b""}
    compare("--changed", "rerun", seeds=[0], arms=arms)
    assert [arm.name for arm in load_results(out).comparison.arms] == ["base", "other"]
    assert compare(seeds=[0], arms=arms).count("was done before") == 2


def test_a_report_after_a_rerun_that_was_stopped_mixes_no_configurations(
    compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare()

    def stop(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Workshop, "run", stop)
        with pytest.raises(SystemExit):
            compare("--changed", "rerun", budget={"max_steps": 11})
    printed = compare.command_line.main("report", "out")
    assert "6 stored runs left out" in printed
    assert "another configuration made them" in " ".join(printed.split())
    assert len(load_results(compare.folder / "out").missing) == 6


def test_an_added_arm_and_seed_keep_what_was_run(compare: Compare) -> None:
    compare(seeds=[0])
    printed = compare(seeds=[0, 1])
    assert printed.count("was done before") == 2
    assert len(load_results(compare.folder / "out").runs) == 4


def test_tuning_and_target_use_seeds_of_their_own(compare: Compare) -> None:
    arms = {
        "adamw": {"kind": "baseline", "hyperparameters": "tuned"},
        "copy": {"hyperparameters": "of_baseline", "overlay": {"perturbation": {"strength": 0.5}}},
        "still": {"overlay": STILL},
        "sine": {"hyperparameters": "tuned", "overlay": {"perturbation": {"strength": 0.1}}},
        "same": {"kind": "control", "control_of": ["sine"], "hyperparameters": "of_arm"},
    }
    space = {"lr": {"low": 1e-5, "high": 1e-2}, "weight_decay": {"low": 1e-3, "high": 0.1}}
    tuning = {"trials": 2, "seeds": 1, "space": space}
    goal = {"target": "from_baseline", "target_seeds": [77]}
    compare(arms=arms, tuning=tuning, goal=goal, seeds=[0])
    results = load_results(compare.folder / "out")
    tuned, other = results.tuning
    assert (tuned.arm, tuned.trials, tuned.seeds) == ("adamw", 2, (100_000,))
    assert other.arm == "sine"
    assert results.comparison.goal.target is not None
    used = {
        arm: json.loads((compare.folder / f"out/runs/{arm}/seed0.json").read_text().split("\n")[1])
        for arm in arms
    }
    for arm, found in (("adamw", tuned), ("copy", tuned), ("sine", other), ("same", other)):
        chosen = {value.name: value.best for value in found.values}
        arguments = used[arm]["config"]["optimizer"]["init_args"]
        arguments["beta1"] = arguments["betas"][0]
        assert {name: arguments[name] for name in chosen} == chosen
    assert used["same"]["config"]["perturbation"] is None
    assert used["still"]["config"]["optimizer"]["init_args"]["lr"] == 0.0
    table = compare.table()
    assert compare(arms=arms, tuning=tuning, goal=goal, seeds=[0]).count("done before") == 10
    assert compare.table() == table


def test_dry_run_shows_the_plan_and_runs_nothing_of_it(compare: Compare) -> None:
    printed = compare("--dry_run")
    assert "adamw" in printed
    assert "12 steps" in printed
    assert "0 to 2 (3)" in printed
    assert "In all 6 runs" in printed
    assert "a few steps of each arm" in printed
    assert not (compare.folder / "out").exists()


@pytest.mark.parametrize("more", [(), ("--dry_run",)])
def test_tuning_without_optuna_is_refused_before_anything_runs(
    more: tuple[str, ...], compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr("lightning_qsgd.cli.compare_command.workshop_in", None)
    adamw = {**PLAN["arms"]["adamw"], "hyperparameters": "tuned"}
    arms = {"adamw": adamw, "still": PLAN["arms"]["still"]}
    said = compare.refuse(*more, arms=arms, tuning={"trials": 2, "seeds": 1})
    assert "Cannot tune: optuna is not installed" in said
    assert "pip install 'lightning-qsgd[compare]', or leave `tuning` out" in said
    assert not (compare.folder / "out").exists()


def test_a_missing_module_of_an_arm_is_explained_once(compare: Compare) -> None:
    said = compare.refuse("--arm", "nowhere.Lion")
    assert said.count("Modules are looked for in the current folder") == 1


def test_horizons_are_shorter_runs_that_the_report_knows(compare: Compare) -> None:
    asked: dict[str, Any] = {"horizons": [0.5], "goal": {"target": 0.2}, "seeds": [0]}
    printed = compare("--dry_run", **asked)
    assert "horizons: 6 of 12 steps, for adamw, still" in printed
    assert "1 of them shorter" in printed
    compare(**asked)
    out = compare.folder / "out"
    stored = json.loads((out / "horizons/6/adamw/seed0.json").read_text().split("\n")[1])
    assert stored["config"]["trainer"]["max_steps"] == 6
    assert b"val/accuracy at 6" in compare.table()
    before = compare.table()
    compare.command_line.main("report", "out")
    assert compare.table() == before
    assert "How long training has to be" in (out / "report.md").read_text()
    assert compare(**asked).count("done before") == 4


@pytest.mark.pictures
def test_report_is_rebuilt_from_what_is_stored(compare: Compare) -> None:
    compare(seeds=[0])
    out = compare.folder / "out"
    before = compare.table()
    (out / "report.html").unlink()
    (out / "metric.png").unlink()
    compare.command_line.main("report", str(out))
    assert (out / "report.html").exists()
    assert (out / "metric.png").read_bytes()[:4] == b"\x89PNG"
    (out / "runs" / "still" / "seed0.json").write_text("damaged")
    printed = compare.command_line.main("report", str(out))
    assert f"Damaged or gone: {out / 'runs' / 'still' / 'seed0.json'}" in printed
    assert compare.table() == before  # nothing is lost: the results still know the run
    compare(seeds=[0])
    assert compare.table() == before


def test_a_report_that_crashes_ends_with_status_2_and_loses_no_run(
    compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise ZeroDivisionError("no width")

    with monkeypatch.context() as broken:
        broken.setattr("lightning_qsgd.cli.compare_command.publish", crash)
        said = compare.refuse(seeds=[0])
    assert "The report could not be written (ZeroDivisionError('no width'))" in said
    assert "`lightning-qsgd report out`" in said
    assert not (compare.folder / "out" / "report.html").exists()
    assert len(load_results(compare.folder / "out").runs) == 2
    compare.command_line.main("report", "out")
    assert (compare.folder / "out" / "report.html").is_file()


def test_report_of_no_comparison_is_refused(compare: Compare) -> None:
    with pytest.raises(SystemExit) as caught:
        compare.command_line.main("report", str(compare.folder))
    assert caught.value.code == 2
    assert "there is no results.json" in compare.command_line._capsys.readouterr().err


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Ray, whose processes end with the test."""
    library = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    yield library
    library.shutdown()


def test_ray_gives_the_same_table_from_processes_as_fresh_as_here(
    compare: Compare, ray: Any
) -> None:
    compare("--executor", "ray", "--processes", "2", folder="ray", seeds=[0])  # each imports anew
    compare(seeds=[0])
    assert compare.table("ray") == compare.table()

    does = ["nothing", "raise", "die", "nothing"]
    jobs = [made_job(seed=seed, does=what) for seed, what in enumerate(does)]
    started: list[int] = []
    executor = RayExecutor(processes=1)
    ended = list(executor.run(quick_fit, jobs, lambda job: started.append(job.seed)))
    assert started == [attempt.job.seed for attempt in ended] == [0, 1, 2, 3]
    first, raised, died, last = ended
    assert "ArithmeticError: no luck with 1" in raised.traceback
    assert "last words" in died.traceback
    assert "killed by SIGKILL" in died.traceback
    assert first.run is not None
    assert last.run is not None
    assert first.run.checks["process"] != last.run.checks["process"]


def test_a_budget_of_seconds_ends_a_run(compare: Compare) -> None:
    compare(seeds=[0], budget={"seconds": 0.5})
    for run in load_results(compare.folder / "out").runs:
        assert 0.0 < run.timing.seconds < 10.0
        assert run.curves["val/accuracy"].steps[-1] == run.curves["train/loss"].steps[-1]


SEEDS = {
    "claim": 12,
    "demo": 10,
    "alignment_charlm": 20,
    "alignment_digits": 32,
    "alignment_muon_charlm": 20,
    "alignment_muon_digits": 32,
    "spectral_digits": 32,
    "spectral_charlm": 20,
    "spectral_charlm_large": 10,
}
"""Seeds of shipped comparisons, where they are not 16."""


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("compare/*.yaml")))
def test_every_shipped_comparison_fits_its_experiment(name: str, compare: Compare) -> None:
    folder = CONFIGS / "compare"
    named = ["--arm", "torch.optim.NAdam"] if name == "claim" else []  # it asks about anybody's
    parsed = _parser().parse_args(["--config", str(folder / f"{name}.yaml"), *named])
    _add_arms(parsed)
    ready = _parser().instantiate_classes(parsed)
    question = read_question(Plan(**_part(Plan, ready)), folder, ready["published"])
    assert question.configs.keys() == question.plan.arms.keys()
    assert len(question.plan.seed_block) == SEEDS.get(name, 16)
    assert question.design.is_comparison, question.design.words()
    for arm, config in question.configs.items():
        differs = config != question.configs[question.plan.baseline]
        assert differs or question.plan.arms[arm].hyperparameters != "of_baseline"


def test_lines_stand_beside_files_and_the_later_count(compare: Compare) -> None:
    (compare.folder / "strong.yaml").write_text("perturbation: {strength: 3.0}")
    overlay = ["strong.yaml", {"perturbation": {"strength": 0.5}}]
    arms = {"a": ArmPlan(kind="baseline"), "b": ArmPlan(overlay=overlay)}
    experiment = ["digits", {"data": {"init_args": {"batch_size": 7}}}]
    question = read_question(Plan(experiment, arms, Budget(max_steps=4)), compare.folder)
    assert question.configs["b"]["perturbation"]["strength"] == 0.5
    assert question.configs["a"]["data"]["init_args"]["batch_size"] == 7
    assert question.overlays["b"] == "perturbation: {strength: 3.0}\nperturbation:\n  strength: 0.5"


def test_an_experiment_names_files_from_its_own_folder(compare: Compare) -> None:
    own = compare.folder / "own"
    own.mkdir()
    digits = yaml.safe_load((CONFIGS / "experiments" / "digits.yaml").read_text())
    (own / "model.yaml").write_text(yaml.safe_dump(digits["model"]))
    (own / "experiment.yaml").write_text(yaml.safe_dump({**digits, "model": "model.yaml"}))
    arms = {"a": ArmPlan(kind="baseline"), "b": ArmPlan(overlay={"optimizer": "torch.optim.SGD"})}
    question = read_question(Plan("own/experiment.yaml", arms, Budget(max_steps=4)), compare.folder)
    assert question.configs["b"]["model"]["class_path"] == digits["model"]["class_path"]


def test_a_shaped_spectrum_is_compared_with_tuned_muon(compare: Compare) -> None:
    plan = yaml.safe_load((CONFIGS / "compare" / "spectral_digits.yaml").read_text())
    paths = [CONFIGS / "compare" / path for path in plan["experiment"]]
    plan["experiment"] = [str(path.resolve()) for path in paths]
    for arm in plan["arms"].values():
        given = arm.get("overlay", {})
        if not isinstance(given, dict):
            listed = [given] if isinstance(given, str) else given
            arm["overlay"] = [str((CONFIGS / "compare" / path).resolve()) for path in listed]
    plan["tuning"] |= {"trials": 1, "seeds": 1, "extensions": 0, "finalists": 1}
    plan["goal"]["target_seeds"] = 1
    compare(**{**plan, "seeds": 2, "budget": {"max_steps": 4}})
    results = load_results(compare.folder / "out")
    final = {(run.arm, run.seed): run.final["val/loss"] for run in results.runs}
    for seed in (0, 1):
        losses = {arm: final[arm, seed] for arm in plan["arms"]}
        assert losses["strength_0"] == losses["muon"]
        others = [losses[arm] for arm in losses if arm not in ("strength_0", "muon_same")]
        assert len(set(others)) == len(others)


def test_arms_with_more_parameters_are_pairs_and_said_to_have_them(compare: Compare) -> None:
    arms = {
        "adam": {"kind": "baseline"},
        "attention": {
            "overlay": [
                str(CONFIGS / "arms" / "quantum_attention.yaml"),
                str(CONFIGS / "arms" / "compiled_0.5.yaml"),
            ]
        },
        "control": {
            "overlay": str(CONFIGS / "arms" / "trigonometric_attention.yaml"),
            "kind": "control",
            "control_of": ["attention"],
        },
    }
    published = {"source": "a paper", "figures": {"attention": {"gain": "+2.3 points"}}}
    experiment = str(CONFIGS / "experiments" / "sequences.yaml")
    changes = {"experiment": experiment, "arms": arms, "seeds": 1, "budget": {"max_steps": 4}}
    compare(**changes, published=published)
    results = load_results(compare.folder / "out")
    assert [check.equal for check in check_pairing(results)] == [2, 2, 2, 2, 2]
    assert extra_parameters(results) == {"attention": 34, "control": 34}
    weights = {run.arm: run.checks["final_weights"] for run in results.runs}
    assert len(set(weights.values())) == 3
    report = (compare.folder / "out" / "report.md").read_text()
    assert "- `attention` trains 131,238 parameters, 34 more than `adam`." in report
    assert "| attention | gain over adam | +2.3 points |" in report


@pytest.mark.parametrize("module", ["Wider", "Renamed"])
def test_another_network_or_another_name_is_no_pair(module: str, compare: Compare) -> None:
    refused = compare.refuse(arms=with_model(module))
    assert re.search(r"bad and good differ in the initial weights \(\w+\.layers\.\d", refused)


def test_the_character_model_learns_from_what_comes_with_python(
    compare: Compare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ("--budget.max_steps=20", "--seeds=1", "--tuning.trials=1", "--tuning.seeds=1")
    config = ("--config", str(CONFIGS / "compare" / "charlm.yaml"))
    out = compare.folder / "out"
    few = ("--goal.target_seeds=1", "--folder", str(out))
    compare.command_line.main("compare", *config, *short, *few)
    results = load_results(out)
    assert not results.failures
    losses = [run.final["val/loss"] for run in results.runs]
    assert all(1.0 < loss < math.log(97) for loss in losses)  # better than a guess at random


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt key": ({"experimnt": "x"}, "Did you mean experiment?"),
    "misspelt budget": ({"budget": {"max_step": 1}}, "Did you mean budget.max_steps?"),
    "an arm like the baseline": (
        {"arms": {"a": {"kind": "baseline"}, "b": {}}},
        "'b' to differ from the baseline 'a'",
    ),
    "an arm with a budget of its own": (
        {"arms": {**PLAN["arms"], "odd": {"overlay": {"trainer": {"max_epochs": 3}}}}},
        "'odd' to leave `trainer.max_epochs` alone",
    ),
    "a module that is not found": (
        {"arms": {**PLAN["arms"], "odd": {"overlay": {"model": "nowhere.Model"}}}},
        "No module named 'nowhere'",
    ),
    "an experiment that is not UTF-8": ({"experiment": "latin.yaml"}, "line 2 is not UTF-8"),
    "two budgets": ({"budget": {"max_steps": 1, "max_epochs": 1}}, "exactly one of"),
    "no experiment": ({"experiment": "missing.yaml"}, "there is no file missing.yaml"),
    "misspelt overlay": (
        {"arms": {**PLAN["arms"], "odd": {"overlay": {"optimzer": 1}}}},
        "arm `odd`: `fit` does not accept option 'optimzer'. Did you mean optimizer",
    ),
    "misspelt overlay beside others": (
        {"arms": {**PLAN["arms"], "odd": {"overlay": ["arms/nudge", {"optimzer": 1}]}}},
        "arm `odd`: `fit` does not accept option 'optimzer'. Did you mean optimizer",
    ),
    "missing overlay": (
        {"arms": {**PLAN["arms"], "odd": {"overlay": "odd.yaml"}}},
        "Cannot read the overlay of 'odd': there is no file odd.yaml",
    ),
    "wrong value in an arm": (
        {"arms": {**PLAN["arms"], "odd": {"overlay": {"perturbation": {"strength": -1}}}}},
        "Cannot read the arm 'odd'.*got -1",
    ),
    "no baseline": ({"arms": {"a": {}, "b": {}}}, "exactly one of `kind: baseline`"),
    "unknown kind": ({"arms": {"a": {"kind": "basline"}, "b": {}}}, "basline"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_plan_is_refused_before_anything_runs(
    changes: dict[str, Any], message: str, compare: Compare
) -> None:
    (compare.folder / "latin.yaml").write_bytes("model: 1\n# caf\u00e9".encode("latin-1"))
    printed = compare.refuse(**changes)
    assert re.search(message, printed), printed[-800:]
    assert "Traceback" not in printed
    assert not (compare.folder / "out").exists()


def test_help_names_the_commands(compare: Compare, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--help"], "compare arms x seeds of an experiment, with a verdict"),
        (["compare", "--help"], "--dry_run"),
        (["report", "--help"], "Folder of the comparison"),
    ):
        with pytest.raises(SystemExit) as caught:
            compare.command_line.main(*arguments)
        assert caught.value.code == 0
        assert words in " ".join(capsys.readouterr().out.split())

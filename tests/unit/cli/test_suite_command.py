"""A suite: what it hands to `compare`, what it writes, and how it ends."""

import csv
import errno
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import yaml

from lightning_qsgd.cli.suite_command import suite_command, suite_in
from lightning_qsgd.compare import load_results, save_results
from lightning_qsgd.compare.report import suite_page
from lightning_qsgd.compare.running.folder_lock import LOCK, locked
from lightning_qsgd.compare.statistics import Design, Method
from lightning_qsgd.compare.verdicts.suite import analyse_suite
from tests.comparison_cases import made_results

# `SuggestingParser` is LightningCLI's parser, with its own calls of jsonargparse's older names.
pytestmark = pytest.mark.filterwarnings(
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"
)

ARMS = {"adamw": {"kind": "baseline"}, "arm": {"overlay": "arm.yaml"}, "cnn": {"overlay": {}}}
TASKS = {
    "one": {"experiment": "one.yaml", "budget": {"max_steps": 9}, "skip": ["cnn"]},
    "two": {"experiment": "two.yaml", "budget": {"max_steps": 5}, "skip": ["cnn"]},
}


UNTUNED = RuntimeError("Cannot tune 'arm': [9] trials failed.\n  Traceback\nMend the arm.")


class Compare:
    """Stands for the command: notes what it was asked, and stores made-up results."""

    def __init__(self, failing=(), raising=(), error=UNTUNED):
        self.failing, self.raising, self.plans, self.folders = failing, raising, [], []
        self.error = error
        self.arguments = []

    def __call__(self, arguments):
        self.arguments.append(arguments)
        named = dict(zip(arguments[::2], arguments[1::2], strict=False))
        self.plans.append(yaml.safe_load(Path(named["--config"]).read_text()))
        folder = Path(named["--folder"])
        self.folders.append(folder)
        if "--dry_run" in arguments or self.plans[-1].get("dry_run"):
            return
        if folder.name in self.raising:
            raise self.error
        draw = np.random.default_rng(len(self.plans))
        base = draw.normal(size=12)
        values = {"adamw": base.tolist(), "arm": (base + 2 + 0.1 * draw.normal(size=12)).tolist()}
        save_results(made_results(values), folder)
        if folder.name in self.failing:
            sys.exit(1)


@pytest.fixture
def suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(suite_page, "find_spec", lambda name: None)  # drawing takes seconds
    (tmp_path / "arm.yaml").write_text("optimizer: {}")
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump({"tasks": TASKS, "arms": ARMS, "seeds": 12}))
    return file


def test_a_suite_is_known_by_its_tasks(suite):
    assert suite_in(["--config", str(suite)]) == suite
    assert suite_in([f"--config={suite}"]) == suite
    assert suite_in(["--config", str(suite.with_name("arm.yaml"))]) is None


def test_each_task_is_a_plan_of_its_arms(suite, tmp_path):
    compare = Compare()
    suite_command(suite, ["--config", str(suite), "--folder", "out"], compare)
    assert compare.folders == [Path("out/one"), Path("out/two")]
    first = compare.plans[0]
    assert first["budget"] == {"max_steps": 9}
    assert list(first["arms"]) == ["adamw", "arm"]
    assert first["arms"]["arm"]["overlay"] == str(tmp_path / "arm.yaml")
    assert yaml.safe_load((tmp_path / "out/one/plan.yaml").read_text()) == first


@pytest.mark.parametrize(
    ("more", "share"), [((), 0.05 / 3), (("--alpha", "0.3"), 0.1), (("--alpha=0.3",), 0.1)]
)
def test_each_task_is_judged_at_its_share_of_the_level(suite, more, share):
    compare = Compare()
    suite_command(suite, ["--config", str(suite), "--folder", "out", *more], compare)
    assert [plan["alpha"] for plan in compare.plans] == [pytest.approx(share)] * 2


@pytest.mark.parametrize("name", ["small", "league"])
def test_every_task_of_a_shipped_suite_can_have_a_verdict(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compare = Compare()
    suite = Path(__file__).parents[3] / "configs/suites" / f"{name}.yaml"
    suite_command(suite, ["--config", str(suite), "--folder", "out", "--dry_run"], compare)
    for plan in compare.plans:
        on_trial = [arm for arm in plan["arms"].values() if arm.get("kind", "arm") == "arm"]
        design = Design(plan["seeds"], len(on_trial), Method(plan["alpha"]))
        assert design.is_comparison, design.words()


def test_a_level_that_is_none_is_refused_before_a_task_starts(suite, capsys):
    compare = Compare()
    with pytest.raises(SystemExit) as caught:
        suite_command(suite, ["--config", str(suite), "--alpha", "2"], compare)
    assert caught.value.code == 2
    assert "Expected 0 < alpha < power < 1, got alpha 2.0" in capsys.readouterr().err
    assert not compare.plans


@pytest.mark.parametrize("more", [["--config", "more.yaml"], ["--config=more.yaml"]])
def test_a_second_config_is_refused_before_a_task_starts(suite, more, capsys):
    compare = Compare()
    with pytest.raises(SystemExit) as end:
        suite_command(suite, ["--config", str(suite), *more], compare)
    assert end.value.code == 2
    assert "`--config` twice" in " ".join(capsys.readouterr().err.split())
    assert compare.plans == []


def test_a_dry_run_creates_no_folders(suite, tmp_path):
    before = set(tmp_path.rglob("*"))
    compare = Compare()
    suite_command(suite, ["--config", str(suite), "--dry_run"], compare)
    assert [folder.name for folder in compare.folders] == ["one", "two"]
    assert set(tmp_path.rglob("*")) == before


def test_failing_runs_stop_no_other_task_and_give_status_1(suite, tmp_path):
    compare = Compare(failing=["one"])
    with pytest.raises(SystemExit) as caught:
        suite_command(suite, ["--config", str(suite), "--folder", "out"], compare)
    assert caught.value.code == 1
    assert len(compare.plans) == 2
    assert (tmp_path / "out/suite.html").is_file()


def test_a_disk_that_is_full_in_one_task_stops_no_other(suite, tmp_path, capsys):
    full = OSError(errno.ENOSPC, "No space left on device", "out/one/runs/a.json")
    compare = Compare(raising=["one"], error=full)
    with pytest.raises(SystemExit) as caught:
        suite_command(suite, ["--config", str(suite), "--folder", "out"], compare)
    assert caught.value.code == 1
    assert [folder.name for folder in compare.folders] == ["one", "two"]
    printed = capsys.readouterr().out
    assert "one cannot answer: [Errno 28] No space left on device: 'out/one/runs/a.json'" in printed


def test_a_plan_that_finds_no_room_leaves_the_one_that_is_there(suite, tmp_path, monkeypatch):
    suite_command(suite, ["--config", str(suite), "--folder", "out"], Compare())
    before = (tmp_path / "out/one/plan.yaml").read_bytes()

    def full(self, *args, **kwargs):
        self.open("w").close()  # as a full disk does it
        raise OSError(errno.ENOSPC, "No space left on device")

    def unmoved(source, place):
        if Path(place).parent.name == "one" and "out" in Path(place).parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.rename(source, place)

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(os, "replace", unmoved)
    with pytest.raises(SystemExit) as caught:
        suite_command(suite, ["--config", str(suite), "--folder", "out"], Compare())
    assert caught.value.code == 1
    assert (tmp_path / "out/one/plan.yaml").read_bytes() == before


def test_a_task_that_cannot_be_carried_out_stops_no_other_and_the_page_says_so(
    suite, tmp_path, capsys
):
    compare = Compare(raising=["one"])
    with pytest.raises(SystemExit) as caught:
        suite_command(suite, ["--config", str(suite), "--folder", "out"], compare)
    assert caught.value.code == 1
    assert [folder.name for folder in compare.folders] == ["one", "two"]
    assert "one cannot answer: Cannot tune 'arm': [9] trials failed." in capsys.readouterr().out
    page = (tmp_path / "out/suite.md").read_text()
    assert "**`one` could not answer.**" in page
    assert "Cannot tune 'arm': [9] trials failed. Mend the arm." in page
    with (tmp_path / "out/suite.csv").open() as file:
        verdicts = {(row["arm"], row["task"]): row["verdict"] for row in csv.DictReader(file)}
    assert verdicts["arm", "one"] == "no claim possible"
    assert verdicts["arm", "(all)"] == "better on some tasks"


def test_a_suite_in_which_no_task_can_be_carried_out_writes_no_page(suite, tmp_path):
    with pytest.raises(SystemExit) as caught:
        suite_command(
            suite, ["--config", str(suite), "--folder", "out"], Compare(raising=["one", "two"])
        )
    assert caught.value.code == 1
    assert not (tmp_path / "out/suite.html").exists()


def test_a_wrong_plan_of_a_task_ends_the_suite_with_its_status(suite):
    def refuse(arguments):
        sys.exit(2)

    with pytest.raises(SystemExit) as caught:
        suite_command(suite, ["--config", str(suite), "--folder", "out"], refuse)
    assert caught.value.code == 2


def test_the_table_holds_what_the_page_says(suite, tmp_path):
    suite_command(suite, ["--config", str(suite), "--folder", "out"], Compare())
    with (tmp_path / "out/suite.csv").open() as file:
        rows = {(row["arm"], row["task"]): row for row in csv.DictReader(file)}
    analysis = analyse_suite({name: load_results(tmp_path / "out" / name) for name in TASKS})
    assert rows.keys() == {("arm", "one"), ("arm", "two"), ("arm", "(all)")}
    for task in TASKS:
        (one,) = analysis.tasks[task].challenges
        row = rows["arm", task]
        assert (row["verdict"], row["pairs"]) == ("better", "12")
        assert float(row["gain"]) == one.gain.mean
        assert (float(row["low"]), float(row["high"])) == (one.interval.low, one.interval.high)
    (arm,) = analysis.arms
    row = rows["arm", "(all)"]
    assert row["verdict"] == arm.outcome == "better over the suite"
    assert (float(row["gain"]), float(row["low"])) == (arm.gain, arm.interval.low)


CONTROL = {"kind": "control", "control_of": ["cnn"], "overlay": {}}
SAME = {**CONTROL, "hyperparameters": "of_arm"}


def rewritten(suite, **changes):
    plan = yaml.safe_load(suite.read_text())
    suite.write_text(yaml.safe_dump({**plan, **changes}, sort_keys=False))
    return suite


def called(suite, *more, **keywords):
    compare = Compare()
    suite_command(suite, ["--config", str(suite), "--folder", "out", *more], compare, **keywords)
    return compare


def refused(suite, capsys, *more):
    compare = Compare()
    with pytest.raises(SystemExit) as end:
        suite_command(suite, ["--config", str(suite), *more], compare)
    assert end.value.code == 2
    assert compare.plans == []
    return " ".join(capsys.readouterr().err.split())


def test_a_control_of_a_skipped_arm_is_no_control_of_it_and_with_its_values_goes_too(suite):
    both = {**CONTROL, "control_of": ["cnn", "arm"]}
    arms = {**ARMS, "cnn": {"overlay": {}, "hyperparameters": "tuned"}, "ctl": both, "same": SAME}
    arms["adamw"] = {"kind": "baseline", "hyperparameters": "tuned"}
    tasks = {**TASKS, "two": {**TASKS["two"], "skip": []}}
    compare = called(rewritten(suite, arms=arms, tasks=tasks, tuning={}))
    first, second = (plan["arms"] for plan in compare.plans)
    assert list(first) == ["adamw", "arm", "ctl"]
    assert first["ctl"]["control_of"] == ["arm"]
    assert second["ctl"]["control_of"] == ["cnn", "arm"]
    assert list(second) == ["adamw", "arm", "cnn", "ctl", "same"]


@pytest.mark.parametrize("more", [["--only", "cnn", "arm"], ["--skip", "cnn"], ["--skip=cnn"]])
def test_a_task_that_skips_an_arm_already_is_asked_for_the_others(suite, more):
    class Noting(Compare):
        def __call__(self, arguments):
            self.asked = [*getattr(self, "asked", []), arguments]
            super().__call__(arguments)

    tasks = {**TASKS, "two": {**TASKS["two"], "skip": []}}
    compare = Noting()
    given = ["--config", str(rewritten(suite, tasks=tasks)), "--folder", "out", *more]
    suite_command(suite, [*given, "--seeds", "12"], compare)
    option = more[0].partition("=")[0]
    first, second = compare.asked
    assert ("cnn" in first, "cnn" in second) == (False, True)
    assert (option in first) == ("arm" in more)
    assert first[first.index("--seeds") + 1] == second[second.index("--seeds") + 1] == "12"


def test_a_task_that_skips_all_arms_that_are_asked_for_is_left_out_and_named(suite, capsys):
    tasks = {**TASKS, "two": {**TASKS["two"], "skip": []}}
    compare = called(rewritten(suite, tasks=tasks), "--only", "cnn")
    assert [folder.name for folder in compare.folders] == ["two"]
    assert "one is left out: none of its arms is asked for." in capsys.readouterr().out


@pytest.mark.parametrize("words", [("--only", "adamw", "cnn"), ("--skip", "arm")])
def test_a_task_of_which_the_baseline_alone_is_asked_for_is_left_out(suite, words):
    tasks = {**TASKS, "two": {**TASKS["two"], "skip": []}}
    compare = called(rewritten(suite, tasks=tasks), *words)
    assert [folder.name for folder in compare.folders] == ["two"]


@pytest.mark.parametrize("option", ["--only", "--skip"])
def test_a_choice_that_names_nothing_is_refused(suite, option, capsys):
    assert f"Expected names of arms behind `{option}`, got none." in refused(suite, capsys, option)


def test_what_the_suite_itself_skips_is_skipped_by_all_tasks(suite):
    tasks = {name: {**task, "skip": []} for name, task in TASKS.items()}
    compare = called(rewritten(suite, tasks=tasks, skip=["cnn"]))
    assert [plan.get("skip") for plan in compare.plans] == [None, None]
    assert [words[-2:] for words in compare.arguments] == [["--skip", "cnn"]] * 2


def test_an_arm_of_the_command_line_may_be_asked_for(suite):
    compare = called(suite, "--arm", "my_package.MyOptimizer", "--only", "myoptimizer")
    assert [folder.name for folder in compare.folders] == ["one", "two"]


def test_all_tasks_are_checked_before_the_first_run(suite):
    def refuse_the_second(arguments):
        plan = yaml.safe_load(Path(arguments[1]).read_text())
        if plan["budget"] == {"max_steps": 5}:
            sys.exit(2)

    compare = Compare()
    with pytest.raises(SystemExit) as end:
        suite_command(suite, ["--config", str(suite)], compare, refuse_the_second)
    assert end.value.code == 2
    assert compare.plans == []


def test_a_task_whose_baseline_fails_at_once_is_named_before_the_first_run(suite):
    def fail_at_the_second(arguments):
        plan = yaml.safe_load(Path(arguments[1]).read_text())
        if plan["budget"] == {"max_steps": 5}:
            raise RuntimeError("The arm 'adamw' fails in its first steps. There is no data.")

    compare = Compare()
    with pytest.raises(RuntimeError, match=r"There is no data\. This is what the task 'two' of "):
        suite_command(suite, ["--config", str(suite)], compare, fail_at_the_second)
    assert compare.plans == []


@pytest.mark.parametrize("option", ["--only", "--skip"])
def test_a_name_that_no_arm_has_is_refused_before_a_task_starts(suite, option, capsys):
    said = refused(suite, capsys, option, "cmn")
    assert f"Expected `{option}` to name arms of the suite, got 'cmn'" in said
    assert "Did you mean 'cnn'?" in said


def test_what_a_task_skips_must_be_an_arm(suite, capsys):
    tasks = {**TASKS, "two": {**TASKS["two"], "skip": ["cmn"]}}
    said = refused(rewritten(suite, tasks=tasks), capsys)
    assert "Expected `skip` of the task 'two' to name arms of the suite, got 'cmn'" in said
    assert "Did you mean 'cnn'?" in said


def test_a_suite_without_a_task_is_refused(suite, capsys):
    said = refused(rewritten(suite, tasks={}), capsys)
    assert "Expected `tasks` to hold a task or more, got none" in said


def test_an_arm_with_nothing_behind_it_is_refused_by_name(suite, capsys):
    said = refused(rewritten(suite, arms={**ARMS, "cnn": None}), capsys)
    assert "Expected the arm 'cnn' of the suite to have lines of its own, got None" in said
    said = refused(rewritten(suite, arms=["adamw", "cnn"]), capsys)
    assert "Expected `arms` of the suite to name arms, got ['adamw', 'cnn']" in said


@pytest.mark.parametrize(("arm", "shown"), [(True, "True"), (None, "None"), (1, "1")])
def test_an_arm_that_yaml_takes_for_something_else_is_to_be_put_in_quotes(
    suite, capsys, arm, shown
):
    said = refused(rewritten(suite, arms={**ARMS, arm: {"overlay": {}}}), capsys)
    assert f"got {shown}: no text. Put it in quotes" in said


def test_a_suite_that_says_something_twice_is_left_to_the_parser_that_refuses_it(suite):
    suite.write_text(suite.read_text() + "seeds: 4\n")
    assert suite_in(["--config", str(suite)]) is None


def test_names_of_tasks_cannot_style_the_terminal(suite, capsys):
    tasks = {"one [/x]": TASKS["one"], "[red]two": TASKS["two"]}
    called(rewritten(suite, tasks=tasks), "--dry_run")
    printed = capsys.readouterr().out
    assert "one [/x]" in printed
    assert "[red]two" in printed


def test_the_folder_that_a_suite_names_holds_its_tasks(suite, tmp_path):
    compare = Compare()
    suite_command(rewritten(suite, folder="mine"), ["--config", str(suite)], compare)
    assert compare.folders == [Path("mine/one"), Path("mine/two")]
    assert (tmp_path / "mine" / "suite.html").is_file()
    assert all("folder" not in plan for plan in compare.plans)  # each is continued by itself
    assert called(suite).folders == [Path("out/one"), Path("out/two")]


def test_a_suite_may_ask_for_a_dry_run_itself(suite, tmp_path):
    compare = Compare()
    suite_command(rewritten(suite, dry_run=True), ["--config", str(suite)], compare)
    assert [plan["dry_run"] for plan in compare.plans] == [True, True]
    assert not (tmp_path / "runs").exists()


def test_an_arm_that_a_suite_adds_may_be_asked_for(suite):
    compare = called(rewritten(suite, arm=["my_package.MyOptimizer"]), "--only", "myoptimizer")
    assert [folder.name for folder in compare.folders] == ["one", "two"]


@pytest.mark.parametrize("key", ["experiment", "budget"])
def test_what_each_task_has_is_refused_beside_them(suite, key, capsys):
    said = refused(rewritten(suite, **{key: "this"}), capsys)
    assert f"Expected no `{key}` beside `tasks`, got 'this': a task has its own" in said


def test_published_figures_of_an_arm_that_a_task_skips_go_with_it(suite):
    tasks = {**TASKS, "two": {**TASKS["two"], "skip": []}}
    figures = {"cnn": {"gain": 1}, "unknown": {"gain": 2}}
    published = {"source": "a paper", "figures": figures}
    first, second = called(rewritten(suite, tasks=tasks, published=published)).plans
    assert list(first["published"]["figures"]) == ["unknown"]  # `compare` refuses it
    assert list(second["published"]["figures"]) == ["cnn", "unknown"]


def test_a_goal_of_the_suite_is_that_of_each_task_without_one(suite):
    own = {"metric": "val/accuracy"}
    tasks = {**TASKS, "two": {**TASKS["two"], "goal": own}}
    compare = called(rewritten(suite, tasks=tasks, goal={"metric": "val/loss"}))
    assert [plan["goal"] for plan in compare.plans] == [{"metric": "val/loss"}, own]


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_suite_in_use_is_refused_before_anything_is_touched(suite, tmp_path):
    called(suite)
    with locked(tmp_path / "out"):
        before, compare = contents(tmp_path / "out"), Compare()
        with pytest.raises(RuntimeError, match="The folder out is in use by another comparison"):
            suite_command(
                rewritten(suite, seeds=9), ["--config", str(suite), "--folder", "out"], compare
            )
        assert contents(tmp_path / "out") == before
    assert compare.plans == []


def test_a_suite_holds_its_folder_while_it_checks_and_compares(suite, tmp_path):
    called(suite)

    def in_use(arguments):
        with pytest.raises(RuntimeError, match="in use"), locked(tmp_path / "out"):
            pass
        compare(arguments)

    compare = Compare()
    given = ["--config", str(suite), "--folder", "out"]
    suite_command(suite, given, in_use, in_use)
    assert len(compare.plans) == 4
    with locked(tmp_path / "out"):
        """It is free again."""


def test_a_task_in_use_is_named_before_the_plan_of_any_is_replaced(suite, tmp_path):
    called(suite)
    with locked(tmp_path / "out/two"):
        before, compare = contents(tmp_path / "out"), Compare()
        with pytest.raises(RuntimeError, match=r"out/two is in use .* the task 'two' of "):
            suite_command(
                rewritten(suite, seeds=9), ["--config", str(suite), "--folder", "out"], compare
            )
        (tmp_path / "out" / LOCK).unlink()
        assert contents(tmp_path / "out").keys() <= before.keys()
        assert all(file.read_bytes() == was for file, was in before.items() if file.name != LOCK)
    assert compare.plans == []


def test_a_task_that_somebody_starts_meanwhile_keeps_its_plan(suite, tmp_path):
    called(suite)
    before = (tmp_path / "out/two/plan.yaml").read_bytes()
    compare, taken = Compare(), ExitStack()

    def started_meanwhile(arguments):
        taken.enter_context(locked(tmp_path / "out/two"))
        compare(arguments)

    given = ["--config", str(rewritten(suite, seeds=9)), "--folder", "out"]
    with taken, pytest.raises(SystemExit) as caught:
        suite_command(suite, given, started_meanwhile)
    assert caught.value.code == 1
    assert [folder.name for folder in compare.folders] == ["one"]
    assert (tmp_path / "out/two/plan.yaml").read_bytes() == before


def test_a_plan_that_is_refused_later_on_is_not_left_in_place_of_the_former(suite, tmp_path):
    called(suite)
    before = (tmp_path / "out/one/plan.yaml").read_bytes()

    def refuse(arguments):
        sys.exit(2)

    with pytest.raises(SystemExit):
        suite_command(
            rewritten(suite, seeds=9), ["--config", str(suite), "--folder", "out"], refuse
        )
    assert (tmp_path / "out/one/plan.yaml").read_bytes() == before


def test_a_suite_that_is_refused_makes_no_folder(suite, tmp_path):
    def refuse(arguments):
        sys.exit(2)

    with pytest.raises(SystemExit):
        suite_command(suite, ["--config", str(suite), "--folder", "out"], Compare(), refuse)
    assert not (tmp_path / "out").exists()


def test_a_suite_that_drops_a_task_with_results_is_refused_before_a_task_starts(
    suite, tmp_path, capsys
):
    called(suite)
    before = contents(tmp_path / "out")
    shorter = rewritten(suite, tasks={"one": TASKS["one"]})
    words = refused(shorter, capsys, "--folder", "out")
    assert "holds another suite: it has results of the tasks ['two']" in words
    assert "`tasks` names ['one']" in words
    assert "--changed rerun" in words
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("asked", [["--changed", "rerun"], ["--changed=rerun"]])
def test_a_dropped_task_is_named_where_the_page_may_be_replaced(suite, asked, tmp_path, capsys):
    called(suite)
    shorter = rewritten(suite, tasks={"one": TASKS["one"]})
    called(shorter, *asked)
    said = "Left out, with results in this folder:"
    assert f"{said} two." in capsys.readouterr().out
    assert f"**{said}** `two`." in (tmp_path / "out/suite.md").read_text()


def test_a_task_that_is_not_asked_for_is_named_if_it_has_results(suite, tmp_path, capsys):
    two = {**TASKS["two"], "skip": ["arm"]}
    whole = rewritten(suite, tasks={"one": TASKS["one"], "two": two})
    called(whole, "--only", "arm")
    assert "with results" not in (tmp_path / "out/suite.md").read_text()
    called(whole)
    assert "with results" not in (tmp_path / "out/suite.md").read_text()
    called(whole, "--only", "arm")
    assert "with results in this folder:** `two`." in (tmp_path / "out/suite.md").read_text()


def test_a_suite_that_gets_a_task_more_and_another_comparison_beside_it_are_no_reason_to_refuse(
    suite, tmp_path
):
    called(rewritten(suite, tasks={"one": TASKS["one"]}))
    (tmp_path / "out/mine").mkdir()
    save_results(made_results({"adamw": [1.0, 2.0], "arm": [1.0, 3.0]}), tmp_path / "out/mine")
    called(rewritten(suite, tasks=TASKS))
    assert "with results" not in (tmp_path / "out/suite.md").read_text()


def test_a_dry_run_refuses_no_folder(suite):
    called(suite)
    called(rewritten(suite, tasks={"one": TASKS["one"]}), "--dry_run")

"""A folder that holds a comparison: what may be added to it, and what is refused before a run."""

from contextlib import suppress
from dataclasses import replace
from io import StringIO
from math import nan

import pytest
from rich.console import Console

from lightning_qsgd.compare import load_results
from lightning_qsgd.compare.executors import attempt
from lightning_qsgd.compare.executors.executor import Executor
from lightning_qsgd.compare.planning import ArmPlan, Budget, Plan, Search
from lightning_qsgd.compare.planning.question import Question
from lightning_qsgd.compare.planning.search import Range
from lightning_qsgd.compare.report.answer import answer
from lightning_qsgd.compare.report.document import to_markdown
from lightning_qsgd.compare.results.results import Provenance
from lightning_qsgd.compare.run_comparison import (
    refuse_changed_runs,
    refuse_other_arms,
    run_comparison,
)
from lightning_qsgd.compare.running import Running
from lightning_qsgd.compare.running.run_jobs import Workshop
from lightning_qsgd.compare.running.stored_run import RunStore
from lightning_qsgd.compare.verdicts.analysis import analyse
from lightning_qsgd.compare.verdicts.verdict import verdicts
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import RecordedRun
from tests.compare_jobs import METRIC

QUIET = Console(quiet=True)
ARGUMENTS = {"lr": 0.1, "weight_decay": 0.01}
TUNED = ArmPlan(kind="baseline", hyperparameters="tuned")


class Counting(Executor):
    """Makes runs here, and stops behind so many of them."""

    def __init__(self, most=1000):
        self.made, self.most = [], most

    @property
    def at_a_time(self):
        return 1

    def run(self, fit, jobs, started):
        for job in jobs:
            if len(self.made) == self.most:
                raise KeyboardInterrupt
            self.made.append(job.name)
            yield attempt(fit, job)


def nearest(job):
    """A run that ends the better, the nearer its learning rate is to a hundredth."""
    lr = job.config["optimizer"]["init_args"]["lr"]
    value = nan if job.config["steps"] == 0 else -abs(lr - 0.01) + job.seed * 1e-9
    checks = {"initial_weights": "w", "data_order": "d", "random_state": "r"}
    return RecordedRun(job.arm, job.seed, {METRIC: value}, {}, checks)


def asked(names=("adamw", "sine"), steps=9, tuning=None, steps_of=None, **arms):
    plans = {names[0]: ArmPlan(kind="baseline"), **dict.fromkeys(names[1:], ArmPlan()), **arms}
    plan = Plan("made.yaml", plans, Budget(max_steps=9), 3, tuning=tuning)
    configs = {
        name: {"steps": (steps_of or {}).get(name, steps), "optimizer": {"init_args": ARGUMENTS}}
        for name in plans
    }
    return Question("made", plan, Goal(metric=METRIC), configs, dict.fromkeys(plans, ""))


def workshop(folder, most=1000, **running):
    return Workshop(nearest, Counting(most), RunStore(folder), Running(**running))


def carried_out(question, folder, most=1000, console=QUIET):
    return run_comparison(question, workshop(folder, most), Provenance(), console)


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_results_of_other_arms_are_not_replaced_unless_asked(tmp_path):
    carried_out(asked(), tmp_path)
    other = asked(("base", "lion"))
    message = r"another comparison: .* \['adamw', 'sine'\], and the plan has \['base', 'lion'\]"
    with pytest.raises(ValueError, match=f"{message}.*another `--folder`, or `--changed rerun`"):
        refuse_other_arms(other, workshop(tmp_path))
    refuse_other_arms(other, workshop(tmp_path, changed="rerun"))


def test_results_that_share_an_arm_are_gone_on_with(tmp_path):
    refuse_other_arms(asked(), workshop(tmp_path))
    carried_out(asked(), tmp_path)
    for names in (("adamw", "sine"), ("adamw", "lion"), ("lion", "sine")):
        refuse_other_arms(asked(names), workshop(tmp_path))
    (tmp_path / "results.json").write_text("damaged")
    refuse_other_arms(asked(("base", "lion")), workshop(tmp_path))


def questions_of(folder):
    analysis = analyse(load_results(folder))
    blocks = answer(load_results(folder), analysis, verdicts(analysis))
    return analysis.design.questions, to_markdown(blocks)


def test_arms_that_have_runs_and_leave_the_plan_stay_questions_and_are_named(tmp_path):
    carried_out(asked(("adamw", "sine", "lion"), noise=ArmPlan(kind="control")), tmp_path)
    assert "No longer on trial" not in questions_of(tmp_path)[1]
    for names, left_out in [
        (("adamw", "sine"), ("lion",)),  # a control is no question
        (("adamw", "sine"), ("lion",)),  # and they are not forgotten
        (("adamw", "lion", "soap"), ("sine",)),  # one is back
        (("adamw", "sine", "lion", "soap"), ()),
    ]:
        console = Console(record=True, width=1000, file=StringIO())
        carried_out(asked(names), tmp_path, console=console)
        assert load_results(tmp_path).comparison.left_out == left_out
        count, page = questions_of(tmp_path)
        assert count == len(names) - 1 + len(left_out)
        said = f"NO LONGER ON TRIAL {left_out[0] if left_out else ''}"
        assert (said in console.export_text()) == bool(left_out)
        said = f"**No longer on trial:** `{left_out[0] if left_out else ''}`"
        assert (said in page) == bool(left_out)


def test_an_arm_that_becomes_a_reference_stays_a_question(tmp_path):
    carried_out(asked(("adamw", "sine", "lion")), tmp_path)
    p_values = [one.p_holm for one in analyse(load_results(tmp_path)).challenges]
    carried_out(asked(lion=ArmPlan(kind="reference")), tmp_path)
    assert load_results(tmp_path).comparison.left_out == ("lion",)
    assert questions_of(tmp_path)[0] == 2
    assert [one.p_holm for one in analyse(load_results(tmp_path)).challenges] == p_values


def test_only_a_comparison_that_is_replaced_is_forgotten(tmp_path):
    with suppress(KeyboardInterrupt):
        carried_out(asked(("adamw", "sine", "lion")), tmp_path, most=1)
    carried_out(asked(), tmp_path)
    assert load_results(tmp_path).comparison.left_out == ()  # lion had no run
    carried_out(asked(("adamw", "sine", "lion")), tmp_path)
    for steps, left_out in ((9, ("lion",)), (8, ())):
        again = workshop(tmp_path, changed="rerun")
        run_comparison(asked(steps=steps), again, Provenance(), QUIET)
        assert load_results(tmp_path).comparison.left_out == left_out
        assert bool(again.executor.made) == (steps == 8)


@pytest.mark.parametrize("changed", ["refuse", "rerun"])
def test_seeds_and_controls_that_have_runs_cannot_be_taken_away(tmp_path, changed):
    whole = asked(matched=ArmPlan(kind="control", control_of=["sine"]))
    carried_out(whole, tmp_path)
    before = contents(tmp_path)
    fewer = replace(whole, plan=replace(whole.plan, seeds=[0, 2]))
    bare = replace(whole, plan=whole.plan.with_arms(skip=["matched"]))
    bare = replace(bare, configs={name: whole.configs[name] for name in bare.plan.arms})
    for question, message in (
        (fewer, r"runs of the seeds \[1\], and `seeds` are \[0, 2\].*Keep them, or.*`--folder`"),
        (bare, r"runs of 'matched', a control of 'sine'.*Keep it, or choose another `--folder`"),
    ):
        with pytest.raises(ValueError, match=message):
            run_comparison(question, workshop(tmp_path, changed=changed), Provenance(), QUIET)
        if changed == "refuse":  # found before anything is tuned
            with pytest.raises(ValueError, match=message):
                refuse_other_arms(question, workshop(tmp_path))
    assert contents(tmp_path) == before
    gone = whole.plan.with_arms(skip=["sine"])  # the control goes on without its arm
    configs = {name: whole.configs[name] for name in gone.arms}
    carried_out(replace(whole, plan=gone, configs=configs), tmp_path)


def test_a_changed_plan_is_found_without_a_run_and_without_a_file(tmp_path):
    carried_out(asked(), tmp_path)
    before, here = contents(tmp_path), workshop(tmp_path)
    refuse_changed_runs(asked(), here, QUIET)
    refuse_changed_runs(asked(("adamw", "lion")), here, QUIET)
    with pytest.raises(ValueError, match=r"6 stored runs .* steps: 9, now 8.*`--changed rerun`"):
        refuse_changed_runs(asked(steps=8), here, QUIET)
    refuse_changed_runs(asked(steps=8), workshop(tmp_path, changed="rerun"), QUIET)
    assert contents(tmp_path) == before
    assert here.executor.made == []


def search(highest=0.1):
    space = {"lr": Range(1e-3, highest), "weight_decay": Range(1e-3, 0.1)}
    return Search(space, trials=4, seeds=1)


SEARCH = search()


@pytest.mark.parametrize(
    "changes",
    [{"steps": 8}, {"tuning": search(highest=0.3)}],
    ids=["budget", "range"],
)
def test_a_changed_plan_is_found_behind_a_search(changes, tmp_path):
    plan = {"adamw": TUNED, "tuning": SEARCH}
    carried_out(asked(**plan), tmp_path)
    before, here = contents(tmp_path), workshop(tmp_path)
    refuse_changed_runs(asked(**plan), here, QUIET)
    with pytest.raises(ValueError, match="stored runs were made with another configuration"):
        refuse_changed_runs(asked(**{**plan, **changes}), here, QUIET)
    assert contents(tmp_path) == before
    assert here.executor.made == []


def test_a_changed_run_behind_a_search_that_is_stored_is_found(tmp_path):
    sine = ArmPlan(hyperparameters="of_baseline")
    plan = {"adamw": TUNED, "sine": sine, "tuning": SEARCH}
    carried_out(asked(**plan), tmp_path)
    with pytest.raises(ValueError, match=r"3 stored runs .* runs/sine/seed0 with steps: 9, now 8"):
        refuse_changed_runs(asked(**plan, steps_of={"sine": 8}), workshop(tmp_path), QUIET)


def test_a_changed_arm_with_given_values_is_found_before_the_search_has_ended(tmp_path):
    carried_out(asked(), tmp_path)
    plan = {"names": ("base", "sine"), "base": TUNED, "tuning": SEARCH}
    with pytest.raises(ValueError, match=r"3 stored runs .* runs/sine/seed0 with steps: 9, now 8"):
        refuse_changed_runs(asked(**plan, steps_of={"sine": 8}), workshop(tmp_path), QUIET)


def test_an_interrupted_search_is_gone_on_with(tmp_path):
    plan = asked(adamw=TUNED, tuning=SEARCH)
    with pytest.raises(KeyboardInterrupt):
        carried_out(plan, tmp_path, most=2)
    refuse_changed_runs(plan, workshop(tmp_path), QUIET)
    carried_out(plan, tmp_path)
    refuse_changed_runs(plan, workshop(tmp_path), QUIET)


def test_an_arm_that_cannot_be_tuned_says_how_to_go_on_once_it_is_mended(tmp_path):
    sine = ArmPlan(hyperparameters="tuned")
    plan = {"adamw": TUNED, "sine": sine, "tuning": SEARCH}
    console = Console(record=True, width=500)
    carried_out(asked(**plan, steps_of={"sine": 0}), tmp_path, console=console)
    way = "or mend the arm. Where that changes configuration or ranges, repeat the command with "
    assert f"{way}`--changed rerun`" in console.export_text()
    assert f"{way}`--changed rerun`" in load_results(tmp_path).untuned["sine"].splitlines()[0]
    with pytest.raises(ValueError, match="stored runs were made with another configuration"):
        carried_out(asked(**plan), tmp_path)
    mended = replace(workshop(tmp_path), running=Running(changed="rerun"))
    results = run_comparison(asked(**plan), mended, Provenance(), QUIET)
    assert not results.untuned
    assert {name.split("/")[-2] for name in mended.executor.made} == {"sine"}


def test_a_baseline_that_cannot_be_tuned_says_how_to_go_on_once_it_is_mended(tmp_path):
    plan = asked(adamw=TUNED, tuning=SEARCH, steps_of={"adamw": 0})
    with pytest.raises(RuntimeError, match=r"Cannot tune 'adamw'.*`--changed rerun`"):
        carried_out(plan, tmp_path)
    refuse_changed_runs(plan, workshop(tmp_path), QUIET)  # is said when it is this task's turn

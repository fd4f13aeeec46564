"""Suites on planted truths: an arm that is better on all tasks, on one, on none."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lightning_qsgd.compare import Arm, FailedRun, Method, Outcome, analyse, verdicts
from lightning_qsgd.compare.report.document import to_markdown
from lightning_qsgd.compare.report.panels import NARROW, WIDE
from lightning_qsgd.compare.report.suite_page import (
    FARTHEST,
    draw_profiles,
    suite_answer,
    suite_blocks,
    suite_csv,
    write_suite,
)
from lightning_qsgd.compare.statistics import Interval, mean_over_tasks, performance_profile
from lightning_qsgd.compare.verdicts.suite import SuiteAnalysis, SuiteOutcome, analyse_suite
from tests.comparison_cases import METRIC, made_curve, made_results, written

METHOD = Method(resamples=1999)
TASKS, SEEDS = 5, 16


def task(draw, shifts, seeds=SEEDS, arms=None, **fields):
    """One task: the noise of a seed is shared in part, and an arm gains its shift."""
    shared = draw.normal(size=seeds)
    values = {
        name: (0.5 + 0.01 * (shared + draw.normal(size=seeds) + shift)).tolist()
        for name, shift in {"adamw": 0.0, **shifts}.items()
    }
    return made_results(values, arms, **fields)


def suite(draw, per_task, **fields):
    return {f"task{i}": task(draw, shifts, **fields) for i, shifts in enumerate(per_task)}


def test_arms_better_on_all_on_one_and_on_no_task_are_told_apart():
    draw = np.random.default_rng(1)
    per_task = [
        {"everywhere": 3.0, "once": 4.0 if i == 2 else 0.0, "never": 0.0, "worse": -3.0}
        for i in range(TASKS)
    ]
    analysis = analyse_suite(suite(draw, per_task), METHOD)
    found = {arm.arm: arm for arm in analysis.arms}
    assert {name: arm.outcome for name, arm in found.items()} == {
        "everywhere": SuiteOutcome.BETTER,
        "once": SuiteOutcome.SOME,
        "never": SuiteOutcome.NOTHING,
        "worse": SuiteOutcome.WORSE,
    }
    better = [name for name, one in found["once"].verdicts.items() if one.outcome is Outcome.BETTER]
    assert better == ["task2"]
    assert suite_answer(analysis) == "**Better than `adamw` over 5 tasks:** `everywhere`."


def test_an_arm_that_is_better_here_and_worse_there_is_not_better_over_the_suite():
    draw = np.random.default_rng(2)
    per_task = [{"mixed": 6.0 if i else -3.0} for i in range(TASKS)]
    (arm,) = analyse_suite(suite(draw, per_task), METHOD).arms
    assert arm.outcome is SuiteOutcome.MIXED


def test_at_most_one_null_suite_in_twenty_claims_anything():
    draw, false = np.random.default_rng(3), 0
    for _ in range(200):
        nothing = suite(draw, [{"a": 0.0, "b": 0.0, "c": 0.0}] * TASKS, seeds=12)
        arms = analyse_suite(nothing, Method(resamples=1499)).arms
        false += any(
            arm.outcome is not SuiteOutcome.NOTHING
            or {Outcome.BETTER, Outcome.WORSE} & {one.outcome for one in arm.verdicts.values()}
            for arm in arms
        )
    assert false / 200 <= 0.05


def test_an_arm_whose_feature_is_noise_is_never_called_better():
    draw = np.random.default_rng(4)
    arms = (
        *(Arm("adamw", "baseline"), Arm("feature", controls=("noise",))),
        Arm("noise", "control"),
    )
    for _ in range(200):
        tasks = suite(draw, [{"feature": 0.0, "noise": 0.0}] * 3, seeds=12, arms=arms)
        (arm,) = analyse_suite(tasks, Method(resamples=999)).arms
        assert Outcome.BETTER not in {one.outcome for one in arm.verdicts.values()}
        assert arm.outcome is not SuiteOutcome.BETTER


def test_an_arm_that_is_ahead_as_its_control_is_hardly_ever_called_better():
    draw, claimed = np.random.default_rng(14), 0
    arms = (
        *(Arm("adamw", "baseline"), Arm("feature", controls=("noise",))),
        Arm("noise", "control"),
    )
    for _ in range(200):
        tasks = {"task": task(draw, {"feature": 2.0, "noise": 2.0}, arms=arms)}
        (arm,) = analyse_suite(tasks, Method(resamples=999)).arms
        claimed += arm.verdicts["task"].outcome is Outcome.BETTER
    assert claimed / 200 <= 0.025  # one side of the level


def test_every_task_and_the_whole_get_a_share_of_the_level():
    draw = np.random.default_rng(5)
    analysis = analyse_suite(suite(draw, [{"a": 0.0}] * 4), METHOD)
    assert {found.method.alpha for found in analysis.tasks.values()} == {0.05 / 5}


def test_the_report_of_a_task_says_what_the_page_of_its_suite_says(without_matplotlib, tmp_path):
    draw = np.random.default_rng(3)
    alone = {f"task{i}": task(draw, {"a": 2.5}, seeds=4) for i in range(3)}
    tasks = {
        name: replace(found, comparison=replace(found.comparison, alpha=0.05 / 4))
        for name, found in alone.items()
    }
    said = {name: verdicts(analyse(found))["a"].outcome for name, found in tasks.items()}
    (arm,) = analyse_suite(tasks, Method()).arms
    assert said == {name: verdict.outcome for name, verdict in arm.verdicts.items()}
    assert said["task0"] is Outcome.TOO_FEW
    assert verdicts(analyse(alone["task0"]))["a"].outcome is Outcome.BETTER
    _, own = written(tasks["task0"], tmp_path, None)
    assert "about 1.25 % or less. The plan asks for that instead of 5 %, as each task of a" in own
    assert "98.75 % together" in own
    _, usual = written(alone["task0"], tmp_path, None)
    assert "about 5 % or less. With 4 seeds" in usual
    assert "did better than `adamw`. With 4 seeds, not the 8 that are needed, only very" in usual


def test_tasks_with_too_few_seeds_are_named():
    draw = np.random.default_rng(6)
    analysis = analyse_suite(suite(draw, [{"a": 0.0}] * 5, seeds=6), METHOD)
    texts = " ".join(getattr(block, "text", "") for block in suite_blocks("s", analysis, None))
    assert "**Too few seeds** for a suite of this size. With 6 seeds, not the 10 that are" in texts


@pytest.mark.parametrize("arms", [1, 3, 17])
@pytest.mark.parametrize("page", [WIDE, NARROW])
def test_each_arm_has_a_profile_of_its_own_beside_the_baseline_in_grey(arms, page):
    costs = {name: [1.0 + number, 4.0] for number, name in enumerate("abcdefghijklmnopqr")}
    costs = dict(list(costs.items())[: arms + 1])
    analysis = SuiteAnalysis(METHOD, {}, (), "b", performance_profile(costs))
    panels = [panel for panel in draw_profiles(analysis, page).axes if panel.axison]
    assert [panel.get_title() for panel in panels] == [name for name in costs if name != "b"]
    for panel in panels:
        baseline, arm = panel.get_lines()
        assert np.ptp(to_rgb(baseline.get_color())) < 0.1 < np.ptp(to_rgb(arm.get_color()))
        factors = analysis.profiles[panel.get_title()]
        assert list(arm.get_xdata()[1:-1]) == [factor for factor in factors if factor <= FARTHEST]


def test_a_task_without_a_target_is_solved_by_nobody_and_missed_by_nobody(tmp_path):
    draw = np.random.default_rng(12)
    aims = {"aimed": 0.9, "open": None}
    tasks = {
        name: with_curves(task(draw, {"quick": 0.0}, target=target), "quick")
        for name, target in aims.items()
    }
    analysis = analyse_suite(tasks, METHOD)
    assert analysis.aimless == ("open",)
    assert analysis.profiles == {"adamw": [2.0], "quick": [1.0]}
    page = to_markdown(suite_blocks("made", analysis, None))
    assert "**Without a target:** `open`. Steps, profiles and the share of tasks solved" in page
    assert page.split("## Over all tasks")[1].split("\n")[4].endswith("| 100 % |")
    none = analyse_suite({"open": tasks["open"]}, METHOD)
    write_suite("made", {"open": tasks["open"]}, none, tmp_path)
    assert "profile.png" not in (tmp_path / "suite.md").read_text()


def test_a_suite_whose_tasks_share_no_arm_has_a_page_without_profiles(tmp_path):
    draw = np.random.default_rng(11)
    tasks = {
        name: with_curves(task(draw, {name: 0.0}, target=0.9), name) for name in ("one", "other")
    }
    write_suite("apart", tasks, analyse_suite(tasks, METHOD), tmp_path)
    page = (tmp_path / "suite.md").read_text()
    assert "profile.png" not in page
    assert all(f"{name}/report.html" in page for name in tasks)


def test_a_task_that_could_not_answer_keeps_its_share_and_allows_no_claim():
    tasks = suite(np.random.default_rng(10), [{"a": 3.0}] * 3)
    assert [arm.outcome for arm in analyse_suite(tasks, METHOD).arms] == [SuiteOutcome.BETTER]
    analysis = analyse_suite(tasks, METHOD, {"lost": "every trial failed"})
    assert {found.method.alpha for found in analysis.tasks.values()} == {0.05 / 5}
    (arm,) = analysis.arms
    assert arm.outcome is SuiteOutcome.SOME
    assert arm.verdicts["lost"].outcome is Outcome.NO_CLAIM
    page = to_markdown(suite_blocks("s", analysis, None))
    assert "> **`lost` could not answer.**" in page
    assert "every trial failed" in page
    assert "over 4 tasks" in page
    assert "| arm | task0 | task1 | task2 | lost |" in page


def test_profile_counts_tasks_within_a_factor_of_the_quickest():
    costs = {"a": [10.0, 10.0, inf], "b": [20.0, 5.0, inf], "c": [inf, 15.0, 7.0]}
    assert performance_profile(costs) == {
        "a": [1.0, 2.0, inf],
        "b": [1.0, 2.0, inf],
        "c": [1.0, 3.0, inf],
    }


def test_interval_over_tasks_holds_the_mean_of_tasks_like_these():
    draw, held = np.random.default_rng(7), 0
    for _ in range(200):
        truths = draw.normal(1.0, 1.0, size=12)
        groups = [truth + draw.normal(size=8) for truth in truths]
        _, interval = mean_over_tasks(groups, 0.1, 999, 0)
        held += interval.low <= 1.0 <= interval.high
    assert 0.82 <= held / 200 <= 0.97


def test_interval_over_one_task_is_that_over_its_seeds():
    group = np.random.default_rng(8).normal(size=30)
    mean, interval = mean_over_tasks([group], 0.05, 4999, 0)
    half = 1.96 * group.std() / np.sqrt(30)
    assert mean == pytest.approx(group.mean())
    assert (interval.low, interval.high) == pytest.approx((mean - half, mean + half), abs=0.05)


def with_curves(results, quick):
    def curve(run):
        reached = 2 if run.arm == quick else 4
        return replace(run, curves={METRIC: made_curve([0.0] * (reached - 1) + [1.0] * 6)})

    return replace(results, runs=tuple(curve(run) for run in results.runs))


def test_steps_over_the_baselines_are_a_ratio_over_tasks_and_the_page_shows_them(tmp_path):
    draw = np.random.default_rng(9)
    tasks = suite(draw, [{"quick": 0.0, "same": 0.0}] * 3, target=0.9)
    tasks = {name: with_curves(results, "quick") for name, results in tasks.items()}
    analysis = analyse_suite(tasks, METHOD)
    found = {arm.arm: arm for arm in analysis.arms}
    assert found["quick"].step_ratio == pytest.approx(0.5)
    assert found["same"].step_ratio == pytest.approx(1.0)
    assert found["quick"].factors == [1.0, 1.0, 1.0]
    assert found["same"].factors == [2.0, 2.0, 2.0]
    page = write_suite("made", tasks, analysis, tmp_path).read_text()
    assert "quick" in page
    assert "profile.png" in (tmp_path / "suite.md").read_text()
    assert "| quick | " in (tmp_path / "suite.md").read_text()


def outcomes_of(tasks, **more):
    return {arm.arm: arm.outcome for arm in analyse_suite(tasks, METHOD, **more).arms}


CONTROLLED = (
    *(Arm("adamw", "baseline"), Arm("x", controls=("c",))),
    Arm("c", "control"),
)


@pytest.mark.parametrize("control", [4.0, 8.0])
def test_an_arm_that_its_control_matches_or_beats_is_ahead_and_its_interval_says_so(control):
    tasks = suite(np.random.default_rng(12), [{"x": 4.0, "c": control}] * 5, arms=CONTROLLED)
    (arm,) = analyse_suite(tasks, METHOD).arms
    assert {one.outcome for one in arm.verdicts.values()} <= {Outcome.MATCHED, Outcome.BEATEN}
    assert arm.outcome is SuiteOutcome.CONTROLLED
    assert arm.interval.low > 0
    assert arm.shown_interval == arm.interval


def test_an_interval_that_no_task_bears_out_is_shown_with_zero():
    tasks = suite(np.random.default_rng(13), [{"a": 0.0}] * 5)
    (arm,) = analyse_suite(tasks, METHOD).arms
    for low, high in ((0.1, 0.3), (-0.3, -0.1)):
        shown = replace(arm, interval=Interval(low, high)).shown_interval
        assert (shown.low, shown.high) == (min(low, 0.0), max(high, 0.0))


def test_tasks_without_a_claim_or_with_too_few_seeds_are_no_nothing():
    def without(results, arm):
        failures = tuple(FailedRun(arm, seed, "boom") for seed in results.comparison.seeds)
        runs = tuple(run for run in results.runs if run.arm != arm)
        return replace(results, runs=runs, failures=failures)

    tasks = suite(np.random.default_rng(15), [{"a": 0.0}] * 4)
    lost = {name: without(found, "a") for name, found in tasks.items()}
    few = suite(np.random.default_rng(15), [{"a": 0.0}] * 4, seeds=5)
    assert outcomes_of(tasks) == {"a": SuiteOutcome.NOTHING}
    assert outcomes_of(lost) == {"a": SuiteOutcome.NO_CLAIM}
    assert outcomes_of({**tasks, "task0": lost["task0"]}) == {"a": SuiteOutcome.NO_CLAIM_SOME}
    assert outcomes_of(few) == {"a": SuiteOutcome.TOO_FEW}
    said = suite_answer(analyse_suite(lost, METHOD))
    assert said == "**No answer:** on none of 4 tasks is a claim possible."


def test_an_arm_that_is_worse_where_another_task_has_no_claim_is_not_worse_over_the_suite():
    tasks = suite(np.random.default_rng(16), [{"a": -4.0}] * 4)
    assert outcomes_of(tasks) == {"a": SuiteOutcome.WORSE}
    assert outcomes_of(tasks, unanswered={"lost": "boom"}) == {"a": SuiteOutcome.WORSE_SOME}


def test_an_arm_that_a_task_skips_is_shown_task_by_task_and_judged_on_no_suite(tmp_path):
    draw = np.random.default_rng(17)
    shifts = {"y": 6.0, "z": 0.0}
    tasks = {f"task{i}": task(draw, {"z": 0.0} if i == 1 else shifts, target=0.1) for i in range(3)}
    for turned in (tasks, dict(reversed(tasks.items()))):
        analysis = analyse_suite(turned, METHOD, {"lost": "boom"})
        assert [arm.arm for arm in analysis.arms] == ["z"]
        assert analysis.profiles.keys() == {"adamw", "z"}
        page = to_markdown(suite_blocks("s", analysis, None))
        assert "**No arm that all tasks have** can be said to do better than `adamw`" in page
        assert "- `y`: judged task by task only, since it is skipped by `task1`." in page
        cells = dict(zip(("arm", *turned, "lost"), row_of(page, "y"), strict=True))
        assert cells == {
            "arm": "y",
            "task0": "better",
            "task1": "skipped",
            "task2": "better",
            "lost": "-",
        }
    rows = suite_csv(analysis, tasks).splitlines()
    assert [row.split(",")[:4] for row in rows if row.startswith("y,task1")] == [
        ["y", "task1", "arm", "skipped"]
    ]


def row_of(page, arm):
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {arm} | ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_suites_whose_arms_are_all_skipped_somewhere_give_no_answer():
    draw = np.random.default_rng(18)
    tasks = {name: task(draw, {name: 0.0}) for name in ("one", "other")}
    assert suite_answer(analyse_suite(tasks, METHOD)).startswith("**No answer:** each arm is ski")


def test_a_suite_says_the_same_in_whatever_order_its_tasks_are():
    draw = np.random.default_rng(19)
    without = (Arm("adamw", "baseline"), Arm("x"))
    tasks = {f"task{i}": task(draw, {"x": 6.0, "c": 6.0}, arms=CONTROLLED) for i in range(4)} | {
        "last": task(draw, {"x": 6.0}, arms=without)
    }
    turned = {name: tasks[name] for name in ("last", "task0", "task1", "task2", "task3")}
    for one in (tasks, turned):
        (arm,) = analyse_suite(one, METHOD).arms
        assert arm.over_controls == {}  # one task has no control
        assert arm.outcome is SuiteOutcome.SOME
    everywhere = {name: found for name, found in tasks.items() if name != "last"}
    (arm,) = analyse_suite(everywhere, METHOD).arms
    assert arm.over_controls.keys() == {"c"}


def test_a_baseline_that_ends_at_one_value_leaves_a_dash_and_the_page_says_why():
    draw = np.random.default_rng(20)
    tasks = suite(draw, [{"y": 4.0}] * 3)
    for values in ([0.95] * SEEDS, [0.95, np.nextafter(0.95, 1)] * (SEEDS // 2)):
        flat = made_results({"adamw": values, "y": (0.96 + 0.01 * draw.random(SEEDS)).tolist()})
        analysis = analyse_suite({**tasks, "flat": flat}, METHOD)
        assert analysis.flat == ("flat",)
        page = to_markdown(suite_blocks("s", analysis, None))
        assert "**No gain over the suite:** all runs of `adamw` on `flat` end at one value" in page
        assert row_of(page.split("## Over all tasks")[1], "y")[1:3] == ["-", "-"]


def test_a_target_that_is_reached_before_the_first_step_costs_one_step():
    draw = np.random.default_rng(21)
    tasks = suite(draw, [{"quick": 0.0, "same": 0.0}] * 3, target=0.9)

    def at_once(run):
        if run.arm != "quick":
            return run
        curve = replace(run.curves[METRIC], steps=[0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
        return replace(run, curves={METRIC: replace(curve, values=[1.0] * 7)})

    tasks = {name: with_curves(found, "quick") for name, found in tasks.items()}
    tasks = {
        name: replace(found, runs=tuple(map(at_once, found.runs))) for name, found in tasks.items()
    }
    analysis = analyse_suite(tasks, METHOD)
    assert analysis.profiles["quick"] == [1.0] * 3
    assert analysis.profiles["same"] == [40.0] * 3
    assert analysis.arms[0].step_ratio == pytest.approx(1 / 40)


def test_runs_that_failed_count_as_misses_of_the_target():
    tasks = suite(np.random.default_rng(22), [{"quick": 0.0}] * 3, target=0.9)
    tasks = {name: with_curves(found, "quick") for name, found in tasks.items()}
    lost = tuple(FailedRun("quick", seed, "boom") for seed in range(SEEDS - 1))
    tasks = {
        name: replace(
            found,
            failures=lost,
            runs=tuple(r for r in found.runs if r.arm != "quick" or r.seed == SEEDS - 1),
        )
        for name, found in tasks.items()
    }
    assert analyse_suite(tasks, METHOD).profiles["quick"] == [inf] * 3

"""Records of a comparison: what they refuse, and that they survive the disk."""

import csv
import json
from dataclasses import replace
from math import inf, isnan, nan

import pytest

from lightning_qsgd.compare import (
    Arm,
    Comparison,
    FailedRun,
    Provenance,
    Results,
    TunedArm,
    TunedValue,
    analyse,
    load_results,
    save_results,
)
from lightning_qsgd.compare.executors import attempt
from lightning_qsgd.compare.results.published import Published
from lightning_qsgd.compare.running.stored_run import RunStore, StoredRun, collect, foreign_files
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import FirstWeights
from tests.compare_jobs import made_job, quick_fit
from tests.comparison_cases import METRIC, made_curve, made_results, made_run, timed

BASE = Arm("base", "baseline")


def full_results():
    """Every field filled, one run failed, one diverged, one not started."""
    values = {"base": [0.1, 0.2, 1 / 3], "arm": [nan, None, 0.5], "control": [0.3, None, 0.25]}
    arms = (BASE, Arm("arm", controls=("control",), overlay="lr: 1"), Arm("control", "control"))
    results = made_results(
        values,
        arms,
        target=0.3,
        failures=(FailedRun("arm", 1, "Traceback\nValueError: boom"),),
        tuning=(TunedArm("base", 8, (90, 91), (TunedValue("lr", 1e-4, 1e-1, 1e-3, "log"),), 0.5),),
        provenance=Provenance("cmd", "a: 1", {"torch": "2"}, "abc", "2 cores", "2026-01-01"),
    )
    curves = {METRIC: made_curve([0.1, inf, 1 / 3]), tags.RELATIVE_SIZE: made_curve([0.1, nan])}
    changes = {"curves": curves, "timing": timed(0.1), "first_weights": FirstWeights({"w": "a"}, 9)}
    runs = tuple(replace(run, **changes) for run in results.runs)
    published = Published("a paper", {"arm": {"final": "93.8 ± 0.7 %"}})
    return replace(results, runs=runs, comparison=replace(results.comparison, published=published))


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    results = full_results()
    save_results(results, tmp_path)
    assert repr(load_results(tmp_path)) == repr(results)
    assert repr(analyse(load_results(tmp_path))) == repr(analyse(results))


def test_json_is_readable_by_strict_parsers(tmp_path):
    save_results(full_results(), tmp_path)

    def refuse(token):
        raise AssertionError(token)

    json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)


def test_table_has_a_row_per_planned_run_with_its_status(tmp_path):
    save_results(full_results(), tmp_path)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [(row["arm"], row["seed"], row["status"]) for row in rows] == [
        *(("base", str(seed), "done") for seed in range(3)),
        *(("arm", "0", "done"), ("arm", "1", "failed"), ("arm", "2", "done")),
        *(("control", "0", "done"), ("control", "1", "missing"), ("control", "2", "done")),
    ]
    assert rows[2][METRIC] == repr(1 / 3)
    assert (rows[3][METRIC], rows[4][METRIC]) == ("nan", "")
    assert (rows[0]["steps_to_target"], rows[0]["epochs_to_target"]) == ("20.0", "0.2")
    assert rows[0]["relative_size"] == "0.1"
    assert (rows[0]["initial_weights"], rows[0]["parameters"]) == ("initial_weights 0", "9")


def test_results_stored_before_first_weights_were_recorded_are_read(tmp_path):
    save_results(full_results(), tmp_path)
    saved = json.loads((tmp_path / "results.json").read_text())
    del saved["sha256"], saved["comparison"]["published"]
    for run in saved["runs"]:
        del run["first_weights"], run["timing"]["seconds_per_epoch"]
    (tmp_path / "results.json").write_text(json.dumps(saved))
    loaded = load_results(tmp_path)
    assert loaded.comparison.published == Published()
    assert {run.first_weights.parameters for run in loaded.runs} == {0}
    assert all(isnan(run.timing.seconds_per_epoch) for run in loaded.runs)


def test_table_depends_neither_on_the_clock_nor_on_the_order_of_the_runs(tmp_path):
    results = full_results()
    later = tuple(replace(run, timing=timed(9.0)) for run in reversed(results.runs))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    save_results(results, tmp_path / "a")
    save_results(replace(results, runs=later), tmp_path / "b")
    tables = [(tmp_path / name / "results.csv").read_bytes() for name in "ab"]
    assert tables[0] == tables[1]
    times = [(tmp_path / name / "timing.csv").read_bytes() for name in "ab"]
    assert times[0] != times[1]


def test_times_are_in_a_table_of_their_own(tmp_path):
    save_results(full_results(), tmp_path)
    rows = list(csv.DictReader((tmp_path / "timing.csv").read_text().splitlines()))
    assert rows[0] == {
        "arm": "base",
        "seed": "0",
        "seconds": "10.0",
        "seconds_per_step": "0.1",
        "seconds_per_epoch": "1.2000000000000002",
        "seconds_to_target": "20.0",
    }
    assert len(rows) == 7


@pytest.mark.parametrize("name", ["results.json", "curves.npz"])
def test_folder_without_results_is_refused(tmp_path, name):
    save_results(full_results(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"there is no {name}. Pass the folder"):
        load_results(tmp_path)


@pytest.mark.parametrize("name", ["results.json", "curves.npz"])
def test_damaged_results_are_refused(tmp_path, name):
    save_results(full_results(), tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"does not fit format 1\. It was written by another"):
        load_results(tmp_path)


def test_another_format_is_refused(tmp_path):
    save_results(full_results(), tmp_path)
    path = tmp_path / "results.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="format 2"):
        load_results(tmp_path)


def test_saving_leaves_no_temporary_file(tmp_path):
    save_results(full_results(), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"results.json", "results.csv", "timing.csv", "curves.npz"}


@pytest.mark.parametrize("arms", [(Arm("a"),), (BASE, Arm("b", "baseline"))])
def test_comparison_needs_exactly_one_baseline(arms):
    with pytest.raises(ValueError, match="Expected exactly one arm of kind 'baseline', got"):
        Comparison("x", Goal(), arms, (0,))


@pytest.mark.parametrize("controls", [("nobody",), ("base",)])
def test_controls_must_be_compared_too(controls):
    arms = (BASE, Arm("a", controls=controls))
    with pytest.raises(ValueError, match="Expected the controls of 'a' to be arms of kind"):
        Comparison("x", Goal(), arms, (0,))


def test_a_comparison_whose_goal_has_no_direction_is_refused():
    with pytest.raises(ValueError, match=r"Expected `goal.higher_is_better` beside.*val/energy"):
        Comparison("x", Goal(metric="val/energy"), (BASE,), (0,))


def test_comparison_without_seeds_is_refused():
    with pytest.raises(ValueError, match="Expected at least one seed, got none"):
        Comparison("x", Goal(), (BASE,), ())


def test_repeated_seeds_arms_and_runs_are_refused():
    with pytest.raises(ValueError, match=r"Expected every one of the seeds once, got \[1\]"):
        Comparison("x", Goal(), (BASE,), (1, 2, 1))
    with pytest.raises(ValueError, match="Expected every one of the arms once"):
        Comparison("x", Goal(), (BASE, BASE), (1,))
    run = made_run("base", 1, 0.5)
    with pytest.raises(ValueError, match="Expected every one of the runs once"):
        Results(Comparison("x", Goal(), (BASE,), (1,)), (run,), (FailedRun("base", 1, ""),))


def test_run_of_another_comparison_is_refused():
    with pytest.raises(ValueError, match=r"got \[\('base', 2\)\]: they belong to another"):
        Results(Comparison("x", Goal(), (BASE,), (1,)), (made_run("base", 2, 0.5),))


def test_arm_refuses_unknown_kinds_and_controls_of_controls():
    with pytest.raises(ValueError, match=r"Expected `kind` to be one of .* got 'placebo'"):
        Arm("a", "placebo")
    with pytest.raises(ValueError, match="Expected only arms to have controls, got a control 'a'"):
        Arm("a", "control", controls=("b",))


@pytest.mark.parametrize(
    ("best", "scale", "at_edge"),
    [
        *((0.5, "linear", False), (0.96, "linear", True), (0.01, "linear", True)),
        *((0.1, "log", False), (0.05, "log", False), (1.0, "log", True), (0.012, "log", True)),
    ],
)
def test_best_value_near_an_end_of_its_range_is_at_the_edge(best, scale, at_edge):
    assert TunedValue("lr", 0.01, 1.0, best, scale).at_edge is at_edge


def test_tuned_value_refuses_ranges_that_were_not_searched():
    with pytest.raises(ValueError, match="Expected the best `lr` inside a range, got 2"):
        TunedValue("lr", 0, 1, 2)
    with pytest.raises(ValueError, match="Expected a positive range for `lr` on a log scale"):
        TunedValue("lr", 0.0, 1.0, 0.5, "log")


def test_stored_runs_of_another_configuration_are_left_out_and_named(tmp_path):
    store, jobs = (
        RunStore(tmp_path),
        [made_job(arm, s) for s in range(2) for arm in ("base", "arm")],
    )
    for job in jobs:
        store.save(StoredRun.of(attempt(quick_fit, job)), job)
    noted = {arm: tuple(j.fingerprint for j in jobs if j.arm == arm) for arm in ("base", "arm")}
    noted["arm"] = (noted["arm"][0], "another")
    asked = replace(made_results({"base": [0.0] * 2, "arm": [0.0] * 2}), runs=())
    results = replace(asked, fingerprints=noted)
    save_results(results, tmp_path)
    assert load_results(tmp_path).fingerprints == noted
    found = collect(load_results(tmp_path), store)
    assert {(run.arm, run.seed) for run in found.runs} == {("base", 0), ("base", 1), ("arm", 0)}
    assert foreign_files(results, store) == [str(tmp_path / "runs/arm/seed1.json")]
    assert foreign_files(asked, store) == []  # written by a version that noted none
    assert len(collect(asked, store).runs) == 4

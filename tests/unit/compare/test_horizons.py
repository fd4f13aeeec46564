"""Steps to the target at the horizon that an arm needs, on planted truths."""

import csv
import io
from dataclasses import replace
from math import inf, log, nan

import numpy as np
import pytest
import yaml
from rich.console import Console

from lightning_qsgd.compare import Provenance, analyse, load_results, save_results
from lightning_qsgd.compare.executors import Executor
from lightning_qsgd.compare.executors.executor import attempt
from lightning_qsgd.compare.forecast import describe, plan_table, runs_left
from lightning_qsgd.compare.planning import ArmPlan, Budget, Plan
from lightning_qsgd.compare.planning.job import shortened, unshortened
from lightning_qsgd.compare.planning.question import Question
from lightning_qsgd.compare.results.run_table import results_csv
from lightning_qsgd.compare.run_comparison import run_comparison
from lightning_qsgd.compare.running import Running
from lightning_qsgd.compare.running.run_jobs import Workshop
from lightning_qsgd.compare.running.stored_run import RunStore
from lightning_qsgd.compare.statistics import horizon_ratio
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import RecordedRun
from tests.comparison_cases import METHOD, METRIC, written

SHARES = [0.5, 0.6, 0.7, 0.8, 0.9]
LENGTHS = [100, 120, 140, 160, 180, 200]
NEEDED = 172
"""Steps that the baseline needs."""

FASTER = 0.7
"""What the planted arm needs of them."""


def surplus(draw, needed, seeds=16, shared=0.0, noise=0.03):
    """Surplus over the target that grows with the logarithm of the horizon."""
    curve = 0.3 * np.log(np.array(LENGTHS) / needed)
    return curve + shared + noise * draw.normal(size=(seeds, len(LENGTHS)))


def ratio(ours, theirs, alpha=0.05, resamples=499):
    return horizon_ratio(ours, theirs, LENGTHS, alpha, resamples, 0)


def test_the_exact_ratio_is_found_without_noise():
    draw = np.random.default_rng(0)
    ours, theirs = (surplus(draw, needed, noise=0.0) for needed in (FASTER * NEEDED, NEEDED))
    found = ratio(ours, theirs)
    assert found.ratio.low == found.ratio.high == pytest.approx(FASTER, abs=0.005)
    assert found.interval.low == pytest.approx(found.interval.high)


@pytest.mark.parametrize(("truth", "seeds"), [(1.0, 8), (FASTER, 16)])
def test_intervals_hold_the_truth_as_often_as_they_say(truth, seeds):
    hits, repeats = 0, 100
    for number in range(repeats):
        draw = np.random.default_rng(number)
        shared = 0.02 * draw.normal(size=(seeds, 1))
        ours, theirs = (surplus(draw, needed, seeds, shared) for needed in (truth * NEEDED, NEEDED))
        interval = ratio(ours, theirs).interval
        hits += interval.low <= truth <= interval.high
    # 95 % are promised; three standard errors of 100 repeats are 6.5 points.
    assert hits >= 0.885 * repeats


def test_a_target_out_of_reach_gives_a_bound():
    never, reached = np.full((4, 3), -1.0), np.array([[-1.0, 1.0, 1.0]] * 4)
    at_once = np.ones((4, 3))
    lengths = [1.0, 2.0, 4.0]

    def found(ours, theirs):
        one = horizon_ratio(ours, theirs, lengths, 0.05, 99, 0)
        assert one.interval == one.ratio  # no spread
        return one.ratio.low, one.ratio.high

    assert found(reached, reached) == (1.0, 1.0)
    assert found(never, reached) == (4 / 1.5, inf)
    assert found(reached, never) == (0.0, 1.5 / 4)
    assert found(at_once, reached) == (0.0, 1 / 1.5)
    assert found(never, never) == (0.0, inf)


def test_a_run_that_diverged_does_not_reach_the_target():
    good = np.array([[-1.0, 1.0, 3.0]] * 4)
    bad = good.copy()
    bad[0, 1] = -inf
    found = horizon_ratio(bad, good, [1.0, 2.0, 4.0], 0.05, 99, 0)
    assert found.need.low == found.need.high == 4.0


class InPlace(Executor):
    """Makes runs in this process."""

    at_a_time = 1

    def run(self, fit, jobs, started):
        for job in jobs:
            yield attempt(fit, job)


def planted(job):
    """A run whose metric grows with its length; the faster arm gets there earlier."""
    assert job.config["lr_scheduler"]["init_args"]["T_max"] == job.config["trainer"]["max_steps"]
    if job.config.get("fails") and job.block != "runs":
        raise ArithmeticError("no luck with short runs")
    needed = NEEDED * job.config["needs"]
    draw = np.random.default_rng([job.seed, job.config["trainer"]["max_steps"]])
    value = 0.8 + 0.3 * log(job.config["trainer"]["max_steps"] / needed) + 0.001 * draw.normal()
    checks = {"initial_weights": f"w{job.seed}", "data_order": "d", "random_state": "r"}
    checks["data_order"] += job.config.get("order", "")
    return RecordedRun(job.arm, job.seed, {METRIC: value}, {}, checks)


def made_question(shares=SHARES, goal=None, **changes):
    needs = {"adamw": 1.0, "faster": FASTER, "alike": 1.0, "noise": 1.0}
    arms = {name: ArmPlan() for name in needs}
    arms["adamw"] = ArmPlan(kind="baseline")
    arms["noise"] = ArmPlan(kind="control", control_of=["faster"])
    plan = Plan("made.yaml", arms, Budget(max_steps=200), 6, horizons=shares)
    schedule = {"init_args": {"T_max": 200}}
    common = {"trainer": {"max_steps": 200}, "lr_scheduler": schedule}
    configs = {
        name: {**common, "needs": need, "arm": name, **changes.get(name, {})}
        for name, need in needs.items()
    }
    goal = goal or Goal(metric=METRIC, higher_is_better=True, target=0.8)
    return Question("made", plan, goal, configs, dict.fromkeys(needs, ""))


def made_workshop(folder, fit=planted, **running):
    return Workshop(fit, InPlace(), RunStore(folder), Running(**running))


def compared(question, folder, fit=planted, **running):
    workshop = made_workshop(folder, fit, **running)
    return run_comparison(question, workshop, Provenance(), Console(quiet=True))


def test_an_arm_that_needs_seven_tenths_of_the_steps_is_found(tmp_path, without_matplotlib):
    results = compared(made_question(), tmp_path)
    found = {one.arm.name: one.horizon for one in analyse(results, METHOD).challenges}
    assert found["noise"] is None
    assert found["faster"].ratio.low == pytest.approx(FASTER, abs=0.01)
    assert found["faster"].interval.low <= FASTER <= found["faster"].interval.high < 0.75
    assert found["alike"].interval.low <= 1 <= found["alike"].interval.high
    page, text = written(results, tmp_path)
    assert "How long training has to be" in page
    assert "**Steps to the target:** `faster` needs 0.7" in text
    assert "`alike` needs" not in text


def test_runs_of_every_horizon_are_in_the_table_and_survive_the_disk(tmp_path):
    results = compared(made_question(), tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    for row in rows:
        stored = results.horizons[140].runs_of(row["arm"]).get(int(row["seed"]))
        assert row[f"{METRIC} at 140"] == (repr(stored.final[METRIC]) if stored else "")
    assert [row["arm"] for row in rows if not row[f"{METRIC} at 140"]] == ["noise"] * 6
    save_results(results, tmp_path)
    loaded = load_results(tmp_path)
    assert results_csv(loaded) == results_csv(results)
    assert analyse(loaded, METHOD) == analyse(results, METHOD)


def test_stored_horizons_are_kept_and_others_added(tmp_path):
    compared(made_question([0.5]), tmp_path)
    made = []

    def counted(job):
        made.append(job.name)
        return planted(job)

    compared(made_question([0.5, 0.7]), tmp_path, counted)
    assert len(made) == 3 * 6
    assert {name.split("/")[1] for name in made} == {"140"}


def test_the_forecast_counts_shorter_runs_by_their_length(tmp_path):
    question, workshop = made_question([0.5]), made_workshop(tmp_path)
    left = runs_left(question, workshop.store)
    assert sorted(left["faster"]) == [0.5] * 6 + [1.0] * 6
    assert left["noise"] == [1.0] * 6
    lines = list(describe(question, workshop))
    assert any("faster: 12 runs left" in line and "6 of them shorter" in line for line in lines)
    assert "In all 42 runs" in lines[-1]


def test_seeds_whose_shorter_runs_failed_are_left_out_and_named(tmp_path, without_matplotlib):
    def unlucky(job):
        if job.seed == 1 and job.block == "horizons/140" and job.arm == "faster":
            raise ArithmeticError("no luck")
        return planted(job)

    results = compared(made_question(), tmp_path, unlucky)
    assert [(one.arm, one.seed) for one in results.all_failures] == [("faster", 1)]
    assert not results.failures
    found = {one.arm.name: one.horizon for one in analyse(results, METHOD).challenges}
    assert (found["faster"].seeds, found["alike"].seeds) == (5, 6)
    assert "`faster`, seed 1, failed in a shorter run" in written(results, tmp_path)[1]


def test_shorter_runs_that_are_no_pairs_are_refused_or_left_out(tmp_path):
    def other(job):
        order = "x" if job.arm == "faster" and job.block == "horizons/100" and job.seed < 2 else ""
        return planted(replace(job, config={**job.config, "order": order}))

    with pytest.raises(RuntimeError, match="differ in the first batches"):
        compared(made_question([0.5]), tmp_path, other)
    results = compared(made_question([0.5]), tmp_path, other, unpaired="allow")
    found = {one.arm.name: one.horizon for one in analyse(results, METHOD).challenges}
    assert found["faster"].seeds == 4


def test_a_diverged_run_counts_as_a_miss(tmp_path):
    def diverging(job):
        run = planted(job)
        gone = job.arm == "faster" and job.block == "horizons/140" and job.seed == 0
        return replace(run, final={METRIC: nan}) if gone else run

    results = compared(made_question(), tmp_path, diverging)
    found = {one.arm.name: one.horizon for one in analyse(results, METHOD).challenges}
    assert found["faster"].need.low > 140


def test_schedules_end_with_the_run():
    decay = {"class_path": "LinearDecay", "init_args": {"total_steps": 200, "final": 0.0}}
    config = {
        "trainer": {"max_steps": 200, "limit_val_batches": 4},
        "lr_scheduler": {"init_args": {"milestones": [50, 100], "gamma": 1}},
        "perturbation": {"strength": {"value": 1, "decay": decay}},
        "model": {"init_args": {"total_steps": 200}},
    }
    short = shortened(config, {"max_steps": 100}, 0.5)
    assert short["trainer"] == {"max_steps": 100, "limit_val_batches": 4}
    assert short["lr_scheduler"]["init_args"] == {"milestones": [25, 50], "gamma": 1}
    inner = short["perturbation"]["strength"]
    assert inner["decay"]["init_args"] == {"total_steps": 100, "final": 0.0}
    assert inner["value"] == 1
    assert short["model"] == config["model"]
    assert config["lr_scheduler"]["init_args"]["milestones"] == [50, 100]


@pytest.mark.parametrize(
    ("arguments", "short"),
    [
        ({"step_size_up": 10, "step_size_down": 30}, {"step_size_up": 5, "step_size_down": 15}),
        ({"start_factor": 0.1, "total_iters": 10}, {"start_factor": 0.1, "total_iters": 5}),
        ({"warmup_steps": 10}, {"warmup_steps": 10}),
        ({"max_steps": 10, "lr": 10}, {"max_steps": 5, "lr": 10}),
        ({"max_epochs": 4, "t_initial": 8}, {"max_epochs": 2, "t_initial": 4}),
        ({"num_training_steps": 10}, {"num_training_steps": 5}),
    ],
)
def test_lengths_of_torchs_schedules_are_shortened_and_warmup_steps_stay(arguments, short):
    config = {"trainer": {}, "lr_scheduler": {"init_args": arguments}}
    assert shortened(config, {}, 0.5)["lr_scheduler"]["init_args"] == short


@pytest.mark.parametrize("shares", [[0.0], [1.0], [1.2], [0.001]])
def test_horizons_that_are_no_part_of_the_budget_are_refused(shares):
    with pytest.raises(ValueError, match="`horizons` to be shares of 200 steps"):
        made_question(shares)


def test_horizons_of_a_budget_of_seconds_are_refused():
    arms = {"adamw": ArmPlan(kind="baseline"), "arm": ArmPlan()}
    with pytest.raises(ValueError, match="no `horizons` with a budget of seconds"):
        Plan("made.yaml", arms, Budget(seconds=3), horizons=[0.5])


def test_horizons_without_a_target_are_refused():
    with pytest.raises(ValueError, match="a target with `horizons`"):
        made_question(goal=Goal(metric=METRIC))


def test_horizons_of_epochs_are_whole_epochs():
    arms = {"adamw": ArmPlan(kind="baseline"), "arm": ArmPlan()}
    plan = Plan("made.yaml", arms, Budget(max_epochs=5), horizons=[0.9, 0.5, 0.42])
    assert plan.horizon_lengths == (2, 4)
    assert str(plan.budget.of_length(2)) == "2 epochs"


def own_schedule(path="mine.Warm", **arguments):
    return {"lr_scheduler": {"class_path": path, "init_args": arguments}}


@pytest.mark.parametrize(
    ("config", "places"),
    [
        (own_schedule(hot=4, total_steps=200, patience=3, factor=0.5, on=True), ["hot"]),
        (own_schedule(inner=[{"class_path": "mine.Other", "init_args": {"hot": 9}}]), ["inner"]),
        (own_schedule("torch.optim.lr_scheduler.PolynomialLR", total_iters=9, power=2), []),
        (own_schedule("lightning_qsgd.llm.LinearWarmup", warmup=9), []),
        (own_schedule(hot=1), []),
        ({"model": {"class_path": "mine.Net", "init_args": {"hot": 9}}}, []),
        ({"perturbation": {"features": {"class_path": "mine.F", "init_args": {"hot": 9}}}}, []),
        ({}, []),
    ],
)
def test_whole_numbers_of_own_schedules_that_may_be_lengths_are_named(config, places):
    found = [
        place.removeprefix("lr_scheduler.init_args.").split(".")[0] for place in unshortened(config)
    ]
    assert found == places


def torchs(name, **arguments):
    return {"class_path": f"torch.optim.{name}", "init_args": arguments}


def of_module(**arguments):
    return {"model": {"class_path": "mine.Net", "init_args": arguments}}


COSINE, SHORT_COSINE = (torchs("lr_scheduler.CosineAnnealingLR", T_max=n) for n in (40, 20))


@pytest.mark.parametrize(
    ("config", "short"),
    [
        (of_module(scheduler=COSINE, width=40), of_module(scheduler=SHORT_COSINE, width=40)),
        (
            of_module(
                inner=[torchs("lr_scheduler.SequentialLR", milestones=[8], schedulers=[COSINE])]
            ),
            of_module(
                inner=[
                    torchs("lr_scheduler.SequentialLR", milestones=[4], schedulers=[SHORT_COSINE])
                ]
            ),
        ),
        (
            {"data": {"init_args": {"part": COSINE}}},
            {"data": {"init_args": {"part": SHORT_COSINE}}},
        ),
        (
            of_module(end=torchs("swa_utils.SWALR", anneal_epochs=6)),
            of_module(end=torchs("swa_utils.SWALR", anneal_epochs=3)),
        ),
        (of_module(total_steps=40, optimizer=torchs("SGD", lr=1)),) * 2,
        ({"generator_scheduler": COSINE}, {"generator_scheduler": SHORT_COSINE}),
    ],
)
def test_torchs_schedulers_are_shortened_wherever_they_stand(config, short):
    assert shortened({**config, "trainer": {}}, {}, 0.5) == {**short, "trainer": {}}


def of_callbacks(path, **arguments):
    return {"trainer": {"callbacks": [{"class_path": path, "init_args": arguments}]}}


LIGHTNINGS = "lightning.pytorch.callbacks."


@pytest.mark.parametrize(
    ("config", "places"),
    [
        (of_module(max_steps=40, width=64), ["model.init_args.max_steps"]),
        (
            of_module(warmup_steps=4, T_max=9),
            ["model.init_args.warmup_steps", "model.init_args.T_max"],
        ),
        (of_module(scheduler=COSINE, patience=4, depth=3), []),
        (of_module(my_schedule={"hot": 9, "patience": 4}), ["model.init_args.my_schedule.hot"]),
        ({"model": {"total_steps": 9, "width": 9}}, ["model.total_steps"]),  # of a fixed class
        ({"model": {"class_path": "lightning_qsgd.M", "init_args": {"warmup_steps": 9}}}, []),
        (
            {"optimizer": {"class_path": "mine.Free", "init_args": {"total_steps": 9, "lr": 2}}},
            ["optimizer.init_args.total_steps"],
        ),
        (
            {"data": {"class_path": "mine.Data", "init_args": {"epochs": 9, "batch": 9}}},
            ["data.init_args.epochs"],
        ),
        (
            of_callbacks(f"{LIGHTNINGS}StochasticWeightAveraging", swa_epoch_start=1),
            ["trainer.callbacks.init_args.swa_epoch_start"],
        ),
        (of_callbacks(f"{LIGHTNINGS}StochasticWeightAveraging", swa_epoch_start=0.8), []),
        (of_callbacks(f"{LIGHTNINGS}LearningRateFinder", num_training_steps=100), []),
        (
            of_callbacks(
                f"{LIGHTNINGS}GradientAccumulationScheduler", scheduling={0: 8, 4: 1, 6: 2}
            ),
            ["trainer.callbacks.init_args.scheduling"],
        ),
        (of_callbacks(f"{LIGHTNINGS}GradientAccumulationScheduler", scheduling={0: 8}), []),
        (
            of_callbacks("mine.Grow", max_epochs=8, size=3),
            ["trainer.callbacks.init_args.max_epochs"],
        ),
        ({"trainer": {"max_steps": 40, "callbacks": None}, "seed_everything": 7}, []),
    ],
)
def test_numbers_elsewhere_that_are_called_like_lengths_are_named(config, places):
    assert unshortened(config) == places


def test_a_decay_of_ones_own_is_a_schedule_too():
    decay = {"class_path": "mine.Decay", "init_args": {"hot": 9}}
    config = {"perturbation": {"strength": {"value": 1, "decay": decay}}}
    assert unshortened(config) == ["perturbation.strength.decay.init_args.hot"]


def test_a_schedule_that_may_not_end_is_named_in_console_plan_and_report(
    without_matplotlib, tmp_path
):
    schedule = own_schedule(T_max=200, hot=7)
    question = made_question(faster=schedule)
    console = Console(record=True, width=400, file=io.StringIO())
    (tmp_path / "out").mkdir()
    workshop = made_workshop(tmp_path / "out")
    provenance = Provenance(config=yaml.safe_dump({"runs": dict(question.configs)}))
    results = run_comparison(question, workshop, provenance, console)
    console.print(plan_table(question))
    said = console.export_text()
    words = "`lr_scheduler.init_args.hot` not shortened, since nothing tells what it counts."
    assert f"HORIZONS of faster: {words}" in said
    assert f"horizons of faster: {words}" in said
    assert "HORIZONS of alike" not in said
    _, markdown = written(results, tmp_path)
    assert f"**Horizons of `faster`:** {words}" in markdown
    assert "A schedule that a module makes by itself ends there only if" in markdown


def test_known_schedules_are_named_nowhere(without_matplotlib, tmp_path):
    question = made_question()
    assert question.unshortened == {}
    results = compared(question, tmp_path)
    _, markdown = written(results, tmp_path)
    assert "Horizons of `" not in markdown


def test_of_a_full_disk_the_first_error_counts(tmp_path, monkeypatch):
    saved = []

    def save(results, folder):
        saved.append(len(results.runs))
        if len(saved) > 1:
            raise OSError("the second")

    def failing(job):
        raise KeyboardInterrupt("the first")

    monkeypatch.setattr("lightning_qsgd.compare.run_comparison.save_results", save)
    with pytest.raises(KeyboardInterrupt, match="the first"):
        compared(made_question(), tmp_path, failing)
    assert len(saved) == 2

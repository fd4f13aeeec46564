"""A plan refuses what would make a comparison unfair or impossible."""

from dataclasses import replace

import numpy as np
import pytest

from lightning_qsgd.compare.planning import ArmPlan, Budget, GoalPlan, Plan, Range, Search
from lightning_qsgd.compare.planning.search import seed_list
from lightning_qsgd.compare.running import Running
from lightning_qsgd.training.convergence_callback import Goal

STEPS = Budget(max_steps=10)
BASE = {"adamw": ArmPlan(kind="baseline")}
TUNED = {"adamw": ArmPlan(kind="baseline", hyperparameters="tuned")}


def made_plan(arms, **fields):
    return Plan("digits.yaml", arms, STEPS, **fields)


@pytest.mark.parametrize("limits", [{}, {"max_steps": 1, "seconds": 1.0}])
def test_budget_has_exactly_one_limit(limits):
    with pytest.raises(ValueError, match=r"exactly one of `budget\.max_steps`"):
        Budget(**limits)


@pytest.mark.parametrize("limits", [{"max_steps": 0}, {"seconds": float("inf")}])
def test_budget_is_positive_and_finite(limits):
    with pytest.raises(ValueError, match="above 0 and finite"):
        Budget(**limits)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_steps": "8"}, "max_steps` to be a whole number, got '8'"),
        ({"max_steps": 4.5}, "max_steps` to be a whole number, got 4.5"),
        ({"max_epochs": True}, "max_epochs` to be a whole number, got True"),
        ({"max_epochs": [1]}, r"max_epochs` to be a whole number, got \[1\]"),
        ({"seconds": "60"}, "seconds` to be a number, got '60'"),
        ({"seconds": True}, "seconds` to be a number, got True"),
    ],
)
def test_budget_is_a_number(limits, words):
    with pytest.raises(ValueError, match=rf"Expected `budget\.{words}: .*Write it as a number"):
        Budget(**limits)


@pytest.mark.parametrize(
    ("budget", "words", "arguments"),
    [
        (Budget(max_steps=3), "3 steps", (3, -1, None)),
        (Budget(max_epochs=4), "4 epochs", (-1, 4, None)),
        (Budget(seconds=1.5), "1.5 seconds", (-1, -1, {"milliseconds": 1500})),
    ],
)
def test_budget_lifts_all_other_limits(budget, words, arguments):
    assert str(budget) == words
    assert tuple(budget.trainer_arguments.values()) == arguments


@pytest.mark.parametrize(
    ("seeds", "message"),
    [(0, "number of seeds"), ([], "number of seeds"), ([1, 1], "once"), ([-1], "between 0 and")],
)
def test_impossible_seeds_are_refused(seeds, message):
    with pytest.raises(ValueError, match=message):
        seed_list("seeds", seeds)


@pytest.mark.parametrize("seeds", ["8", ["a"], None, [0.5, 1, 2], True, [True, 2], 8.0, ["1", "2"]])
def test_seeds_that_are_no_whole_numbers_are_refused(seeds):
    with pytest.raises(ValueError, match=r"`seeds` to be the number of seeds or a list of seeds"):
        made_plan({**BASE, "sine": ArmPlan()}, seeds=seeds)


def test_seeds_of_numpy_and_ranges_are_seeds():
    assert seed_list("seeds", np.arange(2, 4)) == seed_list("seeds", range(2, 4)) == (2, 3)
    assert [type(seed) for seed in seed_list("seeds", np.arange(2))] == [int, int]
    assert seed_list("seeds", np.int64(2), 7) == (7, 8)


@pytest.mark.parametrize("name", ["trials", "sampler_seed", "extensions", "finalists"])
@pytest.mark.parametrize("value", ["3", 2.5, True, None])
def test_counts_of_a_search_are_whole_numbers(name, value):
    with pytest.raises(ValueError, match=rf"`tuning\.{name}` to be a whole number, got {value!r}"):
        Search(**{name: value})


def test_two_baselines_are_refused():
    with pytest.raises(ValueError, match="exactly one of `kind: baseline`"):
        made_plan({**BASE, "other": ArmPlan(kind="baseline")})


def test_a_baseline_alone_is_refused():
    with pytest.raises(ValueError, match="two arms or more"):
        made_plan(BASE)


@pytest.mark.parametrize("name", ["", "a/b", "..", "_mean"])
def test_an_arm_that_is_no_folder_is_refused(name):
    with pytest.raises(ValueError, match="to be the name of one folder"):
        made_plan({**BASE, name: ArmPlan()})


def test_controls_are_matched_to_their_arms():
    control = ArmPlan(kind="control", control_of=["sine"])
    plan = made_plan({**BASE, "sine": ArmPlan(description="d"), "noise": control})
    assert plan.arm("sine", "lines").controls == ("noise",)
    assert plan.arm("noise", "").kind == "control"
    assert plan.arm("adamw", "").kind == "baseline"


def test_a_control_of_a_misspelt_arm_is_refused():
    control = ArmPlan(kind="control", control_of=["sin"])
    with pytest.raises(ValueError, match="Did you mean 'sine'"):
        made_plan({**BASE, "sine": ArmPlan(), "noise": control})


def test_only_controls_are_matched():
    with pytest.raises(ValueError, match="Expected only controls to have `control_of`"):
        ArmPlan(control_of=["sine"])


def test_the_baseline_cannot_copy_itself():
    with pytest.raises(ValueError, match="cannot copy itself"):
        ArmPlan(kind="baseline", hyperparameters="of_baseline")


SAME = ArmPlan(kind="control", control_of=["sine"], hyperparameters="of_arm")
"""The baseline at the values that were found for an arm."""


@pytest.mark.parametrize(
    "fields", [{}, {"kind": "control"}, {"kind": "control", "control_of": ["sine", "lion"]}]
)
def test_only_a_control_of_one_arm_has_the_values_of_its_arm(fields):
    with pytest.raises(ValueError, match="in a control of one arm, got `control_of"):
        ArmPlan(hyperparameters="of_arm", **fields)


def test_the_arm_whose_values_a_control_takes_is_tuned():
    with pytest.raises(ValueError, match="Expected 'sine' to be tuned, since 'same' takes what"):
        made_plan({**TUNED, "sine": ArmPlan(), "same": SAME}, tuning=Search())


def test_the_control_that_takes_the_values_of_an_arm_leaves_with_it():
    sine = ArmPlan(hyperparameters="tuned")
    arms = {**TUNED, "same": SAME, "sine": sine, "lion": sine}
    plan = made_plan(arms, tuning=Search())
    assert plan.searched("same") == "sine"
    assert list(plan.with_arms(skip=["sine"]).arms) == ["adamw", "lion"]
    assert list(plan.with_arms(only=["sine"]).arms) == ["adamw", "same", "sine"]
    both = plan.with_arms(only=["lion", "sine", "same"], skip=["same"])
    assert list(both.arms) == ["adamw", "sine", "lion"]


@pytest.mark.parametrize(
    ("only", "skip"), [(["same"], []), (["lion", "same"], []), (["sine", "same"], ["sine"])]
)
def test_a_control_that_is_asked_for_does_not_go_with_an_arm_that_is_not(only, skip):
    sine = ArmPlan(hyperparameters="tuned")
    plan = made_plan({**TUNED, "same": SAME, "sine": sine, "lion": sine}, tuning=Search())
    message = "Expected 'sine' beside its control 'same', .* Name 'sine' behind `--only`"
    with pytest.raises(ValueError, match=message):
        plan.with_arms(only, skip)


@pytest.mark.parametrize("hyperparameters", ["tuned", "of_baseline"])
def test_an_arm_is_not_tuned_without_the_baseline(hyperparameters):
    arms = {**BASE, "sine": ArmPlan(hyperparameters=hyperparameters)}
    with pytest.raises(ValueError, match="a search that the baseline was denied"):
        made_plan(arms, tuning=Search())


def test_tuning_says_what_to_search():
    with pytest.raises(ValueError, match="Expected `tuning`, since"):
        made_plan({**TUNED, "sine": ArmPlan()})


@pytest.mark.parametrize("missing", ["lr", "weight_decay"])
def test_learning_rate_and_weight_decay_are_always_tuned(missing):
    space = {"lr": Range(1e-4, 1e-1), "weight_decay": Range(1e-4, 1e-1)}
    del space[missing]
    with pytest.raises(ValueError, match=f"got no {missing}"):
        Search(space)


def test_a_search_without_trials_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Search(trials=0)


@pytest.mark.parametrize(
    ("bounds", "message"), [((1.0, 1.0), "`low` below `high`"), ((0.0, 1.0), "no logarithm")]
)
def test_an_impossible_range_is_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        Range(*bounds)


@pytest.mark.parametrize(
    "fields",
    [
        {"tuning": Search(seeds=[3, 15])},
        {"tuning": Search(), "goal": GoalPlan(target="from_baseline", target_seeds=[15])},
        {
            "tuning": Search(seeds=[20]),
            "goal": GoalPlan(target="from_baseline", target_seeds=[20]),
        },
    ],
)
def test_seeds_serve_one_purpose(fields):
    with pytest.raises(ValueError, match="no seed in common"):
        made_plan({**TUNED, "sine": ArmPlan()}, **fields)


def test_default_blocks_of_seeds_are_disjoint():
    plan = made_plan(
        {**TUNED, "sine": ArmPlan()}, tuning=Search(), goal=GoalPlan(target="from_baseline")
    )
    blocks = [plan.seed_block, plan.tuning.seed_block, plan.goal.seeds]
    assert [len(block) for block in blocks] == [16, 3, 5]
    assert len({seed for block in blocks for seed in block}) == 24


def test_goal_keeps_what_it_does_not_name():
    own = Goal(metric="val/loss", higher_is_better=False, target=0.1)
    assert GoalPlan().resolve(own) == own
    assert GoalPlan(metric="val/f1", higher_is_better=True).resolve(own).loss == "train/loss"
    assert GoalPlan(target="from_baseline").resolve(own).target is None


def test_another_metric_takes_neither_target_nor_direction_from_the_experiment():
    own = Goal(metric="val/accuracy", target=0.9)
    goal = GoalPlan(metric="val/loss").resolve(own)
    assert (goal.higher_is_better, goal.target) == (False, None)
    assert GoalPlan(metric="val/loss", target=0.3).resolve(own).target == 0.3
    with pytest.raises(ValueError, match=r"`goal.higher_is_better` beside `goal.metric: score`"):
        GoalPlan(metric="score").resolve(own)


@pytest.mark.parametrize("plan", [GoalPlan(), GoalPlan(metric="val/energy", target=0.5)])
def test_a_direction_that_nobody_said_is_not_taken_from_the_experiment(plan):
    own = Goal(metric="val/energy")
    with pytest.raises(
        ValueError, match=r"`goal.metric: val/energy`: the experiment's says nothing"
    ):
        plan.resolve(own)
    for said in (True, False):
        assert replace(plan, higher_is_better=said).resolve(own).higher_is_better is said
        assert plan.resolve(replace(own, higher_is_better=said)).higher_is_better is said
    assert GoalPlan(metric="val/f1").resolve(own).higher_is_better


def test_paths_of_hyperparameters():
    space = {
        "lr": Range(1e-4, 1e-1, path="model.init_args.learning_rate"),
        "weight_decay": Range(1e-4, 1e-1),
        "perturbation.strength": Range(0.1, 1.0),
    }
    config = {
        "model": {"init_args": {"learning_rate": 0.1}},
        "optimizer": {"init_args": {"weight_decay": 0.1, "betas": [0.9, 0.99]}},
        "perturbation": {"strength": 0.5},
    }
    found = Search(space).space_of("adamw", config, {}, strict=True)
    assert {name: span.path for name, span in found.items()} == {
        "lr": "model.init_args.learning_rate",
        "weight_decay": "optimizer.init_args.weight_decay",
        "perturbation.strength": "perturbation.strength",
        "beta1": "optimizer.init_args.betas.0",
    }


@pytest.mark.parametrize(
    ("optimizer", "place"),
    [({"betas": [0.9, 0.99]}, "betas.0"), ({"momentum": 0.0}, "momentum"), ({"eps": 1.0}, None)],
)
def test_momentum_is_searched_wherever_an_optimizer_has_it(optimizer, place):
    config = {"optimizer": {"init_args": {"lr": 0.1, "weight_decay": 0.0, **optimizer}}}
    found = Search().space_of("sgd", config, {})
    assert ("beta1" in found) == (place is not None)
    if place is not None:
        assert found["beta1"].path == f"optimizer.init_args.{place}"


def test_an_arm_goes_without_what_it_does_not_have_and_the_baseline_may_not():
    config = {"optimizer": {"init_args": {"lr": 0.1}}}
    assert list(Search().space_of("equation_1", config, {})) == ["lr"]
    with pytest.raises(ValueError, match=r"Cannot set `optimizer\.init_args\.weight_decay` of the"):
        Search().space_of("adamw", config, {}, strict=True)
    with pytest.raises(ValueError, match=r"Cannot set `optimizer\.init_args\.betas\.0` of the arm"):
        Search().space_of("mine", config, {"beta1": Range(0.1, 0.9, "complement")})
    with pytest.raises(ValueError, match=r"Cannot set `optimizer\.init_args\.lr` of the arm"):
        Search().space_of("mine", {"optimizer": None}, {})


def test_a_range_of_the_arms_own_stands_in_front():
    config = {"optimizer": {"init_args": {"lr": 0.1, "weight_decay": 0.1}}}
    found = Search().space_of("lion", config, {"lr": Range(1e-6, 1e-3)})
    assert (found["lr"].low, found["lr"].high) == (1e-6, 1e-3)
    with pytest.raises(ValueError, match=r"`space` only with `hyperparameters: tuned`"):
        ArmPlan(space={"lr": Range(1e-6, 1e-3)})


@pytest.mark.parametrize(
    ("span", "end", "expected"),
    [
        (Range(1e-3, 1e-1), "low", (1e-4, 1e-1)),
        (Range(0.0, 1.0, "linear"), "high", (0.0, 1.5)),
        (Range(0.0, 1.0, "linear"), "low", (0.0, 1.0)),
        (Range(-1.0, 1.0, "linear"), "low", (-2.0, 1.0)),
        (Range(0.84, 0.99, "complement"), "high", (0.84, 0.9975)),
        (Range(0.5, 0.98, "complement"), "low", (0.0, 0.98)),
        (Range(2, 16, integer=True), "low", (1, 16)),
        (Range(2, 16, integer=True), "high", (2, 46)),
        (Range(1, 4, "linear", integer=True), "low", (1, 4)),
        (Range(0, 3, "linear", integer=True), "high", (0, 5)),
    ],
)
def test_a_range_widens_at_one_end_and_stays_possible(span, end, expected):
    wider = span.widened(end)
    assert (wider.low, wider.high) == pytest.approx(expected)


def test_a_range_of_whole_numbers_holds_no_others():
    span = Range(2.0, 16.0, integer=True)
    found = [span.clipped(value) for value in (0.1, 9.69, 99.0)]
    assert found == [2, 10, 16]
    assert {type(value) for value in found} == {int}
    with pytest.raises(ValueError, match=r"whole numbers as `low` and `high` .* got \[0.5, 3\]"):
        Range(0.5, 3, integer=True)


def test_momentum_of_one_has_no_logarithm():
    with pytest.raises(ValueError, match=r"from 0 to below 1 with `scale: complement`"):
        Range(0.5, 1.0, "complement")
    with pytest.raises(ValueError, match=r"`tuning\.extensions` to be 0 or more, got -1"):
        Search(extensions=-1)


def test_impossible_running_is_refused():
    with pytest.raises(ValueError, match="`processes` to be at least 1, got 0"):
        Running(processes=0)
    with pytest.raises(ValueError, match="Add `executor: ray`"):
        Running(address="auto")

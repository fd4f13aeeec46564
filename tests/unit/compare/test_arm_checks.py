"""Arms that would be compared wrongly, or not at all."""

import pytest

from lightning_qsgd.cli.arm_configs import (
    refuse_copies,
    refuse_other_validation,
    refuse_what_is_fixed,
)
from lightning_qsgd.compare.planning import ArmPlan, Budget, Plan, Range, Search
from lightning_qsgd.compare.planning.question import FIXED, Question
from lightning_qsgd.compare.results.results import TunedArm, TunedValue
from lightning_qsgd.training.convergence_callback import Goal


def nested(path, value):
    *parents, last = path.split(".")
    config = {last: value}
    for name in reversed(parents):
        config = {name: config}
    return config


def made_plan(**arm):
    tuned = ArmPlan(kind="baseline", hyperparameters="tuned")
    return Plan(
        "x.yaml", {"base": tuned, "arm": ArmPlan(**arm)}, Budget(max_steps=1), tuning=Search()
    )


@pytest.mark.parametrize("place", FIXED)
def test_what_all_arms_share_is_no_arms_to_change(place):
    with pytest.raises(ValueError, match=f"'odd' to leave `{place}` alone.*Set {FIXED[place]}"):
        refuse_what_is_fixed("odd", nested(place, 7), nested(place, 1))


def test_a_limit_inside_a_limit_is_seen():
    with pytest.raises(ValueError, match=r"leave `trainer.max_time` alone"):
        refuse_what_is_fixed(
            "odd", nested("trainer.max_time.hours", 1), nested("trainer.max_time.hours", 2)
        )


def test_everything_else_is():
    refuse_what_is_fixed("odd", nested("trainer.max_norm", 7), nested("trainer.max_norm", 1))
    refuse_what_is_fixed("odd", nested("trainer.max_steps", 7), nested("trainer.max_steps", 7))


@pytest.mark.parametrize("hyperparameters", ["tuned", "of_baseline"])
def test_an_arm_that_trains_like_the_baseline_is_refused(hyperparameters):
    plan = made_plan(hyperparameters=hyperparameters)
    with pytest.raises(ValueError, match="'arm' to differ from the baseline 'base'"):
        refuse_copies(plan, {"base": {"lr": 1.0}, "arm": {"lr": 1.0}})


@pytest.mark.parametrize(
    ("arm", "rate"),
    [
        ({"hyperparameters": "given"}, 1.0),  # the baseline's are tuned
        ({"hyperparameters": "of_baseline"}, 2.0),
        ({"hyperparameters": "of_baseline", "must_equal_baseline": True}, 1.0),
    ],
)
def test_an_arm_that_differs_or_must_not_is_welcome(arm, rate):
    refuse_copies(made_plan(**arm), {"base": {"lr": 1.0}, "arm": {"lr": rate}})


BEST = {"lr": 0.011, "weight_decay": 0.22, "inner": 0.044}


def made_question(space, configs, **arms):
    """Two optimizers that are tuned, the ranges of the one's own, and arms that take values."""
    own = {name: Range(1e-4, 1.0, path=place) for name, place in space.items()}
    tuned = {
        "base": ArmPlan(kind="baseline", hyperparameters="tuned", space=own),
        "mine": ArmPlan(hyperparameters="tuned", space=own),
    }
    plan = Plan("x.yaml", {**tuned, **arms}, Budget(max_steps=1), tuning=Search())
    whole = {name: {"optimizer": {"init_args": configs.get(name, OWN)}} for name in plan.arms}
    return Question("made", plan, Goal(), whole, dict.fromkeys(plan.arms, ""))


def values(question, source):
    found = [
        TunedValue(name, span.low, span.high, BEST[name], span.scale)
        for name, span in question.space_of(source).items()
    ]
    return {source: TunedArm(source, 1, (1,), tuple(found), 0.0)}


OWN = {"lr": 1.0, "weight_decay": 1.0, "inner_lr": 1.0}
SPACE = {"inner": "optimizer.init_args.inner_lr"}
TAKING = {
    "base": ArmPlan(hyperparameters="of_baseline"),
    "mine": ArmPlan(kind="control", control_of=["mine"], hyperparameters="of_arm"),
}


@pytest.mark.parametrize("source", TAKING)
def test_an_arm_takes_what_was_found_in_the_ranges_of_the_others_own(source):
    question = made_question(SPACE, {}, taker=TAKING[source])
    assert question.chosen("taker", values(question, source)) == {
        "optimizer.init_args.lr": 0.011,
        "optimizer.init_args.weight_decay": 0.22,
        "optimizer.init_args.inner_lr": 0.044,
    }
    assert question.lacks("taker") == ()


@pytest.mark.parametrize("source", TAKING)
def test_an_arm_goes_without_a_value_that_it_has_no_place_for(source):
    configs = {"taker": {"lr": 1.0, "weight_decay": 1.0}}
    question = made_question(SPACE, configs, taker=TAKING[source])
    assert "optimizer.init_args.inner_lr" not in question.chosen("taker", values(question, source))
    assert question.lacks("taker") == ("inner",)


def test_an_arm_that_has_no_place_for_any_value_is_refused_before_a_run():
    with pytest.raises(ValueError, match=r"Cannot set `optimizer\.init_args\.lr` of the arm 'tak"):
        made_question(SPACE, {"taker": {"eps": 1.0}}, taker=TAKING["base"])


def test_two_ranges_for_one_place_are_refused():
    with pytest.raises(ValueError, match=r"one range for `optimizer\.init_args\.lr` in .* 'base'"):
        made_question({"my_lr": "optimizer.init_args.lr"}, {})
    made_question({"lr": "optimizer.init_args.lr"}, {})  # in front of the shared one


def test_an_arm_that_is_measured_on_other_batches_is_refused():
    own, other = nested("trainer.limit_val_batches", 4), nested("trainer.limit_val_batches", 2)
    refuse_other_validation(made_plan(), {"base": own, "arm": own})
    message = r"'arm' to be measured like the baseline 'base', .* of 4, got 2.*in `experiment`"
    with pytest.raises(ValueError, match=message):
        refuse_other_validation(made_plan(), {"base": own, "arm": other})

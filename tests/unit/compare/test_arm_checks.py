"""Arms that would be compared wrongly, or not at all."""

import pytest

from lightning_qsgd.compare.planning import ArmPlan, Budget, Plan, Search
from lightning_qsgd.compare.planning.question import FIXED, refuse_copies, refuse_what_is_fixed


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

"""What an arm of a comparison may not be, seen before anything runs."""

from collections.abc import Mapping
from typing import Any

from lightning_qsgd.compare.planning.job import differences
from lightning_qsgd.compare.planning.plan import Plan

FIXED = {
    "seed_everything": "`seeds`",
    "trainer.max_steps": "`budget`",
    "trainer.max_epochs": "`budget`",
    "trainer.max_time": "`budget`",
    "goal.metric": "`goal`",
    "goal.loss": "`goal`",
    "goal.target": "`goal`",
    "goal.higher_is_better": "`goal`",
}
"""What all arms share, and the key of the comparison that says it."""

Config = Mapping[str, Any]


def refuse_what_is_fixed(arm: str, config: Config, experiment: Config) -> None:
    """Refuse an overlay whose value the comparison would silently replace.

    Args:
        arm: Name of the arm.
        config: The experiment with the arm's overlay, plain values.
        experiment: The experiment alone.

    Raises:
        ValueError: If the overlay sets the seed, the budget or the goal.

    Example:
        >>> refuse_what_is_fixed("sine", {"trainer": {"max_steps": 5}}, {"trainer": {}})
        Traceback (most recent call last):
        ...
        ValueError: Expected the arm 'sine' to leave `trainer.max_steps` alone: ...
    """
    changed = {place.split(":")[0] for place in differences(experiment, config)}
    for place, key in FIXED.items():
        if place in changed or any(name.startswith(f"{place}.") for name in changed):
            raise ValueError(
                f"Expected the arm {arm!r} to leave `{place}` alone: it is the same for all arms, "
                f"or they would not be compared with each other. Set {key} of the comparison."
            )


def refuse_copies(plan: Plan, configs: Mapping[str, Config]) -> None:
    """Refuse an arm that does what the baseline does, unless it is meant to.

    Args:
        plan: The arms, and where they take their hyperparameters from.
        configs: Configuration of the run by arm.

    Raises:
        ValueError: If an arm and the baseline would train alike.

    Example:
        >>> from lightning_qsgd.compare.planning import ArmPlan, Budget
        >>> arms = {"adamw": ArmPlan(kind="baseline"), "copy": ArmPlan()}
        >>> plan = Plan("digits.yaml", arms, Budget(max_steps=1))
        >>> refuse_copies(plan, {"adamw": {"lr": 1.0}, "copy": {"lr": 1.0}})
        Traceback (most recent call last):
        ...
        ValueError: Expected the arm 'copy' to differ from the baseline 'adamw': ...
    """
    own = plan.arms[plan.baseline].hyperparameters
    for name, arm in plan.arms.items():
        alike = arm.hyperparameters in (own, "of_baseline") and not arm.must_equal_baseline
        if name != plan.baseline and alike and configs[name] == configs[plan.baseline]:
            raise ValueError(
                f"Expected the arm {name!r} to differ from the baseline {plan.baseline!r}: its "
                "configuration is the same, so it would train the same. Give it an `overlay` that "
                "changes something, or add `must_equal_baseline: true` to check just that."
            )

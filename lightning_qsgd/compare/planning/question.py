"""A plan with all that it refers to, and what its arms may not be."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_qsgd.compare.planning.job import (
    RUNS,
    Job,
    differences,
    horizon_block,
    lost_parts,
    shortened,
    words_for_unshortened,
)
from lightning_qsgd.compare.planning.plan import Plan
from lightning_qsgd.compare.planning.search import Range
from lightning_qsgd.compare.results.published import Published
from lightning_qsgd.compare.results.results import TunedArm
from lightning_qsgd.compare.statistics import Design, Method
from lightning_qsgd.training.convergence_callback import Goal


@dataclass(frozen=True)
class Question:
    """A plan, with all that it refers to.

    Attributes:
        name: Name of the experiment.
        plan: What the config says.
        goal: What runs are judged by; its target may yet have to be measured.
        configs: Configuration of the run by arm: plain values, budget included.
        overlays: The lines that make each arm what it is.
        published: Figures of others that the report shows beside the measured ones.

    Raises:
        ValueError: If figures are of an arm that is not compared, an arm lacks what is tuned, a
            search would set what all arms share, or there are horizons and no target.
    """

    name: str
    plan: Plan
    goal: Goal
    configs: Mapping[str, Mapping[str, Any]]
    overlays: Mapping[str, str]
    published: Published = field(default_factory=Published)

    def __post_init__(self) -> None:
        self.published.require_known(self.plan.arms)
        for name in self.plan.arms:
            refuse_search_of_fixed(self.plan, name, self.space_of(name))
        if self.plan.horizons and self.goal.target is None and not self.plan.goal.seeds:
            raise ValueError(
                f"Expected a target with `horizons`, got none: the runs of {self.plan.horizons} of "
                "the budget are there to find out how soon it is reached. Write `goal: {target: "
                "from_baseline}`, or a value of the metric."
            )

    @property
    def design(self) -> Design:
        """What the seeds and the arms on trial can see."""
        on_trial = [arm for arm in self.plan.arms.values() if arm.kind == "arm"]
        return Design(len(self.plan.seed_block), len(on_trial), Method(self.plan.alpha))

    def space_of(self, arm: str) -> dict[str, Range]:
        """Return the ranges that an arm's values are from, with the places of its configuration.

        A tuned arm is searched in them; those of the baseline must all be there. An arm that takes
        the values of another has that one's ranges, as far as it has their places. With given
        values there are none.
        """
        plan, source = self.plan, self.plan.searched(arm)
        if plan.tuning is None or source is None:
            return {}
        own, config = plan.arms[source].space, self.configs[arm]
        if source == arm:
            return plan.tuning.space_of(arm, config, own, strict=arm == plan.baseline)
        taken = replace(plan.tuning, space={**plan.tuning.space, **own})
        return taken.space_of(arm, config, {})

    def lacks(self, arm: str) -> tuple[str, ...]:
        """Name what is tuned for the baseline, and not for an arm whose values are not given."""
        if self.plan.tuning is None or self.plan.arms[arm].hyperparameters == "given":
            return ()
        return tuple(
            name for name in self.space_of(self.plan.baseline) if name not in self.space_of(arm)
        )

    def remarks(self, arm: str) -> tuple[str, ...]:
        """Say what sets an arm apart from the baseline besides what its overlay says."""
        baseline = self.plan.baseline
        ours, theirs = self.configs[arm], self.configs[baseline]
        gone = [
            f"It goes without {' and '.join(f'`{name}`' for name in lost)} in `{place}`, which "
            f"`{baseline}` has."
            for place, lost in lost_parts(theirs, ours).items()
        ]
        trainers = [config.get("trainer") or {} for config in (theirs, ours)]
        pairs = {name: tuple(trainer.get(name) for trainer in trainers) for name in SPENDING}
        spent = [
            f"Its `trainer.{name}` is {own}, that of `{baseline}` {other}: at the same budget it "
            "may see more of the data, or less."
            for name, (other, own) in pairs.items()
            if own != other
        ]
        return (*gone, *spent)

    def chosen(self, arm: str, tuned: Mapping[str, TunedArm]) -> dict[str, float]:
        """Return the values of an arm by place in its configuration, from whosever search it is.

        Args:
            arm: Name of the arm.
            tuned: What was chosen for each tuned arm.
        """
        found = tuned.get(self.plan.searched(arm) or "")
        if found is None:
            return {}
        places = {name: str(span.path) for name, span in self.space_of(arm).items()}
        return {places[v.name]: v.best for v in found.values if v.name in places}

    def jobs(
        self, configs: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], block: str = RUNS
    ) -> list[Job]:
        """List runs, seed by seed, so that an interrupted comparison holds whole pairs."""
        return [
            Job(arm, seed, {**config, "seed_everything": seed}, block)
            for seed in seeds
            for arm, config in configs.items()
        ]

    @property
    def unshortened(self) -> dict[str, str]:
        """What of an arm's schedule may not end with its shorter runs, in words; by arm."""
        arms = self.plan.on_horizons if self.plan.horizons else ()
        return words_for_unshortened({arm: self.configs[arm] for arm in arms})

    def horizon_jobs(self, configs: Mapping[str, Mapping[str, Any]]) -> list[Job]:
        """List the runs that end earlier, of the baseline and the arms on trial.

        Args:
            configs: Configuration of the whole run by arm, with tuned values; an arm that is not
                there is not run.
        """
        plan = self.plan
        return [
            job
            for length in plan.horizon_lengths
            for job in self.jobs(
                {
                    arm: shortened(
                        configs[arm],
                        plan.budget.of_length(length).trainer_arguments,
                        length / (plan.budget.length or 1),
                    )
                    for arm in plan.on_horizons
                    if arm in configs
                },
                plan.seed_block,
                horizon_block(length),
            )
        ]


FIXED = {
    "seed_everything": "`seeds`",
    "trainer.max_steps": "`budget`",
    "trainer.max_epochs": "`budget`",
    "trainer.max_time": "`budget`",
    "trainer.min_steps": "it in `experiment`",  # they outlast a budget of seconds
    "trainer.min_epochs": "it in `experiment`",
    "goal.metric": "`goal`",
    "goal.loss": "`goal`",
    "goal.target": "`goal`",
    "goal.higher_is_better": "`goal`",
}
"""What all arms share, and the key of the comparison that says it."""

SPENDING = ("accumulate_grad_batches", "limit_train_batches", "overfit_batches")
"""Arguments of the trainer that say how much data a step or an epoch takes."""

MEASURING = (
    *("limit_train_batches", "limit_val_batches", "overfit_batches"),
    *("val_check_interval", "check_val_every_n_epoch"),
)
"""Arguments of the trainer that say on what, and how often, a run is trained and judged."""

Config = Mapping[str, Any]


def refuse_search_of_fixed(plan: Plan, arm: str, space: Mapping[str, Range]) -> None:
    """Refuse a search that would set for one arm what all arms share.

    Args:
        plan: The arms and the budget.
        arm: Name of the arm.
        space: Ranges that its values are from, with their places.

    Raises:
        ValueError: If a range is of the seed, the budget, the goal or what runs are judged by, or
            lets an arm of its own choose how much data a step takes.

    Example:
        >>> from lightning_qsgd.compare.planning import ArmPlan, Budget
        >>> arms = {"adamw": ArmPlan(kind="baseline"), "sine": ArmPlan()}
        >>> plan = Plan("digits.yaml", arms, Budget(max_epochs=1))
        >>> longer = Range(8, 12, integer=True, path="trainer.max_epochs")
        >>> refuse_search_of_fixed(plan, "sine", {"longer": longer})
        Traceback (most recent call last):
        ...
        ValueError: Expected the range 'longer' of the arm 'sine' to leave `trainer.max_epochs` ...
    """
    measuring = dict.fromkeys((f"trainer.{name}" for name in MEASURING), "it in `experiment`")
    spending = {"trainer.accumulate_grad_batches": "it in `experiment`, or `budget.max_epochs`"}
    spends = plan.budget.max_steps is not None and arm != plan.baseline
    for name, span in space.items():
        path = str(span.path)
        own = spending if spends and name in plan.arms[arm].space else {}
        fixed = {**FIXED, **measuring, **own}
        place = next((one for one in fixed if path == one or path.startswith(f"{one}.")), None)
        if place is not None:
            raise ValueError(
                f"Expected the range {name!r} of the arm {arm!r} to leave `{place}` alone, got "
                f"`path: {path}`: a search would give the arm more than the baseline has, or judge "
                f"it by something else. Take the range out, and set {fixed[place]} of the "
                "comparison."
            )


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


def refuse_checkpoint(what: str, config: Config) -> None:
    """Refuse a run that goes on from a checkpoint, which no run of a comparison does.

    Args:
        what: Whose configuration it is, for the message.
        config: Configuration of the subcommand `fit`, plain values.

    Raises:
        ValueError: If it names a checkpoint.

    Example:
        >>> refuse_checkpoint("the experiment", {"ckpt_path": "a.ckpt"})
        Traceback (most recent call last):
        ...
        ValueError: Expected no `ckpt_path` in the experiment, got 'a.ckpt': ...
    """
    if config.get("ckpt_path") is not None:
        raise ValueError(
            f"Expected no `ckpt_path` in {what}, got {config['ckpt_path']!r}: it holds the step, "
            "the optimizer and the random state of one run, and a comparison starts the runs of "
            "every arm and seed anew. Leave it out, and let the module load weights in its "
            "`__init__` if all runs are to start from them."
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


def refuse_other_validation(plan: Plan, configs: Mapping[str, Config]) -> None:
    """Refuse an arm that is measured on more or fewer batches than the baseline.

    Args:
        plan: The arms.
        configs: Configuration of the run by arm.

    Raises:
        ValueError: If there is such an arm.
    """
    trainers = {name: config.get("trainer") or {} for name, config in configs.items()}
    expected = trainers[plan.baseline].get("limit_val_batches")
    for name in plan.arms:
        if (found := trainers[name].get("limit_val_batches")) != expected:
            raise ValueError(
                f"Expected the arm {name!r} to be measured like the baseline {plan.baseline!r}, "
                f"with `trainer.limit_val_batches` of {expected}, got {found}: a gain could be due "
                "to easier data. Set it in `experiment`, for all arms."
            )


def refuse_other_base(
    plan: Plan, configs: Mapping[str, Config], names_own: Collection[str]
) -> None:
    """Refuse a perturbed arm that goes around another optimizer than the baseline's by accident.

    The baseline's overlay may replace the experiment's optimizer, say Adam by AdamW. An arm whose
    overlay names none keeps the experiment's: its gain would be that of two changes.

    Args:
        plan: The arms, and where they take their hyperparameters from.
        configs: Configuration of the run by arm.
        names_own: Names of the arms whose overlays name an optimizer.

    Raises:
        ValueError: If there is such an arm; a reference may be one.
    """
    classes = {
        name: (own.get("optimizer") or {}).get("class_path") for name, own in configs.items()
    }
    expected = classes[plan.baseline]
    for name, arm in plan.arms.items():
        added = configs[name].get("perturbation") is not None
        concerned = (added or arm.hyperparameters == "of_baseline") and arm.kind != "reference"
        if concerned and name not in names_own and classes[name] != expected:
            raise ValueError(
                f"Expected the arm {name!r} to go around {expected}, the optimizer of the baseline "
                f"{plan.baseline!r}, got {classes[name]} of the experiment: a gain could be due to "
                "either. Add the baseline's optimizer to `experiment`, as in "
                "`[my_experiment.yaml, bases/adamw]`, or name an optimizer in the arm's overlay."
            )


def refuse_dropped_parts(plan: Plan, base: Config, configs: Mapping[str, Config]) -> None:
    """Refuse an overlay that replaces a list of the trainer's, and drops what the others keep.

    Args:
        plan: The arms, and what they are meant to go without.
        base: Configuration of the experiment.
        configs: Configuration of the run by arm.

    Raises:
        ValueError: If an arm loses a callback or a plugin that the baseline keeps, or the baseline
            one that an arm keeps; a reference may.
    """
    lost = {name: lost_parts(base, config) for name, config in configs.items()}
    for name, arm in plan.arms.items():
        peers = [plan.baseline] if name != plan.baseline else [*plan.arms]
        for place, classes in lost[name].items() if arm.kind != "reference" else ():
            for peer in peers if place.startswith("trainer.") else ():
                more = (Counter(classes) - Counter(lost[peer].get(place, ()))).elements()
                gone = [path for path in more if not is_named(path, arm.without)]
                if gone:
                    raise ValueError(_words_for_dropped(name, peer, place, gone))


def _words_for_dropped(name: str, peer: str, place: str, gone: Sequence[str]) -> str:
    classes = ", ".join(path.rpartition(".")[-1] for path in gone)
    return (
        f"Expected the arm {name!r} to keep {classes} of the experiment's `{place}`, got an "
        f"overlay that replaces the list, while {peer!r} trains with it: a gain could be due to "
        f"either. Write `{place.rpartition('.')[-1]}+` in the overlay to add to the list, or "
        f"`without: [{classes}]` in the arm if it is meant."
    )


def is_named(path: str, names: Collection[str]) -> bool:
    """Whether names hold a class path, or its last part."""
    return path in names or path.rpartition(".")[-1] in names

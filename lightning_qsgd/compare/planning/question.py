"""A plan with all that it refers to, and what its arms may not be once they have trained a step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_qsgd.compare.planning.job import (
    LISTS,
    RUNS,
    Job,
    differences,
    horizon_block,
    lost_parts,
    shortened,
    words_for_unshortened,
)
from lightning_qsgd.compare.planning.plan import ArmPlan, Plan
from lightning_qsgd.compare.planning.search import Range
from lightning_qsgd.compare.results.published import Published
from lightning_qsgd.compare.results.results import TunedArm
from lightning_qsgd.compare.statistics import Design, Method
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.wrapping import EVERY, classes_of, follows_schedule, has_parts


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
        experiment: Configuration of the run without any overlay; empty if unknown.

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
    experiment: Mapping[str, Any] = field(default_factory=dict)

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
        pairs = {name: [trainer.get(name) for trainer in trainers] for name in SPENDING | CHECKING}
        apart = [
            f"Its `trainer.{name}` is {own}, that of `{baseline}` {other}: "
            f"{(SPENDING | CHECKING)[name]}"
            for name, (other, own) in pairs.items()
            if own != other
        ]
        return (*gone, *apart, *self._left_behind(arm))

    def _left_behind(self, arm: str) -> list[str]:
        """Say what the baseline's overlay sets that an arm leaves as the experiment has it.

        What is tuned for the arm is not asked, and neither are arguments of another optimizer, nor
        what a reference does.
        """
        asked, baseline = self.plan.arms[arm], self.plan.baseline
        if not self.experiment or arm == baseline or asked.kind == "reference":
            return []
        own = changed_places(self.experiment, self.configs[arm])
        own += [str(span.path) for span in self.space_of(arm).values()]
        left = [
            f"`{place}`"
            for place in changed_places(self.experiment, self.configs[baseline])
            if place.partition(".")[0] in SHARED and place not in NAMED
            if not any(place == one or place.startswith(f"{one}.") for one in own)
        ]
        words = f"The overlay of `{baseline}` sets {', '.join(left)}, which this arm has as the "
        return [f"{words}experiment does: a difference may be due to that."] if left else []

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

_SPENT = "at the same budget it may see more of the data, or less."
_CHECKED = (
    "steps, epochs and seconds to the target and the best value are read at other moments of "
    "training, and a step may take another time beside another number of validations."
)

SPENDING = dict.fromkeys(
    ("accumulate_grad_batches", "limit_train_batches", "overfit_batches"), _SPENT
)
"""Arguments of the trainer that say how much data a step or an epoch takes, and what of it."""

CHECKING = dict.fromkeys(("val_check_interval", "check_val_every_n_epoch"), _CHECKED)
"""Arguments of the trainer that say when a run is judged, and what of it."""

SHARED = ("model", "data", "trainer", "optimizer", "lr_scheduler")
"""Parts of a configuration in which an arm is expected to go with the baseline."""

NAMED = (*LISTS, *(f"trainer.{name}" for name in (*SPENDING, *CHECKING)))
"""Places of which something else is said."""

MEASURING = ("limit_train_batches", "limit_val_batches", "overfit_batches", *CHECKING)
"""Arguments of the trainer that say on what, and how often, a run is trained and judged."""


def changed_places(old: Any, new: Any) -> list[str]:
    """Name the places at which two configurations differ; of another class that of the whole.

    Example:
        >>> changed_places({"model": {"lr": 1}}, {"model": {"lr": 2}})
        ['model.lr']
        >>> sgd = {"class_path": "SGD", "init_args": {"lr": 1}}
        >>> changed_places({"optimizer": sgd}, {"optimizer": {"class_path": "Adam"}})
        ['optimizer']
    """
    places = [words.partition(": ")[0] for words in differences(old, new)]
    wholes = [one.removesuffix(CLASS) for one in places if one.endswith(CLASS)]
    return [*wholes, *(p for p in places if not any(p.startswith(f"{one}.") for one in wholes))]


CLASS = ".class_path"


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


OWN_RECIPE = "configure_optimizers"
"""How a plan says that an arm is meant to go without what the module's own method makes."""


def is_meant(arm: ArmPlan) -> bool:
    """Whether an arm is meant to go without what the module's own method makes."""
    return OWN_RECIPE in arm.without


def own_and_named(question: Question, arm: str) -> tuple[str, str] | None:
    """Tell which of an arm and the baseline runs the module's own optimizers, if only one does.

    Returns:
        That one, then the one whose config names an optimizer in their place; else None.
    """
    pair = [question.plan.baseline, arm]
    named = [name for name in pair if question.configs[name].get("optimizer")]
    if len(named) != 1:
        return None
    pair.remove(named[0])
    return pair[0], named[0]


def refuse_lost_recipe(question: Question, trained: Mapping[str, str]) -> None:
    """Refuse an optimizer that takes the schedule of the module's own `configure_optimizers` away.

    LightningCLI calls the module's method only where the config names no optimizer. A method that
    makes one plain optimizer loses nothing but its settings, which the arm is there to change.

    Args:
        question: The arms, and what they are meant to go without.
        trained: What trained an arm, as `describe_optimizers` says it; an arm may be missing.

    Raises:
        ValueError: If an arm and the baseline differ in more than the optimizer; a reference may.
    """
    for arm, asked in question.plan.arms.items():
        pair = own_and_named(question, arm)
        if pair is None or asked.kind == "reference":
            continue
        own, other = pair
        config, words = question.configs[other], trained.get(own, "")
        loses_schedule = follows_schedule(words) and config.get("lr_scheduler") is None
        if not is_meant(question.plan.arms[other]) and (has_parts(words) or loses_schedule):
            raise ValueError(
                f"Expected the arms {own!r} and {other!r} to differ in the optimizer alone, got "
                f"the module's own `configure_optimizers` for {own!r}, which makes {words}, and "
                f"{config['optimizer'].get('class_path')} in its place for {other!r}, without the "
                "rest: a gain could be due to either. Put an optimizer and `lr_scheduler` into "
                "`experiment`, so that all arms share the schedule, give the arm an "
                f"`lr_scheduler`, or write `without: [{OWN_RECIPE}]` in the arm, under `arms` of "
                f"the plan, if it is meant.{_EVERY_EPOCH if f' {EVERY} ' in words else ''}"
            )


_EVERY_EPOCH = (
    " An `lr_scheduler` of a config steps once per epoch, whatever the module does with its own. "
    "To keep the module's pace, let its `__init__` take the optimizer, as `optimizer: "
    "OptimizerCallable`, and its `configure_optimizers` make the schedule: the arm then names the "
    "optimizer in `model.init_args.optimizer`."
)


def is_one_change(asked: ArmPlan, config: Mapping[str, Any]) -> bool:
    """Whether an arm is to differ from the baseline in what it adds, or in nothing but its lines.

    Args:
        asked: What the plan says of it.
        config: Configuration of its run.
    """
    added = config.get("perturbation") is not None
    return (added or asked.hyperparameters == "of_baseline") and asked.kind != "reference"


def refuse_other_optimizer(question: Question, trained: Mapping[str, str]) -> None:
    """Refuse a perturbed arm around another optimizer than the baseline's, made by the module.

    The baseline's overlay may give the module another optimizer, in `model.init_args`. An arm whose
    overlay leaves the module as it is keeps the experiment's: its gain would be that of two
    changes. An overlay with lines on the model says what it wants.

    Args:
        question: The arms, and what they are meant to go without.
        trained: What trained an arm, as `describe_optimizers` says it; an arm may be missing.

    Raises:
        ValueError: If there is such an arm; a reference may be one.
    """
    baseline = question.plan.baseline
    base, theirs = (
        {"model": c.get("model")} for c in (question.experiment, question.configs[baseline])
    )
    changed = changed_places(base, theirs) if question.experiment else []
    expected = classes_of(trained.get(baseline, ""))
    for arm, asked in question.plan.arms.items():
        config, found = question.configs[arm], classes_of(trained.get(arm, ""))
        is_left = config.get("model") == base["model"] and not config.get("optimizer")
        concerned = changed and is_left and is_one_change(asked, config) and not is_meant(asked)
        if concerned and expected and found and found != expected:
            places = ", ".join(f"`{place}`" for place in changed)
            raise ValueError(
                f"Expected the arm {arm!r} to go around {' and '.join(expected)}, which trains the "
                f"baseline {baseline!r} since its overlay sets {places}, got "
                f"{' and '.join(found)} of the experiment: a gain could be due to either. Put "
                "these lines into `experiment`, or into the arm's overlay with the optimizer that "
                f"you mean; or write `without: [{OWN_RECIPE}]` in the arm, under `arms` of the "
                "plan, if it is meant to go without the baseline's."
            )

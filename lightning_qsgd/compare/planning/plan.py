"""The plan of a comparison: arms, budget, goal, seeds."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal

from lightning_qsgd.compare.planning.search import Budget, Range, Search, seed_list
from lightning_qsgd.compare.results.arm import Arm, Kind
from lightning_qsgd.compare.statistics import Method
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.convergence_callback import Goal

Hyperparameters = Literal["given", "tuned", "of_baseline", "of_arm"]
"""Where learning rate, weight decay and what else is tuned come from: the config as it is, a search
of the arm's own, or what the search found for the baseline or for the arm that a control is of."""

# A plain dict: in a `dict[str, Any]` the parser would build the classes that an overlay names.
Lines = str | dict | list[str | dict]  # type: ignore[type-arg]
"""Lines of a config: the name of a file, the lines themselves, or several of either, the later in
front."""


@dataclass(frozen=True)
class ArmPlan:
    """Says what an arm changes in the experiment, and what part it plays.

    Args:
        overlay: What the arm changes: a config file, relative to the comparison's config, the lines
            themselves, or a list of either, the later in front; None changes nothing.
        kind: "baseline" for exactly one arm, "control" for what an arm's gain should not be due
            to, "reference" for what stands beside them for orientation, "arm" for all that are on
            trial: only these are questions, and each makes the others harder to answer.
        control_of: Names of the arms that this control is matched to.
        hyperparameters: "given", "tuned" (searched, as for the baseline), "of_baseline" (what the
            search found for the baseline: the arm then differs by its overlay alone), or "of_arm",
            for a control of one arm: what the search found for that arm. The base as such a control
            tells a gain of the arm from a search of the baseline that missed good values.
        must_equal_baseline: Whether every run must equal the baseline's to the last bit, as at
            strength 0; a difference is then an error.
        description: What the arm does, in a few words for the report.
        space: Ranges of the arm's own for the search, in front of those of `tuning.space`.
        without: What of the experiment the arm is meant to go without, where its overlay replaces
            it: classes of `trainer.callbacks` and `trainer.plugins`, and `configure_optimizers` for
            the schedule, groups and further optimizers of the module's own.

    Raises:
        ValueError: If anything but a control has `control_of`, the baseline is to copy itself, or
            anything but a control of one arm is to have the values of its arm.

    Example:
        >>> ArmPlan(overlay={"perturbation": {"strength": 0.5}}).kind
        'arm'
    """

    overlay: Lines | None = None
    kind: Kind = "arm"
    control_of: list[str] = field(default_factory=list)
    hyperparameters: Hyperparameters = "given"
    must_equal_baseline: bool = False
    description: str = ""
    space: dict[str, Range] = field(default_factory=dict)
    without: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.space and self.hyperparameters != "tuned":
            raise ValueError(
                f"Expected `space` only with `hyperparameters: tuned`, got it with "
                f"{self.hyperparameters!r}: nothing would be searched. Leave one of them out."
            )
        if self.control_of and self.kind != "control":
            raise ValueError(
                f"Expected only controls to have `control_of`, got it in a {self.kind}: it names "
                "the arms that a control is matched to. Add `kind: control`."
            )
        if self.kind == "baseline" and self.hyperparameters == "of_baseline":
            raise ValueError(
                "Expected the baseline to have hyperparameters of its own, got 'of_baseline': it "
                "cannot copy itself. Write 'given' or 'tuned'."
            )
        if self.hyperparameters == "of_arm" and len(self.control_of) != 1:
            raise ValueError(
                f"Expected `hyperparameters: of_arm` in a control of one arm, got `control_of: "
                f"{self.control_of}`: it takes the values that were found for that arm. Name one."
            )


FIRST_TARGET_SEED = 200_000
"""Where the block of seeds starts that the target is taken from, unless they are listed."""


@dataclass(frozen=True)
class GoalPlan:
    """Changes the experiment's goal where it says something.

    Args:
        metric: Tag of the primary metric; None keeps the experiment's.
        higher_is_better: Its direction; None keeps what the experiment says of its metric, else
            what the name tells (loss, error, accuracy, ...).
        loss: Tag of the training loss; None keeps the experiment's.
        target: A value of the metric fixed in advance; "from_baseline" takes what the baseline
            reaches after 3/4 of its budget, the median over seeds that are not reported; None
            keeps the experiment's, if the metric is the experiment's, too.
        target_seeds: Seeds for "from_baseline": how many, or which.

    Example:
        >>> GoalPlan(target=0.9).resolve(Goal()).target
        0.9
    """

    metric: str | None = None
    higher_is_better: bool | None = None
    loss: str | None = None
    target: float | Literal["from_baseline"] | None = None
    target_seeds: int | list[int] = 5

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the runs that the target is taken from; none if it is fixed."""
        if self.target != "from_baseline":
            return ()
        return seed_list("goal.target_seeds", self.target_seeds, FIRST_TARGET_SEED)

    def resolve(self, experiment: Goal) -> Goal:
        """Return the goal of the comparison; without a target where that is yet to be measured.

        Args:
            experiment: The experiment's own goal. Direction and target are of its metric: they say
                nothing of another one.

        Raises:
            ValueError: If nothing tells the direction of the metric.
        """
        metric = self.metric or experiment.metric
        target, better = self.target, self.higher_is_better
        if metric == experiment.metric:
            target = experiment.target if target is None else target
            better = experiment.higher_is_better if better is None else better
        better = tags.direction_of(metric) if better is None else better
        if better is None:
            other = (
                f"is of `{experiment.metric}`" if metric != experiment.metric else "says nothing"
            )
            raise ValueError(
                f"Expected `goal.higher_is_better` beside `goal.metric: {metric}`: the "
                f"experiment's {other}, and the name does not tell, so that the worst arm could "
                "count as the best. Write true or false."
            )
        loss = self.loss or experiment.loss
        return Goal(loss, metric, better, None if isinstance(target, str) else target)


@dataclass(frozen=True)
class Task:
    """One task of a suite: an experiment, what runs of it may spend, and what they are judged by.

    Args:
        experiment: Config of `lightning-qsgd fit`, as in `Plan`; files relative to the suite's.
        budget: What each run may spend.
        goal: What runs are judged by, where it differs from the experiment's goal.
        skip: Names of the arms that do not fit this task.

    Example:
        >>> Task("digits.yaml", Budget(max_steps=100)).skip
        []
    """

    experiment: Lines
    budget: Budget
    goal: GoalPlan = field(default_factory=GoalPlan)
    skip: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """Compares arms over seeds on one experiment.

    Args:
        experiment: Config of `lightning-qsgd fit`: a file, relative to the comparison's own config,
            the lines themselves, or a list of either, the later in front.
        arms: The arms by name, in the order in which they are shown.
        budget: What each run may spend.
        seeds: Seeds of the reported runs: how many, or which. Seed k seeds every arm alike.
        goal: What runs are judged by, where it differs from the experiment's goal.
        tuning: How the arms with `hyperparameters: tuned` are tuned.
        horizons: Shares of the budget, between 0 and 1, at which the baseline and the arms on
            trial are run again, schedules ending there: for how many steps each needs to the
            target. None are run by default.
        alpha: Chance of any false claim about an arm that the verdicts may have. The tasks of a
            suite share that of the suite.

    Raises:
        ValueError: If the arms do not fit together, seeds are used for two purposes, a horizon is
            no part of the budget, or `alpha` is no chance.

    Example:
        >>> arms = {"adamw": ArmPlan(kind="baseline"), "sine": ArmPlan(overlay="sine.yaml")}
        >>> Plan("digits.yaml", arms, Budget(max_steps=300), seeds=2).seed_block
        (0, 1)
    """

    experiment: Lines
    arms: dict[str, ArmPlan]
    budget: Budget
    seeds: int | list[int] = 16
    goal: GoalPlan = field(default_factory=GoalPlan)
    tuning: Search | None = None
    horizons: list[float] = field(default_factory=list)
    alpha: float = Method.alpha

    def __post_init__(self) -> None:
        _ = self.horizon_lengths, Method(self.alpha)
        for name in self.arms:
            Arm(name)  # refuses what no folder can be called
        baselines = [name for name, arm in self.arms.items() if arm.kind == "baseline"]
        if len(baselines) != 1 or len(self.arms) < 2:
            raise ValueError(
                f"Expected two arms or more, exactly one of `kind: baseline`, got {len(self.arms)} "
                f"arms with the baselines {baselines}: all others are compared with it. Mark one."
            )
        self._require_known_controls()
        self._require_fair_tuning()
        blocks = {"seeds": self.seed_block, "goal.target_seeds": self.goal.seeds}
        if self.tuning is not None:
            blocks["tuning.seeds"] = self.tuning.seed_block
            blocks["tuning.final_seeds"] = self.tuning.final_block
        _require_disjoint(blocks)

    def with_arms(self, only: Sequence[str] = (), skip: Sequence[str] = ()) -> "Plan":
        """Leave arms out; the baseline stays, and so do the controls of arms that stay.

        A control that takes the values of an arm goes with it.

        Args:
            only: Names of the arms to keep; all if empty.
            skip: Names of the arms to leave out.

        Raises:
            ValueError: If there is no arm of a name, one to keep would go with another, or too few
                would be left.

        Example:
            >>> arms = {"adamw": ArmPlan(kind="baseline"), "sine": ArmPlan(), "lion": ArmPlan()}
            >>> list(Plan("digits.yaml", arms, Budget(max_steps=1)).with_arms(skip=["sine"]).arms)
            ['adamw', 'lion']
        """
        require_arms("`--only` and `--skip` to name arms of the plan", (*only, *skip), self.arms)
        kept: dict[str, ArmPlan] = {}
        for name, arm in self.arms.items():
            wanted = not only or name in only or not set(arm.control_of).isdisjoint(only)
            if arm.kind == "baseline" or (wanted and name not in skip):
                kept[name] = arm
        self._require_sources(set(only) & set(kept), kept)
        arms = {
            name: replace(arm, control_of=[other for other in arm.control_of if other in kept])
            for name, arm in kept.items()
            if arm.hyperparameters != "of_arm" or arm.control_of[0] in kept
        }
        return replace(self, arms=arms)

    @property
    def seed_block(self) -> tuple[int, ...]:
        """Seeds of the reported runs."""
        return seed_list("seeds", self.seeds)

    @property
    def horizon_lengths(self) -> tuple[int, ...]:
        """Steps or epochs of the shorter runs, rising.

        Raises:
            ValueError: If a horizon is no part of the budget, or the budget is in seconds.
        """
        whole = self.budget.length
        if self.horizons and whole is None:
            raise ValueError(
                f"Expected no `horizons` with a budget of seconds, got {self.horizons}: a ratio of "
                "steps cannot be read off the clock. Give `budget.max_steps`."
            )
        lengths = sorted({round(share * (whole or 0)) for share in self.horizons})
        inside = all(0 < share < 1 for share in self.horizons)
        if not inside or (lengths and not 0 < lengths[0] <= lengths[-1] < (whole or 0)):
            raise ValueError(
                f"Expected `horizons` to be shares of {self.budget} between 0 and 1, got "
                f"{self.horizons}: all of the budget is run anyway. Write [0.5, 0.7, 0.9], say."
            )
        return tuple(lengths)

    @property
    def on_horizons(self) -> list[str]:
        """Names of the arms that are run at every horizon: the baseline and those on trial."""
        return [name for name, arm in self.arms.items() if arm.kind in ("baseline", "arm")]

    @property
    def baseline(self) -> str:
        """Name of the baseline."""
        return next(name for name, arm in self.arms.items() if arm.kind == "baseline")

    @property
    def tuned(self) -> list[str]:
        """Names of the arms that are tuned."""
        return [name for name, arm in self.arms.items() if arm.hyperparameters == "tuned"]

    def searched(self, name: str) -> str | None:
        """Return the arm whose search gives an arm its values; None if they are given."""
        arm = self.arms[name]
        source = {"tuned": name, "of_baseline": self.baseline, "of_arm": [*arm.control_of, None][0]}
        return source.get(arm.hyperparameters)

    def arm(self, name: str, overlay: str, *about: tuple[str, ...]) -> Arm:
        """Describe an arm for the report.

        Args:
            name: Name of the arm.
            overlay: The lines of configuration that make it what it is.
            about: Its `lacks`, then its `remarks`.
        """
        asked = self.arms[name]
        controls = tuple(other for other, arm in self.arms.items() if name in arm.control_of)
        return Arm(name, asked.kind, controls, asked.description, overlay, *about)

    def _require_sources(self, named: Collection[str], kept: Collection[str]) -> None:
        for name, arm in self.arms.items():
            if name in named and arm.hyperparameters == "of_arm" and arm.control_of[0] not in kept:
                source = arm.control_of[0]
                raise ValueError(
                    f"Expected {source!r} beside its control {name!r}, which `--only` names, got "
                    f"an arm that is left out: {name!r} takes the values that are found for "
                    f"{source!r}. Name {source!r} behind `--only` and not behind `--skip`, or "
                    f"leave {name!r} out."
                )

    def _require_known_controls(self) -> None:
        arms = [name for name, arm in self.arms.items() if arm.kind == "arm"]
        for name, control in self.arms.items():
            what = f"`control_of` of {name!r} to name arms on trial"
            require_arms(what, control.control_of, arms)

    def _require_fair_tuning(self) -> None:
        tuned, asking = self.tuned, [name for name in self.arms if self.searched(name)]
        if asking and self.tuning is None:
            raise ValueError(
                f"Expected `tuning`, since {asking} ask for tuned hyperparameters: "
                "nothing says what to search. Add `tuning: {}` for the defaults, or write "
                "`hyperparameters: given`."
            )
        if asking and self.baseline not in tuned:
            raise ValueError(
                f"Expected the baseline {self.baseline!r} to be tuned, since {asking} use tuned "
                "hyperparameters: an arm with a search that the baseline was denied wins by the "
                "search. Give the baseline `hyperparameters: tuned`."
            )
        for name in asking:
            if self.searched(name) not in tuned:
                raise ValueError(
                    f"Expected {self.searched(name)!r} to be tuned, since {name!r} takes what its "
                    "search found. Give it `hyperparameters: tuned`."
                )


def _require_disjoint(blocks: Mapping[str, Iterable[int]]) -> None:
    owner: dict[int, str] = {}
    for name, seeds in blocks.items():
        for seed in seeds:
            if seed in owner:
                raise ValueError(
                    f"Expected `{owner[seed]}` and `{name}` to have no seed in common, got {seed} "
                    "in both: a setting chosen on a reported seed is reported too well. Choose "
                    "other seeds."
                )
            owner[seed] = name


def require_arms(what: str, names: Iterable[str], known: Collection[str]) -> None:
    """Refuse a name that is none of the known arms.

    Args:
        what: What was expected, for the message: "`--only` to name arms of the suite".
        names: What was given.
        known: Names of arms.

    Raises:
        ValueError: If one is not known.

    Example:
        >>> require_arms("`skip` to name arms", ["adam"], ["adamw", "sine"])
        Traceback (most recent call last):
        ValueError: Expected `skip` to name arms, got 'adam': there is none ... mean 'adamw'?
    """
    for name in names:
        if name not in known:
            nearest = get_close_matches(name, known, n=1)
            hint = f"Did you mean {nearest[0]!r}?" if nearest else f"Arms are {[*known]}."
            raise ValueError(f"Expected {what}, got {name!r}: there is none of that name. {hint}")

"""Everything that a comparison asks, fixed before its first run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from lightning_qsgd.compare.arm import Arm
from lightning_qsgd.compare.planning.arm_plan import ArmPlan
from lightning_qsgd.compare.planning.budget import Budget
from lightning_qsgd.compare.planning.goal_plan import GoalPlan
from lightning_qsgd.compare.planning.search import Search
from lightning_qsgd.compare.planning.seeds import seed_list


@dataclass(frozen=True)
class Plan:
    """Compares arms over seeds on one experiment.

    Args:
        experiment: Config of `lightning-qsgd fit`, one file or several, relative to the
            comparison's own config.
        arms: The arms by name, in the order in which they are shown.
        budget: What each run may spend.
        seeds: Seeds of the reported runs: how many, or which. Seed k seeds every arm alike.
        goal: What runs are judged by, where it differs from the experiment's goal.
        tuning: How the arms with `hyperparameters: tuned` are tuned.

    Raises:
        ValueError: If the arms do not fit together, or seeds are used for two purposes.

    Example:
        >>> arms = {"adamw": ArmPlan(kind="baseline"), "sine": ArmPlan(overlay="sine.yaml")}
        >>> Plan("digits.yaml", arms, Budget(max_steps=300), seeds=2).seed_block
        (0, 1)
    """

    experiment: str | list[str]
    arms: dict[str, ArmPlan]
    budget: Budget
    seeds: int | list[int] = 16
    goal: GoalPlan = field(default_factory=GoalPlan)
    tuning: Search | None = None

    def __post_init__(self) -> None:
        for name in self.arms:
            _require_folder_name(name)
        baselines = [name for name, arm in self.arms.items() if arm.kind == "baseline"]
        if len(baselines) != 1 or len(self.arms) < 2:
            raise ValueError(
                f"Expected two arms or more, exactly one of `kind: baseline`, got {len(self.arms)} "
                f"arms with the baselines {baselines}: all others are compared with it. Mark one."
            )
        self._require_known_controls()
        self._require_fair_tuning()
        blocks = {"seeds": self.seed_block, "goal.target_seeds": self.goal.seeds}
        blocks["tuning.seeds"] = self.tuning.seed_block if self.tuning is not None else ()
        _require_disjoint(blocks)

    @property
    def seed_block(self) -> tuple[int, ...]:
        """Seeds of the reported runs."""
        return seed_list("seeds", self.seeds)

    @property
    def baseline(self) -> str:
        """Name of the baseline."""
        return next(name for name, arm in self.arms.items() if arm.kind == "baseline")

    @property
    def tuned(self) -> list[str]:
        """Names of the arms that are tuned."""
        return self._with("tuned")

    def arm(self, name: str, overlay: str) -> Arm:
        """Describe an arm for the report.

        Args:
            name: Name of the arm.
            overlay: The lines of configuration that make it what it is.
        """
        asked = self.arms[name]
        controls = tuple(other for other, arm in self.arms.items() if name in arm.control_of)
        return Arm(name, asked.kind, controls, asked.description, overlay)

    def _with(self, hyperparameters: str) -> list[str]:
        return [name for name, arm in self.arms.items() if arm.hyperparameters == hyperparameters]

    def _require_known_controls(self) -> None:
        arms = [name for name, arm in self.arms.items() if arm.kind == "arm"]
        for name, control in self.arms.items():
            for other in control.control_of:
                if other not in arms:
                    nearest = get_close_matches(other, arms, n=1)
                    hint = f"Did you mean {nearest[0]!r}?" if nearest else f"Arms are {arms}."
                    raise ValueError(
                        f"Expected `control_of` of {name!r} to name arms on trial, got {other!r}: "
                        f"there is none of that name. {hint}"
                    )

    def _require_fair_tuning(self) -> None:
        tuned, copying = self.tuned, self._with("of_baseline")
        if (tuned or copying) and self.tuning is None:
            raise ValueError(
                f"Expected `tuning`, since {[*tuned, *copying]} ask for tuned hyperparameters: "
                "nothing says what to search. Add `tuning: {}` for the defaults, or write "
                "`hyperparameters: given`."
            )
        if (tuned or copying) and self.baseline not in tuned:
            raise ValueError(
                f"Expected the baseline {self.baseline!r} to be tuned, since "
                f"{[*tuned, *copying]} use tuned hyperparameters: an arm with a search that the "
                "baseline was denied wins by the search. Give the baseline `hyperparameters: "
                "tuned`."
            )


def _require_folder_name(name: str) -> None:
    if name in ("", ".", "..") or name.startswith("_") or set(name) & set("/\\"):
        raise ValueError(
            f"Expected the name of an arm to be the name of a folder, got {name!r}: its runs are "
            "stored under it. Use letters, digits, '.', '_' and '-', no '_' in front."
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

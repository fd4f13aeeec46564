"""What the runs of a comparison are judged by."""

from dataclasses import dataclass
from typing import Literal

from lightning_qsgd.compare.planning.seeds import seed_list
from lightning_qsgd.training.goal import Goal

FIRST_TARGET_SEED = 200_000
"""Where the block of seeds starts that the target is taken from, unless they are listed."""


@dataclass(frozen=True)
class GoalPlan:
    """Changes the experiment's goal where it says something.

    Args:
        metric: Tag of the primary metric; None keeps the experiment's.
        higher_is_better: Its direction; None keeps the experiment's.
        loss: Tag of the training loss; None keeps the experiment's.
        target: A value of the metric fixed in advance; "from_baseline" takes what the baseline
            reaches after 3/4 of its budget, the median over seeds that are not reported; None
            keeps the experiment's.
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
            experiment: The experiment's own goal.
        """
        target = experiment.target if self.target is None else self.target
        better = self.higher_is_better
        return Goal(
            self.loss or experiment.loss,
            self.metric or experiment.metric,
            experiment.higher_is_better if better is None else better,
            None if isinstance(target, str) else target,
        )

"""A plan with all that it refers to: what is asked of every run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from lightning_qsgd.compare.planning.job import RUNS, Job
from lightning_qsgd.compare.planning.plan import Plan
from lightning_qsgd.compare.planning.search import Range
from lightning_qsgd.compare.results.published import Published
from lightning_qsgd.compare.results.results import TunedArm
from lightning_qsgd.compare.statistics import Design
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
        ValueError: If figures are of an arm that is not compared, or a tuned arm lacks what is
            tuned.
    """

    name: str
    plan: Plan
    goal: Goal
    configs: Mapping[str, Mapping[str, Any]]
    overlays: Mapping[str, str]
    published: Published = field(default_factory=Published)

    def __post_init__(self) -> None:
        self.published.require_known(self.plan.arms)
        for name in self.plan.tuned:
            self.space_of(name)

    @property
    def design(self) -> Design:
        """What the seeds and the arms on trial can see."""
        on_trial = [arm for arm in self.plan.arms.values() if arm.kind == "arm"]
        return Design(len(self.plan.seed_block), len(on_trial))

    def space_of(self, arm: str) -> dict[str, Range]:
        """Return the ranges that an arm is searched in; those of the baseline must all be there."""
        plan = self.plan
        if plan.tuning is None:
            return {}
        own, strict = plan.arms[arm].space, arm == plan.baseline
        return plan.tuning.space_of(arm, self.configs[arm], own, strict)

    def lacks(self, arm: str) -> tuple[str, ...]:
        """Name the tuned hyperparameters that the baseline has and an arm does not."""
        if self.plan.tuning is None or self.plan.arms[arm].hyperparameters == "given":
            return ()
        return tuple(
            name for name in self.space_of(self.plan.baseline) if name not in self.space_of(arm)
        )

    def chosen(self, arm: str, tuned: Mapping[str, TunedArm]) -> dict[str, float]:
        """Return the tuned values of an arm by place in its configuration, or the baseline's.

        Args:
            arm: Name of the arm.
            tuned: What was chosen for each tuned arm.
        """
        copies = self.plan.arms[arm].hyperparameters == "of_baseline"
        found = tuned.get(self.plan.baseline if copies else arm)
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


def as_yaml(value: Any) -> str:
    """Write plain values as YAML, in their own order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)

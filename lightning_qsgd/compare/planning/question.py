"""A plan with all that it refers to: what is asked of every run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from lightning_qsgd.compare.planning.job import RUNS, Job
from lightning_qsgd.compare.planning.plan import Plan
from lightning_qsgd.compare.results.published import Published
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
        ValueError: If figures are of an arm that is not compared.
    """

    name: str
    plan: Plan
    goal: Goal
    configs: Mapping[str, Mapping[str, Any]]
    overlays: Mapping[str, str]
    published: Published = field(default_factory=Published)

    def __post_init__(self) -> None:
        self.published.require_known(self.plan.arms)

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

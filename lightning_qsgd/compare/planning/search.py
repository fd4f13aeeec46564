"""How hyperparameters are tuned: the same space, trials and seeds for every tuned arm."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from lightning_qsgd.compare.planning.seeds import seed_list

FIRST_TUNING_SEED = 100_000
"""Where the block of tuning seeds starts, unless they are listed."""

ALWAYS = ("lr", "weight_decay")
"""What is always tuned: on its own, either moves results by more than most perturbations do."""

PATHS = {name: f"optimizer.init_args.{name}" for name in ALWAYS}


@dataclass(frozen=True)
class Range:
    """The values of one hyperparameter that are tried.

    Args:
        low: Least value.
        high: Greatest value.
        scale: Whether to search the value or its logarithm.
        path: Where it is in the config of the run; None takes `lr` and `weight_decay` from
            `optimizer.init_args`, and the name itself for any other.

    Raises:
        ValueError: If the range is empty or has no logarithm.

    Example:
        >>> Range(1e-4, 1e-1).scale
        'log'
    """

    low: float
    high: float
    scale: Literal["log", "linear"] = "log"
    path: str | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"Expected a range with `low` below `high`, got [{self.low}, {self.high}]: there "
                "would be nothing to search. Widen it."
            )
        if self.scale == "log" and self.low <= 0:
            raise ValueError(
                f"Expected `low` above 0 on a log scale, got {self.low}: it has no logarithm. Use "
                "`scale: linear` or a positive bound."
            )


@dataclass(frozen=True)
class Search:
    """Tunes the baseline and every tuned arm alike.

    Args:
        space: Ranges by name of the hyperparameter; `lr` and `weight_decay` must be there.
        trials: Number of settings tried per arm.
        seeds: Seeds of each trial, none of which is reported: how many, or which.
        sampler_seed: Names the random stream of the search.

    Raises:
        ValueError: If lr or weight decay is missing, or `trials` is below 1.

    Example:
        >>> sorted(Search().space), Search(seeds=2).seed_block
        (['lr', 'weight_decay'], (100000, 100001))
    """

    space: dict[str, Range] = field(
        default_factory=lambda: {"lr": Range(1e-4, 1e-1), "weight_decay": Range(1e-4, 1.0)}
    )
    trials: int = 12
    seeds: int | list[int] = 3
    sampler_seed: int = 0

    def __post_init__(self) -> None:
        missing = [name for name in ALWAYS if name not in self.space]
        if missing:
            raise ValueError(
                f"Expected `tuning.space` to hold {' and '.join(ALWAYS)}, got no "
                f"{' and no '.join(missing)}: an arm could seem better because the baseline was "
                "left at a poor value of it. Add a range."
            )
        if self.trials < 1:
            raise ValueError(
                f"Expected `tuning.trials` to be at least 1, got {self.trials}: nothing would be "
                "tuned. Leave `tuning` out for that."
            )

    @property
    def seed_block(self) -> tuple[int, ...]:
        """The tuning seeds."""
        return seed_list("tuning.seeds", self.seeds, FIRST_TUNING_SEED)

    @property
    def paths(self) -> dict[str, str]:
        """Place in the config by name of the hyperparameter."""
        return {name: span.path or PATHS.get(name, name) for name, span in self.space.items()}

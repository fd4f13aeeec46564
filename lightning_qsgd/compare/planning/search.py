"""What a search over hyperparameters may try, on which seeds, within which budget."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

HIGHEST_SEED = 2**32 - 1
"""What numpy's global generator takes."""


def seed_list(name: str, seeds: int | Sequence[int], first: int = 0) -> tuple[int, ...]:
    """Return the seeds that a config asks for.

    Args:
        name: Where the config says it, for error messages.
        seeds: The number of seeds, or the seeds.
        first: Seed to count from.

    Raises:
        ValueError: If there is none, or one is out of range or named twice.

    Example:
        >>> seed_list("seeds", 3, first=100), seed_list("seeds", [7, 3])
        ((100, 101, 102), (7, 3))
    """
    listed = tuple(range(first, first + seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not listed:
        raise ValueError(
            f"Expected `{name}` to be the number of seeds or a list of seeds, got {seeds}: nothing "
            "would be run. Give 1 or more."
        )
    if len(set(listed)) < len(listed):
        raise ValueError(
            f"Expected every seed in `{name}` once, got {seeds}: a repeated run would count twice. "
            "Remove the repetition."
        )
    if min(listed) < 0 or max(listed) > HIGHEST_SEED:
        raise ValueError(
            f"Expected the seeds in `{name}` between 0 and {HIGHEST_SEED}, got {seeds}: random "
            "generators take no others. Choose smaller ones."
        )
    return listed


@dataclass(frozen=True)
class Budget:
    """Limits every run in the same way, by steps, epochs or seconds.

    Args:
        max_steps: Optimizer steps of each run.
        max_epochs: Epochs of each run.
        seconds: Wall-clock seconds of training, validation included. Runs that are limited by the
            clock do not repeat bit for bit.

    Raises:
        ValueError: If not exactly one limit is given, or it is not above 0.

    Example:
        >>> str(Budget(max_steps=300))
        '300 steps'
        >>> Budget(max_epochs=10).trainer_arguments
        {'max_steps': -1, 'max_epochs': 10, 'max_time': None}
    """

    max_steps: int | None = None
    max_epochs: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            raise ValueError(
                "Expected exactly one of `budget.max_steps`, `budget.max_epochs` and "
                f"`budget.seconds`, got {sorted(given) or 'none'}: with several, it would depend "
                "on the arm which of them ends a run. Keep one."
            )
        for name, value in given.items():
            if not (isfinite(value) and value > 0):
                raise ValueError(
                    f"Expected `budget.{name}` to be above 0 and finite, got {value}: no run could "
                    "train with it. Give what one run may spend."
                )

    def __str__(self) -> str:
        if self.max_steps is not None:
            return f"{self.max_steps} steps"
        if self.max_epochs is not None:
            return f"{self.max_epochs} epochs"
        return f"{self.seconds:g} seconds"

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """The limit as arguments of Lightning's Trainer, with all others lifted."""
        milliseconds = None if self.seconds is None else max(1, round(1000 * self.seconds))
        return {
            "max_steps": -1 if self.max_steps is None else self.max_steps,
            "max_epochs": -1 if self.max_epochs is None else self.max_epochs,
            "max_time": None if milliseconds is None else {"milliseconds": milliseconds},
        }


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

"""What tuning chose, and whether the space it chose from was wide enough."""

from dataclasses import dataclass
from math import log
from typing import Literal

EDGE = 0.05
"""Share of the range, at either end, that counts as its edge."""


@dataclass(frozen=True)
class TunedValue:
    """The best value of one hyperparameter and the range it was looked for in.

    Args:
        name: Name of the hyperparameter.
        low: Least value tried, in the hyperparameter's unit.
        high: Greatest value tried.
        best: The value chosen.
        scale: How the range was searched, "linear" or "log".

    Raises:
        ValueError: If the range is empty, or does not hold the best value.

    Example:
        >>> TunedValue("lr", low=1e-4, high=1e-1, best=9e-2, scale="log").at_edge
        True
    """

    name: str
    low: float
    high: float
    best: float
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        if not self.low <= self.best <= self.high or self.low == self.high:
            raise ValueError(
                f"Expected the best `{self.name}` inside a range, got {self.best} in [{self.low}, "
                f"{self.high}]: it was not found there. Record the range that was searched."
            )
        if self.scale == "log" and self.low <= 0:
            raise ValueError(
                f"Expected a positive range for `{self.name}` on a log scale, got it to start at "
                f"{self.low}. Use scale 'linear'."
            )

    @property
    def at_edge(self) -> bool:
        """Whether a better value may lie outside: best within `EDGE` of an end of the range."""
        low, high, best = self.low, self.high, self.best
        if self.scale == "log":
            low, high, best = log(low), log(high), log(best)
        return not EDGE <= (best - low) / (high - low) <= 1 - EDGE


@dataclass(frozen=True)
class TunedArm:
    """How one arm was tuned.

    Attributes:
        arm: Name of the arm.
        trials: Number of settings tried; fair if equal for all tuned arms.
        seeds: Seeds used for tuning, none of which is reported.
        values: What was chosen.
        score: Mean of the goal's metric over the tuning seeds at the best setting.
    """

    arm: str
    trials: int
    seeds: tuple[int, ...]
    values: tuple[TunedValue, ...]
    score: float

"""What each run of a comparison may spend."""

from dataclasses import dataclass
from math import isfinite
from typing import Any


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

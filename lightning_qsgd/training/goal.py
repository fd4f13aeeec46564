"""What a run is judged by: its loss, its metric, and the target fixed in advance."""

from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True)
class Goal:
    """Names the scalars that are compared between runs.

    Args:
        loss: Tag of the training loss, logged at every step.
        metric: Tag of the validation metric, logged at every validation.
        higher_is_better: Whether the metric improves upwards (accuracy) or downwards (loss).
        target: Value of the metric to reach, in its unit; fix it before the run. None looks for
            no target.

    Raises:
        ValueError: If `target` is not finite.

    Example:
        >>> Goal(metric="val/accuracy", target=0.9).target
        0.9
    """

    loss: str = "train/loss"
    metric: str = "val/accuracy"
    higher_is_better: bool = True
    target: float | None = None

    def __post_init__(self) -> None:
        if self.target is not None and not isfinite(self.target):
            raise ValueError(
                f"Expected `target` to be finite, got {self.target}: no run could reach it. Leave "
                "it out to look for no target."
            )

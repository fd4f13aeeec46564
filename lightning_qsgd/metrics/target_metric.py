"""Base of the metrics that look for a target in a curve."""

import math
from typing import Any

from torch import Tensor

from lightning_qsgd.metrics.curve_metric import CurveMetric
from lightning_qsgd.metrics.functional import steps_to_target, trailing_mean
from lightning_qsgd.metrics.functional.validation import checked_target, checked_window


class TargetMetric(CurveMetric):
    """Measure at which step a curve first reaches a target; `inf` if it never does.

    The subclasses differ in what a step is (steps, epochs, seconds) or in what is made of the
    cost. They are siblings, so that torchmetrics refuses to merge the points of one into another.

    Args:
        target: Value to reach, in the curve's unit; fix it before the runs.
        higher_is_better: Whether the values improve upwards (accuracy) or downwards (loss). The
            class attribute of this name is about the result: a lower cost is always better.
        window: Number of recorded points in the trailing mean that must reach the target; 1 for
            no smoothing. Use more for a minibatch loss.
        **kwargs: Keyword arguments of `torchmetrics.Metric`.

    Raises:
        TypeError: If `window` is not an integer.
        ValueError: If `target` is not finite or `window` is below 1.
    """

    higher_is_better = False

    def __init__(
        self, target: float, *, higher_is_better: bool = False, window: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.target = checked_target(target)
        self.window = checked_window(window)
        self.values_improve_upwards = higher_is_better

    def _summarise(self, steps: Tensor, values: Tensor) -> float:
        return self._cost(steps, values)

    def _cost(self, steps: Tensor, values: Tensor) -> float:
        smoothed = trailing_mean(values, self.window)
        return steps_to_target(
            steps, smoothed, self.target, higher_is_better=self.values_improve_upwards
        )

    def _mark(self, ax: Any, steps: Tensor, values: Tensor) -> None:
        if self.window > 1:
            smoothed = trailing_mean(values, self.window)
            ax.plot(steps, smoothed, label=f"mean of {self.window} points")
        ax.axhline(self.target, color="black", linestyle="--", label=f"target {self.target:g}")
        cost = self._cost(steps, values)
        if math.isfinite(cost):
            ax.axvline(cost, color="black", linestyle=":", label=f"reached at {cost:g}")

"""Gap to the curve of a baseline run."""

import math
from typing import Any

from torch import Tensor

from lightning_qsgd.metrics.directed_curve_metric import DirectedCurveMetric
from lightning_qsgd.metrics.functional import Points, merge_equal_steps, value_at_step


class GapToBaseline(DirectedCurveMetric):
    """Measure arm minus baseline at the last step that both curves cover.

    The gap has the metric's own unit and its good sign: negative for a loss, positive for an
    accuracy (see `gap_at_equal_step` for the whole curve). The baseline is read by linear
    interpolation in O(log n), so `forward(value, step)` can be asked for the gap at every step. It
    is a constructor argument, not a state: it is not in checkpoints.

    Args:
        baseline_steps: The baseline's steps, shape (n,), any order, equal steps are averaged.
        baseline_values: The baseline's values, shape (n,), in the unit of the arm's.
        higher_is_better: Whether the values improve upwards (accuracy) or downwards (loss).
        **kwargs: Keyword arguments of `torchmetrics.Metric`.

    Raises:
        ValueError: If the baseline is empty, has unequal lengths or impossible steps.

    Example:
        >>> metric = GapToBaseline(baseline_steps=[0, 10], baseline_values=[4.0, 2.0])
        >>> metric(2.5, 5)
        tensor(-0.5000, dtype=torch.float64)
        >>> metric(1.0, 10)
        tensor(-1., dtype=torch.float64)
        >>> metric.compute()
        tensor(-1., dtype=torch.float64)
    """

    def __init__(
        self,
        baseline_steps: Points,
        baseline_values: Points,
        *,
        higher_is_better: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(higher_is_better=higher_is_better, **kwargs)
        steps, values = merge_equal_steps(baseline_steps, baseline_values)
        self.baseline_steps: list[float] = steps.tolist()
        self.baseline_values: list[float] = values.tolist()

    def _summarise(self, steps: Tensor, values: Tensor) -> float:
        first, last = self.baseline_steps[0], self.baseline_steps[-1]
        shared = ((steps >= first) & (steps <= last)).nonzero()
        if shared.numel() == 0:
            return math.nan
        step, value = float(steps[shared[-1]]), float(values[shared[-1]])
        return value - value_at_step(self.baseline_steps, self.baseline_values, step)

    def _mark(self, ax: Any, steps: Tensor, values: Tensor) -> None:
        gap = self._summarise(steps, values)
        label = f"baseline (gap {gap:g})"
        ax.plot(self.baseline_steps, self.baseline_values, linestyle="--", label=label)

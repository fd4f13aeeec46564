"""Speedup over a baseline run at a fixed target."""

from typing import Any

from torch import Tensor

from lightning_qsgd.metrics.functional import Points, merge_equal_steps, speedup_over_baseline
from lightning_qsgd.metrics.target_metric import TargetMetric


class SpeedupOverBaseline(TargetMetric):
    """Divide the baseline's cost of reaching a target by the cost of this run.

    1 means no speedup, 2 half the cost; 0 if only the baseline reached the target, `inf` if only
    this run did, nan if neither (see `speedup_over_baseline`). Both curves are smoothed with the
    same window. The cost is in the unit of the steps: give both curves global steps, or both
    seconds. The baseline is a constructor argument, not a state: it is not in checkpoints.

    Args:
        baseline_steps: The baseline's steps, shape (n,), any order, equal steps are averaged.
        baseline_values: The baseline's values, shape (n,), in the unit of this run's.
        target: Value to reach, in the same unit; fix it before the runs.
        higher_is_better: Whether the values improve upwards (accuracy) or downwards (loss). The
            class attribute of this name is about the result: a higher speedup is always better.
        window: Number of recorded points in the trailing mean that must reach the target.
        **kwargs: Keyword arguments of `torchmetrics.Metric`.

    Raises:
        TypeError: If `window` is not an integer.
        ValueError: If the baseline is no curve, `target` is not finite or `window` is below 1.

    Example:
        >>> metric = SpeedupOverBaseline([0, 100, 200], [3.0, 2.0, 1.0], target=1.0)
        >>> for step, loss in [(0, 3.0), (100, 0.9)]:
        ...     metric.update(loss, step)
        >>> metric.compute()
        tensor(2., dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(
        self,
        baseline_steps: Points,
        baseline_values: Points,
        target: float,
        *,
        higher_is_better: bool = False,
        window: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(target, higher_is_better=higher_is_better, window=window, **kwargs)
        steps, values = merge_equal_steps(baseline_steps, baseline_values)
        self.baseline_cost = self._cost(steps, values)
        self.baseline_steps: list[float] = steps.tolist()
        self.baseline_values: list[float] = values.tolist()

    def _summarise(self, steps: Tensor, values: Tensor) -> float:
        return speedup_over_baseline(self._cost(steps, values), self.baseline_cost)

    def _mark(self, ax: Any, steps: Tensor, values: Tensor) -> None:
        super()._mark(ax, steps, values)
        label = f"baseline (speedup {self._summarise(steps, values):g})"
        ax.plot(self.baseline_steps, self.baseline_values, linestyle="--", label=label)

"""Best value of a run."""

from typing import Any

from torch import Tensor

from lightning_qsgd.metrics.directed_curve_metric import DirectedCurveMetric
from lightning_qsgd.metrics.functional import best_value


class BestValue(DirectedCurveMetric):
    """Report the best value a run ever had; NaN values are ignored.

    The constructor is that of `DirectedCurveMetric`.

    Example:
        >>> metric = BestValue(higher_is_better=True)
        >>> for step, accuracy in [(0, 0.25), (10, 0.75), (20, 0.5)]:
        ...     metric.update(accuracy, step)
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
    """

    def _summarise(self, steps: Tensor, values: Tensor) -> float:
        return best_value(steps, values, higher_is_better=self.higher_is_better)

    def _mark(self, ax: Any, steps: Tensor, values: Tensor) -> None:
        best = self._summarise(steps, values)
        ax.axhline(best, color="black", linestyle="--", label=f"best {best:g}")

"""Area under the loss curve of a run."""

from typing import Any

from torch import Tensor

from lightning_qsgd.metrics.curve_metric import CurveMetric
from lightning_qsgd.metrics.functional import area_under_curve


class AreaUnderLossCurve(CurveMetric):
    """Measure the mean height of a loss curve over the steps it spans (`area_under_curve`).

    A number for the whole run, without a target: low when the loss falls early. Compare runs over
    the same range of steps. The constructor is that of `CurveMetric`.

    Example:
        >>> metric = AreaUnderLossCurve()
        >>> for step, loss in [(0, 4.0), (10, 2.0)]:
        ...     metric.update(loss, step)
        >>> metric.compute()
        tensor(3., dtype=torch.float64)
    """

    higher_is_better = False

    def _summarise(self, steps: Tensor, values: Tensor) -> float:
        return area_under_curve(steps, values)

    def _mark(self, ax: Any, steps: Tensor, values: Tensor) -> None:
        height = self._summarise(steps, values)
        ax.fill_between(steps, values, alpha=0.2)
        ax.axhline(height, color="black", linestyle="--", label=f"mean height {height:g}")

"""Curve metrics whose result is good in the direction in which the curve is good."""

from typing import Any

from lightning_qsgd.metrics.curve_metric import CurveMetric


class DirectedCurveMetric(CurveMetric):
    """Collect a curve whose own direction is the direction of the result.

    The best accuracy is better when higher, the best loss when lower, so `higher_is_better` is
    known per object and not per class. torchmetrics forbids to assign it; a property does not
    assign.

    Args:
        higher_is_better: Whether the values improve upwards (accuracy) or downwards (loss).
        **kwargs: Keyword arguments of `torchmetrics.Metric`.
    """

    def __init__(self, *, higher_is_better: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._higher_is_better = higher_is_better

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether a higher result, like a higher value of the curve, is better."""
        return self._higher_is_better

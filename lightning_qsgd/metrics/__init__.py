"""Convergence metrics: pure functions on curves, and torchmetrics classes over them.

A metric collects the points of one training run with `update(value, step)` and reduces them to
one number with `compute()`. The functions behind the numbers are in
`lightning_qsgd.metrics.functional`.
"""

from lightning_qsgd.metrics.convergence import (
    AreaUnderLossCurve,
    BestValue,
    EpochsToTarget,
    FinalValue,
    GapToBaseline,
    SecondsToTarget,
    SpeedupOverBaseline,
    StepsToTarget,
    TargetMetric,
)
from lightning_qsgd.metrics.curve_metric import CurveMetric, DirectedCurveMetric

__all__ = [
    "AreaUnderLossCurve",
    "BestValue",
    "CurveMetric",
    "DirectedCurveMetric",
    "EpochsToTarget",
    "FinalValue",
    "GapToBaseline",
    "SecondsToTarget",
    "SpeedupOverBaseline",
    "StepsToTarget",
    "TargetMetric",
]

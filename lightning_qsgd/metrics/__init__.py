"""Convergence metrics: pure functions on curves, and torchmetrics classes over them.

A metric collects the points of one training run with `update(value, step)` and reduces them to
one number with `compute()`. The functions behind the numbers are in
`lightning_qsgd.metrics.functional`.
"""

from lightning_qsgd.metrics.area_under_loss_curve import AreaUnderLossCurve
from lightning_qsgd.metrics.best_value import BestValue
from lightning_qsgd.metrics.curve_metric import CurveMetric
from lightning_qsgd.metrics.directed_curve_metric import DirectedCurveMetric
from lightning_qsgd.metrics.epochs_to_target import EpochsToTarget
from lightning_qsgd.metrics.gap_to_baseline import GapToBaseline
from lightning_qsgd.metrics.seconds_to_target import SecondsToTarget
from lightning_qsgd.metrics.speedup_over_baseline import SpeedupOverBaseline
from lightning_qsgd.metrics.steps_to_target import StepsToTarget
from lightning_qsgd.metrics.target_metric import TargetMetric

__all__ = [
    "AreaUnderLossCurve",
    "BestValue",
    "CurveMetric",
    "DirectedCurveMetric",
    "EpochsToTarget",
    "GapToBaseline",
    "SecondsToTarget",
    "SpeedupOverBaseline",
    "StepsToTarget",
    "TargetMetric",
]

"""Pure functions on training curves: points in, numbers out, no state.

A *curve* is a pair (steps, values) of equal length: steps are finite, non-negative and strictly
increasing, values are whatever was observed there and may be NaN (a diverged loss) or infinite.
Raw points, in any order and with repeated steps, become a curve through `merge_equal_steps`.
"""

from lightning_qsgd.metrics.functional.area import area_under_curve
from lightning_qsgd.metrics.functional.best import best_value
from lightning_qsgd.metrics.functional.curve import Points, as_curve, as_points, merge_equal_steps
from lightning_qsgd.metrics.functional.gap import gap_at_equal_step
from lightning_qsgd.metrics.functional.interpolation import value_at_step
from lightning_qsgd.metrics.functional.smoothing import trailing_mean
from lightning_qsgd.metrics.functional.speedup import speedup_over_baseline
from lightning_qsgd.metrics.functional.target import steps_to_target

__all__ = [
    "Points",
    "area_under_curve",
    "as_curve",
    "as_points",
    "best_value",
    "gap_at_equal_step",
    "merge_equal_steps",
    "speedup_over_baseline",
    "steps_to_target",
    "trailing_mean",
    "value_at_step",
]

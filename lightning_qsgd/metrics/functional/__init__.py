"""Pure functions on training curves: points in, numbers out, no state.

A *curve* is a pair (steps, values) of equal length: steps are finite, non-negative and strictly
increasing, values are whatever was observed there and may be NaN (a diverged loss) or infinite.
Raw points, in any order and with repeated steps, become a curve through `merge_equal_steps`.
"""

from lightning_qsgd.metrics.functional.convergence import (
    area_under_curve,
    best_value,
    gap_at_equal_step,
    speedup_over_baseline,
    steps_to_target,
)
from lightning_qsgd.metrics.functional.curve import (
    Points,
    as_curve,
    as_points,
    merge_equal_steps,
    trailing_mean,
    value_at_step,
)

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

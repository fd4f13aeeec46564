"""Statistics of paired runs: numbers in, numbers out, nothing of training or reports."""

from lightning_qsgd.compare.statistics.across_tasks import (
    HorizonRatio,
    horizon_ratio,
    mean_over_tasks,
    median_cost,
    performance_profile,
    share_reached,
)
from lightning_qsgd.compare.statistics.mean_tests import Interval
from lightning_qsgd.compare.statistics.paired_gain import (
    FEWEST_PAIRS,
    Method,
    PairedGain,
    paired_gain,
)
from lightning_qsgd.compare.statistics.power import (
    Design,
    detectable_effect,
    holm,
    pairs_needed,
    seeds_for,
    visible_effect,
)

__all__ = [
    "FEWEST_PAIRS",
    "Design",
    "HorizonRatio",
    "Interval",
    "Method",
    "PairedGain",
    "detectable_effect",
    "holm",
    "horizon_ratio",
    "mean_over_tasks",
    "median_cost",
    "paired_gain",
    "pairs_needed",
    "performance_profile",
    "seeds_for",
    "share_reached",
    "visible_effect",
]

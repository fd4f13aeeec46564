"""What a comparison found: runs, what was asked, the numbers that are compared, files."""

from lightning_qsgd.compare.results.arm import Arm
from lightning_qsgd.compare.results.results import (
    ArmRun,
    Comparison,
    FailedRun,
    Provenance,
    Results,
    Timing,
    TunedArm,
    TunedValue,
)

__all__ = [
    "Arm",
    "ArmRun",
    "Comparison",
    "FailedRun",
    "Provenance",
    "Results",
    "Timing",
    "TunedArm",
    "TunedValue",
]

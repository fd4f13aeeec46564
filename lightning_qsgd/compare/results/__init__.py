"""What a comparison found: runs, what was asked, the numbers that are compared, files."""

from lightning_qsgd.compare.results.arm import Arm
from lightning_qsgd.compare.results.results import (
    Comparison,
    FailedRun,
    Provenance,
    Results,
    TunedArm,
    TunedValue,
)
from lightning_qsgd.training.recorded_run import RecordedRun as ArmRun
from lightning_qsgd.training.recorded_run import Timing

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

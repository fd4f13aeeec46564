"""Compare: arms x seeds of an experiment, statistics, verdict and report."""

from lightning_qsgd.compare.results.arm import Arm
from lightning_qsgd.compare.results.results import (
    Comparison,
    FailedRun,
    Provenance,
    Results,
    TunedArm,
    TunedValue,
)
from lightning_qsgd.compare.results.results_folder import load_results, save_results
from lightning_qsgd.compare.statistics import Method
from lightning_qsgd.compare.verdicts.analysis import Analysis, analyse
from lightning_qsgd.compare.verdicts.verdict import Outcome, Verdict, verdicts
from lightning_qsgd.training.recorded_run import RecordedRun as ArmRun
from lightning_qsgd.training.recorded_run import Timing

__all__ = [
    "Analysis",
    "Arm",
    "ArmRun",
    "Comparison",
    "FailedRun",
    "Method",
    "Outcome",
    "Provenance",
    "Results",
    "Timing",
    "TunedArm",
    "TunedValue",
    "Verdict",
    "analyse",
    "load_results",
    "save_results",
    "verdicts",
]

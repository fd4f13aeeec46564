"""The wrapper around any torch optimizer; knows nothing quantum and nothing of Lightning."""

from lightning_qsgd.optimizers.muon import ExactMuonWithAdamW, MuonWithAdamW
from lightning_qsgd.optimizers.perturbed import PerturbedOptimizer
from lightning_qsgd.optimizers.ready_made import (
    ConfiguredPerturbedOptimizer,
    EmbeddingAdamW,
    PaperAdam,
    SuperpositionalAdam,
)
from lightning_qsgd.optimizers.report import (
    DominantPerturbationWarning,
    InvisiblePerturbationWarning,
    StepReport,
)
from lightning_qsgd.optimizers.sam import SAM

__all__ = [
    "SAM",
    "ConfiguredPerturbedOptimizer",
    "DominantPerturbationWarning",
    "EmbeddingAdamW",
    "ExactMuonWithAdamW",
    "InvisiblePerturbationWarning",
    "MuonWithAdamW",
    "PaperAdam",
    "PerturbedOptimizer",
    "StepReport",
    "SuperpositionalAdam",
]

"""The wrapper around any torch optimizer; knows nothing quantum and nothing of Lightning."""

from lightning_qsgd.optimizers.configured import ConfiguredPerturbedOptimizer
from lightning_qsgd.optimizers.paper_adam import PaperAdam
from lightning_qsgd.optimizers.perturbed import PerturbedOptimizer
from lightning_qsgd.optimizers.report import StepReport
from lightning_qsgd.optimizers.sam import SAM
from lightning_qsgd.optimizers.size_watch import InvisiblePerturbationWarning
from lightning_qsgd.optimizers.superpositional_adam import SuperpositionalAdam

__all__ = [
    "SAM",
    "ConfiguredPerturbedOptimizer",
    "InvisiblePerturbationWarning",
    "PaperAdam",
    "PerturbedOptimizer",
    "StepReport",
    "SuperpositionalAdam",
]

"""Wrap any torch optimizer with a quantum perturbation layer, and measure whether it helps.

Three ways in, one core:

- `PerturbationCallback` for any LightningModule, without subclassing it;
- `PerturbationMixin` for a LightningModule of your own;
- `PerturbedOptimizer` for plain torch and Fabric.

References:
    Superpositional Gradient Descent, arXiv:2511.01918.
"""

from lightning_qsgd.backends import Backend, CompiledBackend, SamplerBackend, SineBackend
from lightning_qsgd.circuits import CircuitSource, ParametrizedCircuit, SuperpositionCircuit
from lightning_qsgd.optimizers import (
    ConfiguredPerturbedOptimizer,
    InvisiblePerturbationWarning,
    PaperAdam,
    PerturbedOptimizer,
    SuperpositionalAdam,
)
from lightning_qsgd.perturbations import (
    AllEntries,
    ConstantDecay,
    CosineDecay,
    CyclicEntries,
    FirstOfEachTensor,
    FirstOfModel,
    GradientInjection,
    LargestGradient,
    LinearDecay,
    Perturbation,
    RandomEntries,
    RelativeInjection,
    Strength,
    UpdateInjection,
)
from lightning_qsgd.training import (
    ConvergenceCallback,
    Goal,
    PerturbationCallback,
    PerturbationMixin,
    PerturbationMonitor,
    RandomStateCallback,
    TensorBoardCallback,
)

__version__ = "0.1.0"

__all__ = [
    "AllEntries",
    "Backend",
    "CircuitSource",
    "CompiledBackend",
    "ConfiguredPerturbedOptimizer",
    "ConstantDecay",
    "ConvergenceCallback",
    "CosineDecay",
    "CyclicEntries",
    "FirstOfEachTensor",
    "FirstOfModel",
    "Goal",
    "GradientInjection",
    "InvisiblePerturbationWarning",
    "LargestGradient",
    "LinearDecay",
    "PaperAdam",
    "ParametrizedCircuit",
    "Perturbation",
    "PerturbationCallback",
    "PerturbationMixin",
    "PerturbationMonitor",
    "PerturbedOptimizer",
    "RandomEntries",
    "RandomStateCallback",
    "RelativeInjection",
    "SamplerBackend",
    "SineBackend",
    "Strength",
    "SuperpositionCircuit",
    "SuperpositionalAdam",
    "TensorBoardCallback",
    "UpdateInjection",
]

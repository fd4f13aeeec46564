"""Wrap any torch optimizer with a quantum perturbation layer, and measure whether it helps.

Three ways in, one core:

- `PerturbationCallback` for any LightningModule, without subclassing it;
- `PerturbationMixin` for a LightningModule of your own;
- `PerturbedOptimizer` for plain torch and Fabric.

References:
    Superpositional Gradient Descent, arXiv:2511.01918.
"""

from lightning_qsgd.backends import (
    AerSampling,
    Backend,
    CompiledBackend,
    DepolarizingNoise,
    DeviceNoise,
    ExactSampling,
    GenericDeviceNoise,
    GivenSampling,
    HardwareSampling,
    RaiseOnFailure,
    RetryOnFailure,
    SamplerBackend,
    SamplingFromFunction,
    ShotSampling,
    SineBackend,
    SkipOnFailure,
    ThermalNoise,
)
from lightning_qsgd.circuits import (
    CircuitFromFile,
    CircuitFromFunction,
    CircuitSource,
    ParametrizedCircuit,
    SuperpositionCircuit,
)
from lightning_qsgd.optimizers import (
    SAM,
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
    GaussianControl,
    GradientInjection,
    LargestGradient,
    Learning,
    LinearDecay,
    NoiseInjection,
    NudgeInjection,
    PermutedControl,
    Perturbation,
    RandomEntries,
    RandomSignControl,
    RelativeInjection,
    RescaledStepControl,
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
    "SAM",
    "AerSampling",
    "AllEntries",
    "Backend",
    "CircuitFromFile",
    "CircuitFromFunction",
    "CircuitSource",
    "CompiledBackend",
    "ConfiguredPerturbedOptimizer",
    "ConstantDecay",
    "ConvergenceCallback",
    "CosineDecay",
    "CyclicEntries",
    "DepolarizingNoise",
    "DeviceNoise",
    "ExactSampling",
    "FirstOfEachTensor",
    "FirstOfModel",
    "GaussianControl",
    "GenericDeviceNoise",
    "GivenSampling",
    "Goal",
    "GradientInjection",
    "HardwareSampling",
    "InvisiblePerturbationWarning",
    "LargestGradient",
    "Learning",
    "LinearDecay",
    "NoiseInjection",
    "NudgeInjection",
    "PaperAdam",
    "ParametrizedCircuit",
    "PermutedControl",
    "Perturbation",
    "PerturbationCallback",
    "PerturbationMixin",
    "PerturbationMonitor",
    "PerturbedOptimizer",
    "RaiseOnFailure",
    "RandomEntries",
    "RandomSignControl",
    "RandomStateCallback",
    "RelativeInjection",
    "RescaledStepControl",
    "RetryOnFailure",
    "SamplerBackend",
    "SamplingFromFunction",
    "ShotSampling",
    "SineBackend",
    "SkipOnFailure",
    "Strength",
    "SuperpositionCircuit",
    "SuperpositionalAdam",
    "TensorBoardCallback",
    "ThermalNoise",
    "UpdateInjection",
]

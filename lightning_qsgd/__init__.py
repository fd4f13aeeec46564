"""Wrap any torch optimizer with a quantum perturbation layer, and measure whether it helps.

Three ways in, one core:

- `PerturbationCallback` for any LightningModule, without subclassing it;
- `PerturbationMixin` for a LightningModule of your own;
- `PerturbedOptimizer` for plain torch and Fabric.

References:
    Superpositional Gradient Descent, arXiv:2511.01918.
"""

from typing import TYPE_CHECKING

from lightning_qsgd.late_names import late_names

if TYPE_CHECKING:
    from lightning_qsgd.backends import (
        AerSampling,
        Backend,
        CautiousTwin,
        CompiledBackend,
        DepolarizingNoise,
        DeviceNoise,
        ExactSampling,
        GenericDeviceNoise,
        GivenSampling,
        HardwareSampling,
        LazyTwin,
        LinearBackend,
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
        ObservedCircuit,
        ParametrizedCircuit,
        SignalProcessingCircuit,
        SuperpositionCircuit,
    )
    from lightning_qsgd.optimizers import (
        SAM,
        ConfiguredPerturbedOptimizer,
        EmbeddingAdamW,
        ExactMuonWithAdamW,
        InvisiblePerturbationWarning,
        MuonWithAdamW,
        PaperAdam,
        PerturbedOptimizer,
        SuperpositionalAdam,
    )
    from lightning_qsgd.perturbations import (
        Alignment,
        AllEntries,
        ConstantDecay,
        CosineDecay,
        CyclicEntries,
        FirstOfEachTensor,
        FirstOfModel,
        GaussianControl,
        Gradient,
        GradientInjection,
        HiddenMatrices,
        LargestGradient,
        Learning,
        LinearDecay,
        NoiseInjection,
        NudgeInjection,
        PermutedControl,
        PermutedFeatures,
        Perturbation,
        Progress,
        RandomEntries,
        RandomSignControl,
        RelativeInjection,
        RenormalisedInjection,
        RescaledStepControl,
        SpectralInjection,
        Step,
        Strength,
        TouchedStep,
        UpdateInjection,
        Weight,
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

__version__ = "0.2.0"

__all__ = [
    "SAM",
    "AerSampling",
    "Alignment",
    "AllEntries",
    "Backend",
    "CautiousTwin",
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
    "EmbeddingAdamW",
    "ExactMuonWithAdamW",
    "ExactSampling",
    "FirstOfEachTensor",
    "FirstOfModel",
    "GaussianControl",
    "GenericDeviceNoise",
    "GivenSampling",
    "Goal",
    "Gradient",
    "GradientInjection",
    "HardwareSampling",
    "HiddenMatrices",
    "InvisiblePerturbationWarning",
    "LargestGradient",
    "LazyTwin",
    "Learning",
    "LinearBackend",
    "LinearDecay",
    "MuonWithAdamW",
    "NoiseInjection",
    "NudgeInjection",
    "ObservedCircuit",
    "PaperAdam",
    "ParametrizedCircuit",
    "PermutedControl",
    "PermutedFeatures",
    "Perturbation",
    "PerturbationCallback",
    "PerturbationMixin",
    "PerturbationMonitor",
    "PerturbedOptimizer",
    "Progress",
    "RaiseOnFailure",
    "RandomEntries",
    "RandomSignControl",
    "RandomStateCallback",
    "RelativeInjection",
    "RenormalisedInjection",
    "RescaledStepControl",
    "RetryOnFailure",
    "SamplerBackend",
    "SamplingFromFunction",
    "ShotSampling",
    "SignalProcessingCircuit",
    "SineBackend",
    "SkipOnFailure",
    "SpectralInjection",
    "Step",
    "Strength",
    "SuperpositionCircuit",
    "SuperpositionalAdam",
    "TensorBoardCallback",
    "ThermalNoise",
    "TouchedStep",
    "UpdateInjection",
    "Weight",
]

if not TYPE_CHECKING:  # a type checker would take a `__getattr__` for any name at all
    _ROOMS = ("circuits", "backends", "perturbations", "optimizers", "training")
    __getattr__, __dir__ = late_names(__name__, __all__, _ROOMS)

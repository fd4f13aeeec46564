"""What is added to an update, and where."""

from lightning_qsgd.perturbations.controls import (
    Control,
    GaussianControl,
    PermutedControl,
    RandomSignControl,
    RescaledStepControl,
)
from lightning_qsgd.perturbations.coordinates import (
    AllEntries,
    Coordinates,
    CyclicEntries,
    FirstOfEachTensor,
    FirstOfModel,
    HiddenMatrices,
    LargestGradient,
    RandomEntries,
)
from lightning_qsgd.perturbations.injection import (
    GradientInjection,
    Injection,
    NoiseInjection,
    NudgeInjection,
    RelativeInjection,
    UpdateInjection,
)
from lightning_qsgd.perturbations.learning import Learning
from lightning_qsgd.perturbations.perturbation import Perturbation
from lightning_qsgd.perturbations.spectral import SpectralInjection
from lightning_qsgd.perturbations.step import TouchedStep
from lightning_qsgd.perturbations.strength import (
    ConstantDecay,
    CosineDecay,
    Decay,
    LinearDecay,
    Strength,
)

__all__ = [
    "AllEntries",
    "ConstantDecay",
    "Control",
    "Coordinates",
    "CosineDecay",
    "CyclicEntries",
    "Decay",
    "FirstOfEachTensor",
    "FirstOfModel",
    "GaussianControl",
    "GradientInjection",
    "HiddenMatrices",
    "Injection",
    "LargestGradient",
    "Learning",
    "LinearDecay",
    "NoiseInjection",
    "NudgeInjection",
    "PermutedControl",
    "Perturbation",
    "RandomEntries",
    "RandomSignControl",
    "RelativeInjection",
    "RescaledStepControl",
    "SpectralInjection",
    "Strength",
    "TouchedStep",
    "UpdateInjection",
]

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
from lightning_qsgd.perturbations.entry_features import (
    Alignment,
    Gradient,
    Progress,
    Step,
    Weight,
)
from lightning_qsgd.perturbations.features import (
    EntryFeatures,
    Feature,
    Features,
    Parameters,
    PermutedFeatures,
    Together,
)
from lightning_qsgd.perturbations.injection import (
    GradientInjection,
    Injection,
    NoiseInjection,
    NudgeInjection,
    RelativeInjection,
    RenormalisedInjection,
    UpdateInjection,
)
from lightning_qsgd.perturbations.perturbation import Perturbation
from lightning_qsgd.perturbations.spectral import SpectralInjection
from lightning_qsgd.perturbations.step import TouchedStep
from lightning_qsgd.perturbations.strength import (
    ConstantDecay,
    CosineDecay,
    Decay,
    Learning,
    LinearDecay,
    Strength,
)

__all__ = [
    "Alignment",
    "AllEntries",
    "ConstantDecay",
    "Control",
    "Coordinates",
    "CosineDecay",
    "CyclicEntries",
    "Decay",
    "EntryFeatures",
    "Feature",
    "Features",
    "FirstOfEachTensor",
    "FirstOfModel",
    "GaussianControl",
    "Gradient",
    "GradientInjection",
    "HiddenMatrices",
    "Injection",
    "LargestGradient",
    "Learning",
    "LinearDecay",
    "NoiseInjection",
    "NudgeInjection",
    "Parameters",
    "PermutedControl",
    "PermutedFeatures",
    "Perturbation",
    "Progress",
    "RandomEntries",
    "RandomSignControl",
    "RelativeInjection",
    "RenormalisedInjection",
    "RescaledStepControl",
    "SpectralInjection",
    "Step",
    "Strength",
    "Together",
    "TouchedStep",
    "UpdateInjection",
    "Weight",
]

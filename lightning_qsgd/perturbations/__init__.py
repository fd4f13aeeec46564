"""What is added to an update, and where."""

from lightning_qsgd.perturbations.coordinates import (
    AllEntries,
    Coordinates,
    CyclicEntries,
    FirstOfEachTensor,
    FirstOfModel,
    LargestGradient,
    RandomEntries,
)
from lightning_qsgd.perturbations.injection import (
    GradientInjection,
    Injection,
    RelativeInjection,
    UpdateInjection,
)
from lightning_qsgd.perturbations.learning import Learning
from lightning_qsgd.perturbations.perturbation import Perturbation
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
    "Coordinates",
    "CosineDecay",
    "CyclicEntries",
    "Decay",
    "FirstOfEachTensor",
    "FirstOfModel",
    "GradientInjection",
    "Injection",
    "LargestGradient",
    "Learning",
    "LinearDecay",
    "Perturbation",
    "RandomEntries",
    "RelativeInjection",
    "Strength",
    "UpdateInjection",
]

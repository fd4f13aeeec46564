"""Which entries of which tensors are perturbed."""

from lightning_qsgd.perturbations.coordinates.all_entries import AllEntries
from lightning_qsgd.perturbations.coordinates.coordinates import (
    Coordinates,
    Moment,
    TensorSpec,
)
from lightning_qsgd.perturbations.coordinates.cyclic_entries import CyclicEntries
from lightning_qsgd.perturbations.coordinates.first_of_each_tensor import FirstOfEachTensor
from lightning_qsgd.perturbations.coordinates.first_of_model import FirstOfModel
from lightning_qsgd.perturbations.coordinates.largest_gradient import LargestGradient
from lightning_qsgd.perturbations.coordinates.random_entries import RandomEntries

__all__ = [
    "AllEntries",
    "Coordinates",
    "CyclicEntries",
    "FirstOfEachTensor",
    "FirstOfModel",
    "LargestGradient",
    "Moment",
    "RandomEntries",
    "TensorSpec",
]

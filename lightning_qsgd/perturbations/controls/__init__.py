"""Classical stand-ins for a perturbation, of the same size in each tensor."""

from lightning_qsgd.perturbations.controls.control import Control, Replaced
from lightning_qsgd.perturbations.controls.gaussian_control import GaussianControl
from lightning_qsgd.perturbations.controls.permuted_control import PermutedControl
from lightning_qsgd.perturbations.controls.random_sign_control import RandomSignControl
from lightning_qsgd.perturbations.controls.rescaled_step_control import RescaledStepControl

__all__ = [
    "Control",
    "GaussianControl",
    "PermutedControl",
    "RandomSignControl",
    "Replaced",
    "RescaledStepControl",
]

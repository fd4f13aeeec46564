"""Lightning: the mixin, the callbacks and the module that the examples train."""

from lightning_qsgd.training.checkpoints import (
    OptimizerModesCallback,
    RandomStateCallback,
    SafeCheckpointIO,
    install_safe_checkpoints,
)
from lightning_qsgd.training.classifier import Classifier
from lightning_qsgd.training.convergence_callback import ConvergenceCallback, Goal
from lightning_qsgd.training.perturbation_callback import PerturbationCallback
from lightning_qsgd.training.perturbation_mixin import PerturbationMixin
from lightning_qsgd.training.perturbation_monitor import PerturbationMonitor
from lightning_qsgd.training.tensorboard_callback import TensorBoardCallback

__all__ = [
    "Classifier",
    "ConvergenceCallback",
    "Goal",
    "OptimizerModesCallback",
    "PerturbationCallback",
    "PerturbationMixin",
    "PerturbationMonitor",
    "RandomStateCallback",
    "SafeCheckpointIO",
    "TensorBoardCallback",
    "install_safe_checkpoints",
]

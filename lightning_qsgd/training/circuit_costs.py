"""Says what the circuits of a training will cost, before it starts."""

from collections.abc import Sequence

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_qsgd.backends import SamplerBackend, forecast
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.optimizers.base_check import blocks_per_step


def announce_costs(trainer: Trainer, optimizers: Sequence[PerturbedOptimizer]) -> None:
    """Show the forecast of each optimizer whose circuits leave this machine or are limited.

    Args:
        trainer: Knows how many steps it will take.
        optimizers: The perturbed ones.

    Raises:
        ValueError: If a forecast exceeds the limit of its backend.
    """
    for optimizer in optimizers:
        backend = optimizer.perturbation.backend
        if not isinstance(backend, SamplerBackend):
            continue
        if backend.recipe.local and backend.max_circuits is None:
            continue
        steps = trainer.estimated_stepping_batches
        blocks = blocks_per_step(optimizer.param_groups, optimizer.perturbation)
        learning = optimizer.perturbation.learning
        learns_weights = learning is not None and learning.weights_rate > 0
        expected = forecast(backend, steps, blocks, learns_weights)
        rank_zero_info(f"The perturbation will take {expected} ({type(backend.recipe).__name__}).")
        expected.check(backend.max_circuits)

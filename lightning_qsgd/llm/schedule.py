"""Warm the learning rate up linearly, then let it decay linearly to 0."""

from dataclasses import dataclass
from functools import partial
from math import isfinite

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch.optim.lr_scheduler import LambdaLR

from lightning_qsgd.argument_checks import require_at_least


def linear_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Compute what the learning rate is multiplied with, as transformers' linear schedule does.

    Args:
        step: Optimizer steps taken so far; the first step is taken at factor 0 if there is any
            warm-up.
        warmup_steps: Steps until the factor is 1.
        total_steps: Steps until the factor is 0.

    Returns:
        A factor in [0, 1].

    Example:
        >>> [linear_factor(step, warmup_steps=2, total_steps=6) for step in range(7)]
        [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if step < warmup_steps:
        return step / warmup_steps
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))


@dataclass(frozen=True)
class LinearSchedule:
    """Says how the learning rate moves over a fit, whatever its optimizer.

    Args:
        warmup_steps: Steps until the learning rate is the optimizer's own; 0 for none.

    Raises:
        ValueError: If `warmup_steps` is negative.

    Example:
        >>> LinearSchedule(warmup_steps=500)
        LinearSchedule(warmup_steps=500)

    References:
        Table III of arXiv:2511.01918: 500 warm-up steps, then linear decay to 0.
    """

    warmup_steps: int = 0

    def __post_init__(self) -> None:
        require_at_least("warmup_steps", self.warmup_steps, 0)

    def attach(self, trainer: Trainer) -> None:
        """Schedule the trainer's optimizer at every step, from `on_fit_start` on.

        Done there and not in `configure_optimizers`, because LightningCLI's `--optimizer` replaces
        that method: the schedule would be lost without a word. The state of the schedule is
        restored after it, so a resumed run goes on where it was.

        Args:
            trainer: A trainer whose optimizers are set up.

        Raises:
            ValueError: If the trainer has a schedule already, or no end.
        """
        strategy = trainer.strategy
        if strategy.lr_scheduler_configs:
            raise ValueError(
                f"Expected one schedule of the learning rate, got {self} and "
                f"{type(strategy.lr_scheduler_configs[0].scheduler).__name__}: the two would "
                "multiply. Leave out `lr_scheduler`, or set the model's `schedule` to null."
            )
        total = trainer.estimated_stepping_batches
        if not isfinite(total):
            raise ValueError(
                "Expected a training of known length, got no end: the learning rate could not "
                "reach 0 at it. Set `trainer.max_steps` or `trainer.max_epochs`, or set the "
                "model's `schedule` to null."
            )
        factor = partial(linear_factor, warmup_steps=self.warmup_steps, total_steps=int(total))
        strategy.lr_scheduler_configs = [
            LRSchedulerConfig(LambdaLR(optimizer, factor), interval="step")
            for optimizer in strategy.optimizers
        ]

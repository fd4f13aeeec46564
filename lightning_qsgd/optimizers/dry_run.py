"""Tells a step of training from one that only initialises an optimizer's state."""

from typing import Any

from torch.optim import Optimizer

from lightning_qsgd.optimizers.rows import parameters_of
from lightning_qsgd.optimizers.sharding import is_sharded, whole


def is_dry_run(base: Optimizer, closure: Any) -> bool:
    """Whether the step is no step of training: learning rates and gradients are all 0.

    torch's distributed checkpoints initialise an optimizer without state by such a step.
    """
    if closure is not None or base.state:
        return False
    if any(bool(group.get("lr", 1.0) != 0) for group in base.param_groups):
        return False
    gradients = [parameter.grad for parameter in parameters_of(base.param_groups)]
    return not any(gradient is not None and _is_nonzero(gradient) for gradient in gradients)


def _is_nonzero(gradient: Any) -> bool:
    """Whether any entry is not 0, on whatever process it lies."""
    if is_sharded(gradient):
        return bool(whole(gradient.abs().sum()) != 0)
    return bool(gradient.any())

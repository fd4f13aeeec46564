"""The wrapper in the form that a config's ``optimizer`` entry needs."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from lightning_qsgd.optimizers.perturbed import PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation


class ConfiguredPerturbedOptimizer(PerturbedOptimizer):
    """Builds the base optimizer from parameters, then wraps it.

    `LightningCLI` and other config systems hand an optimizer its parameters; this class takes
    them first and passes them on, so that it can stand as ``--optimizer`` in any config.

    Args:
        params: Parameters or parameter groups.
        base: Makes the base optimizer from the parameters; a class_path in a config.
        perturbation: What to add to its steps.

    Raises:
        TypeError: If `base` is not callable, or makes no torch optimizer.
        ValueError: If the perturbation does not fit the base.

    Example:
        >>> weights = [torch.nn.Parameter(torch.ones(3))]
        >>> type(ConfiguredPerturbedOptimizer(weights, base=torch.optim.AdamW).base).__name__
        'AdamW'
    """

    def __init__(
        self,
        params: Iterable[Any],
        base: Callable[[Iterable[Any]], Optimizer] = torch.optim.AdamW,
        perturbation: Perturbation | None = None,
    ) -> None:
        if not callable(base):
            raise TypeError(
                f"Expected `base` to make an optimizer from parameters, got {base!r}, which is "
                "not callable. Pass a class such as torch.optim.AdamW, or use PerturbedOptimizer "
                "for an instance."
            )
        super().__init__(base(params), perturbation)

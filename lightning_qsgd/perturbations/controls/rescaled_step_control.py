"""The base optimizer's own step in place of the perturbation."""

from dataclasses import dataclass

from torch import Tensor

from lightning_qsgd.perturbations.controls.control import Control, Replaced


@dataclass(frozen=True)
class RescaledStepControl(Control):
    """Adds the base optimizer's own step at the perturbation's norm: a larger learning rate.

    It tells whether the perturbation does more than lengthen the step. A tensor whose perturbed
    entries the base does not move gets nothing.

    Example:
        >>> import torch
        >>> would_add, base_step = torch.tensor([3.0, 4.0]), torch.tensor([-1.0, 0.0])
        >>> step = Replaced(would_add, torch.ones(2), base_step, ("0",), (2,), (0, 0))
        >>> RescaledStepControl().replace(step)
        tensor([-5.,  0.])
    """

    def replace(self, replaced: Replaced) -> Tensor:
        """Return the base step, rescaled per tensor; see `Control.replace`."""
        return replaced.matched(replaced.base_step)

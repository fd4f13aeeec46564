"""How the perturbation itself is injected around one step of the base optimizer."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.rows import ParamGroups


class Scale(NamedTuple):
    """How strong the perturbation is at a step.

    Attributes:
        strength: Strength at this step, positive.
        groups: The base optimizer's parameter groups, which hold the learning rates.
        step_size: Replaces the learning rates if given.
        moment: The perturbation's seed and the step, which name random streams.
    """

    strength: float
    groups: ParamGroups
    step_size: float | None
    moment: tuple[int, int]


class Injector(ABC):
    """Carries out an injection on the touched entries of one step.

    `moves_parameters` says whether the perturbation is compared with the base's step; if not, with
    the gradient.

    Args:
        entries: The touched entries.
        theta: Their values before the step, shape (entries,).
        u: The modulation there, shape (entries,); taken over, not copied.
        scale: How strong the perturbation is.
    """

    moves_parameters = True

    def __init__(self, entries: Entries, theta: Tensor, u: Tensor, scale: Scale) -> None:
        self.entries = entries
        self.theta = theta
        self.u = u
        self.scale = scale

    @abstractmethod
    def before_base_step(self) -> None:
        """Compute what depends on theta_t and g_t, before the base optimizer moves anything."""

    def restore(self) -> None:  # noqa: B027 - most injections have changed nothing
        """Undo what `before_base_step` changed, once: the base optimizer has seen it."""

    def measure_base_step(self) -> Tensor:
        """Return what the perturbation is compared with, shape (entries,): the base's step."""
        return self.entries.read_parameters().sub_(self.theta)

    @abstractmethod
    def after_base_step(self, base_step: Tensor | None) -> Tensor:
        """Apply the perturbation.

        Args:
            base_step: The base optimizer's step on the entries, shape (entries,), if measured.

        Returns:
            What was added, shape (entries,); only meaningful if the base step was measured.
        """


class UpdateInjector(Injector):
    """``theta <- base(theta) - step_size * strength * u * g``.

    Where a group maximises, g is the gradient of the negated objective, as for the base.
    """

    def before_base_step(self) -> None:
        """Compute the pending update; see `Injector.before_base_step`."""
        self._pending = self.scaled(self.u.mul_(self.entries.read_gradients()))

    def after_base_step(self, base_step: Tensor | None) -> Tensor:
        """Subtract the pending update; see `Injector.after_base_step`."""
        self.entries.subtract_from_parameters(self._pending)
        return self._pending if base_step is None else self._pending.neg_()

    def scaled(self, values: Tensor) -> Tensor:
        """Multiply values, shape (entries,), by strength and step size in place."""
        groups = self.scale.groups
        if len(groups) == 1:
            values.mul_(self._factor(groups[0]))
        else:
            for index, start, stop in self.entries.group_bounds:
                values[start:stop].mul_(self._factor(groups[index]))
        return without_nonfinite(values)

    def _factor(self, group: dict[str, Any]) -> Any:
        strength, _, step_size, _ = self.scale
        signed = -strength if group.get("maximize") else strength
        return signed * (group["lr"] if step_size is None else step_size)


class GradientInjector(Injector):
    """The base optimizer sees ``g + strength * u * g``; g is restored afterwards."""

    moves_parameters = False

    def before_base_step(self) -> None:
        """Overwrite the gradients; see `Injector.before_base_step`."""
        self._gradient = self.entries.read_gradients()
        self._added = without_nonfinite(self.u.mul_(self._gradient).mul_(self.scale.strength))
        self._restored = False
        self.entries.write_gradients(self._gradient + self._added)

    def restore(self) -> None:
        """Restore the gradients; see `Injector.restore`."""
        if not self._restored:
            self._restored = True
            with torch.no_grad():
                self.entries.write_gradients(self._gradient)

    def measure_base_step(self) -> Tensor:
        """Return the gradient itself; see `Injector.measure_base_step`."""
        return self._gradient

    def after_base_step(self, base_step: Tensor | None) -> Tensor:
        """Restore the gradients; see `Injector.after_base_step`."""
        self.restore()
        return self._added


class RelativeInjector(Injector):
    """``theta <- theta + delta * (1 + strength * u)``, delta being the base step."""

    def before_base_step(self) -> None:
        """Nothing to do: theta and u were taken before the step."""

    def after_base_step(self, base_step: Tensor | None) -> Tensor:
        """Rescale the base step; see `Injector.after_base_step`."""
        delta = self.measure_base_step() if base_step is None else base_step
        added = without_nonfinite(self.u.mul_(delta).mul_(self.scale.strength))
        self.entries.subtract_from_parameters(added.neg())
        return added


def without_nonfinite(values: Tensor) -> Tensor:
    """Replace NaN and infinity by 0 in place: where theta or g is not finite, nothing is added."""
    return torch.nan_to_num_(values, 0.0, 0.0, 0.0)

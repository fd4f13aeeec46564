"""How each injection is carried out around one step of the base optimizer."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.rows import ParamGroups


class Injector(ABC):
    """Carries out an injection on the touched entries of one step.

    Args:
        entries: The touched entries.
        theta: Their values before the step, shape (entries,).
        u: The modulation there, shape (entries,); taken over, not copied.
        strength: Strength at this step, positive.
    """

    def __init__(self, entries: Entries, theta: Tensor, u: Tensor, strength: float) -> None:
        self.entries = entries
        self.theta = theta
        self.u = u
        self.strength = strength

    @abstractmethod
    def before_base_step(self) -> None:
        """Compute what depends on theta_t and g_t, before the base optimizer moves anything."""

    def after_failure(self) -> None:  # noqa: B027 - most injections have changed nothing yet
        """Undo what `before_base_step` changed, after the base optimizer raised."""

    def measure_base_step(self) -> Tensor:
        """Return what the perturbation is compared with, shape (entries,): the base's step."""
        return self.entries.read_parameters().sub_(self.theta)

    @abstractmethod
    def after_base_step(self, base_step: Tensor | None) -> Tensor:
        """Apply the perturbation and return what was added, shape (entries,).

        Args:
            base_step: The base optimizer's step on the entries, where it was measured.
        """


class UpdateInjector(Injector):
    """``theta <- base(theta) - step_size * strength * u * g``.

    Where a group maximises, g is the gradient of the negated objective, as for the base.
    """

    def __init__(
        self,
        entries: Entries,
        theta: Tensor,
        u: Tensor,
        strength: float,
        groups: ParamGroups,
        step_size: float | None,
    ) -> None:
        super().__init__(entries, theta, u, strength)
        self._groups = groups
        self._step_size = step_size

    def before_base_step(self) -> None:
        """Compute the pending update; see `Injector.before_base_step`."""
        pending = self.u.mul_(self.entries.read_gradients())
        if len(self._groups) == 1:
            pending.mul_(self._scale(self._groups[0]))
        else:
            for index, start, stop in self.entries.group_bounds:
                pending[start:stop].mul_(self._scale(self._groups[index]))
        self._pending = without_nonfinite(pending)

    def after_base_step(self, base_step: Tensor | None) -> Tensor:
        """Subtract the pending update; see `Injector.after_base_step`."""
        self.entries.subtract_from_parameters(self._pending)
        return self._pending.neg_()

    def _scale(self, group: dict[str, object]) -> float | Tensor:
        size = group["lr"] if self._step_size is None else self._step_size
        sign = -1.0 if group.get("maximize") else 1.0
        return sign * self.strength * size  # type: ignore[operator]


class GradientInjector(Injector):
    """The base optimizer sees ``g + strength * u * g``; g is restored afterwards."""

    def before_base_step(self) -> None:
        """Overwrite the gradients; see `Injector.before_base_step`."""
        self._gradient = self.entries.read_gradients()
        self._added = without_nonfinite(self.u.mul_(self._gradient).mul_(self.strength))
        self.entries.write_gradients(self._gradient + self._added)

    def after_failure(self) -> None:
        """Restore the gradients; see `Injector.after_failure`."""
        if all(row.parameter.grad is not None for row in self.entries.rows):
            self.entries.write_gradients(self._gradient)

    def measure_base_step(self) -> Tensor:
        """Return the gradient itself; see `Injector.measure_base_step`."""
        return self._gradient

    def after_base_step(self, base_step: Tensor | None) -> Tensor:
        """Restore the gradients; see `Injector.after_base_step`."""
        self.after_failure()
        return self._added


class RelativeInjector(Injector):
    """``theta <- theta + delta * (1 + strength * u)``, delta being the base step."""

    def before_base_step(self) -> None:
        """Nothing to do: theta and u were taken before the step."""

    def after_base_step(self, base_step: Tensor | None) -> Tensor:
        """Rescale the base step; see `Injector.after_base_step`."""
        delta = self.measure_base_step() if base_step is None else base_step
        added = without_nonfinite(self.u.mul_(delta).mul_(self.strength))
        self.entries.subtract_from_parameters(added.neg())
        return added


def without_nonfinite(values: Tensor) -> Tensor:
    """Replace NaN and infinity by 0 in place: where theta or g is not finite, nothing is added."""
    return torch.nan_to_num_(values, 0.0, 0.0, 0.0)

"""How a control is injected: what the perturbation would add is found, then replaced."""

from abc import abstractmethod

from torch import Tensor

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.plain_injectors import (
    Injector,
    RelativeInjector,
    Scale,
    UpdateInjector,
    without_nonfinite,
)
from lightning_qsgd.perturbations.controls import Control, Replaced


class ControlledInjector(Injector):
    """Adds what a control makes of the perturbation.

    Args:
        control: Replaces what would be added.
        entries: The touched entries.
        theta: Their values before the step, shape (entries,).
        u: The modulation there, shape (entries,).
        scale: How strong the perturbation would be.
    """

    def __init__(
        self, control: Control, entries: Entries, theta: Tensor, u: Tensor, scale: Scale
    ) -> None:
        super().__init__(entries, theta, u, scale)
        self._control = control

    def after_base_step(self, base_step: Tensor | None) -> Tensor:
        """Add the control's stand-in; see `Injector.after_base_step`."""
        delta = self.measure_base_step() if base_step is None else base_step
        rows = self.entries.rows
        replaced = Replaced(
            coefficients=self.find_coefficients(delta),
            modulation=self.u,
            base_step=without_nonfinite(delta.clone()),
            names=tuple(row.name for row in rows),
            sizes=tuple(row.size for row in rows),
            moment=self.scale.moment,
        )
        added = self._control.replace(replaced)
        self.entries.subtract_from_parameters(added.neg())
        return added

    @abstractmethod
    def find_coefficients(self, delta: Tensor) -> Tensor:
        """Return what a modulation of 1 would add, shape (entries,); delta is the base step."""


class ControlledUpdateInjector(ControlledInjector, UpdateInjector):
    """Replaces ``-step_size * strength * u * g``."""

    def before_base_step(self) -> None:
        """Take the gradient before the base optimizer can change it."""
        self._pending = self.scaled(self.entries.read_gradients())

    def find_coefficients(self, delta: Tensor) -> Tensor:
        """Return ``-step_size * strength * g``; see `ControlledInjector.find_coefficients`."""
        return self._pending.neg()


class ControlledRelativeInjector(ControlledInjector, RelativeInjector):
    """Replaces ``strength * u * delta``."""

    def find_coefficients(self, delta: Tensor) -> Tensor:
        """Return ``strength * delta``; see `ControlledInjector.find_coefficients`."""
        return without_nonfinite(delta * self.scale.strength)

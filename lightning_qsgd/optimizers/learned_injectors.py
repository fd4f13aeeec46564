"""How an injection is carried out where strength or weights are learned.

What is added is ``factor * direction`` with ``direction = coefficients * u``: the parts are kept
apart for the next step, which learns from them.
"""

from abc import abstractmethod

from torch import Tensor

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.injectors import (
    Injector,
    RelativeInjector,
    Scale,
    UpdateInjector,
    without_nonfinite,
)
from lightning_qsgd.perturbations import Injection, RelativeInjection


class LearnedInjector(Injector):
    """An injector that keeps the parts of what it adds.

    Attributes:
        coefficients: What a modulation of 1 adds at factor 1, shape (entries,).
        direction: What is added at factor 1, shape (entries,).

    Args:
        entries: The touched entries.
        theta: Their values before the step, shape (entries,).
        u: The modulation there, shape (entries,).
        scale: How strong the perturbation is at factor 1.
        factor: Learned factor of the strength, non-negative.
    """

    coefficients: Tensor
    direction: Tensor

    def __init__(
        self, entries: Entries, theta: Tensor, u: Tensor, scale: Scale, factor: float
    ) -> None:
        super().__init__(entries, theta, u, scale)
        self.factor = factor

    def after_base_step(self, base_step: Tensor | None) -> Tensor:
        """Add the direction times the factor; at factor 0 no parameter is written."""
        self.coefficients = self.find_coefficients(base_step)
        self.direction = without_nonfinite(self.coefficients * self.u)
        added = self.direction * self.factor
        if self.factor > 0:
            self.entries.subtract_from_parameters(added.neg())
        return added

    @abstractmethod
    def find_coefficients(self, base_step: Tensor | None) -> Tensor:
        """Return the coefficients; see the attribute. `base_step` is given if measured."""


class LearnedUpdateInjector(LearnedInjector, UpdateInjector):
    """Adds ``-step_size * strength * g * u`` times the factor."""

    def before_base_step(self) -> None:
        """Take the gradient before the base optimizer can change it."""
        self._pending = self.scaled(self.entries.read_gradients())

    def find_coefficients(self, base_step: Tensor | None) -> Tensor:
        """Return ``-step_size * strength * g``."""
        return self._pending.neg()


class LearnedRelativeInjector(LearnedInjector, RelativeInjector):
    """Adds ``strength * delta * u`` times the factor, delta being the base step."""

    def find_coefficients(self, base_step: Tensor | None) -> Tensor:
        """Return ``strength * delta``, known only now."""
        delta = self.measure_base_step() if base_step is None else base_step
        return without_nonfinite(delta * self.scale.strength)


def learned_injector_class(injection: Injection) -> type[LearnedInjector]:
    """Return the class that carries out an injection and keeps its parts."""
    relative = isinstance(injection, RelativeInjection)
    return LearnedRelativeInjector if relative else LearnedUpdateInjector

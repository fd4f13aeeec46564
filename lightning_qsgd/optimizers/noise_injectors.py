"""How noise that no circuit sizes is injected: into the gradient, or once into the parameters."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.plain_injectors import (
    GradientInjector,
    Injector,
    Scale,
    without_nonfinite,
)
from lightning_qsgd.perturbations import NoiseInjection, NudgeInjection
from lightning_qsgd.perturbations.keyed_draws import keyed_draws, normals, signs


class NoiseInjector(GradientInjector):
    """The base optimizer sees ``g + noise``; g is restored afterwards.

    Args:
        injection: Says how large the noise is.
        entries: The touched entries.
        theta: Their values before the step, shape (entries,).
        u: The modulation there, which does not enter, shape (entries,).
        scale: How strong the noise is, and when it is drawn.
    """

    def __init__(
        self, injection: NoiseInjection, entries: Entries, theta: Tensor, u: Tensor, scale: Scale
    ) -> None:
        super().__init__(entries, theta, u, scale)
        self._injection = injection

    def before_base_step(self) -> None:
        """Overwrite the gradients; see `Injector.before_base_step`."""
        deviation = self.scale.strength * self._injection.deviation(self.scale.moment[1])
        self._gradient = self.entries.read_gradients()
        noise = draw_on(self.entries, normals, self.scale).to(self._gradient).mul_(deviation)
        self._restored = False
        self.entries.write_gradients(self._gradient + noise)
        # Read back: a tensor without a gradient got none of the noise.
        self._added = without_nonfinite(self.entries.read_gradients().sub_(self._gradient))


class NudgeInjector(Injector):
    """``theta <- base(theta) +- strength * size``.

    Args:
        injection: Says how large the nudge is.
        entries: The touched entries.
        theta: Their values before the step, shape (entries,).
        u: The modulation there, which does not enter, shape (entries,).
        scale: How strong the nudge is, and when it is drawn.
    """

    def __init__(
        self, injection: NudgeInjection, entries: Entries, theta: Tensor, u: Tensor, scale: Scale
    ) -> None:
        super().__init__(entries, theta, u, scale)
        self._size = scale.strength * injection.size

    def before_base_step(self) -> None:
        """Nothing to do: the nudge depends on neither theta nor g."""

    def after_base_step(self, base_step: Tensor | None) -> Tensor:
        """Nudge the parameters; see `Injector.after_base_step`."""
        added = draw_on(self.entries, signs, self.scale).to(self.theta).mul_(self._size)
        self.entries.subtract_from_parameters(added.neg())
        return added


def draw_on(
    entries: Entries, draw: Callable[[np.random.Generator, int], np.ndarray], scale: Scale
) -> Tensor:
    """Draw one number per touched entry from its tensor's stream, shape (entries,)."""
    tensors = ((row.name, row.size) for row in entries.rows)
    return torch.from_numpy(keyed_draws(draw, tensors, scale.moment))

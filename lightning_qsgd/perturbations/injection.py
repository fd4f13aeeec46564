"""Where the perturbation enters: the update, the gradient, or the base optimizer's own step.

The injections are descriptions; the optimizer wrapper carries them out.
"""

from dataclasses import dataclass
from math import isfinite


class Injection:
    """A place where the perturbation enters a step; the base of the three that exist."""


@dataclass(frozen=True)
class UpdateInjection(Injection):
    """Adds the perturbation to the update: ``theta <- base(theta) - lr * strength * Q``.

    Args:
        step_size: Replaces ``lr``, non-negative and finite. None takes the learning rate of each
            parameter group. Give it for optimizers without ``lr`` or whose ``lr`` is no step size
            (Prodigy, D-Adaptation, Adafactor), for which Eq. 1's alpha is not defined.

    Raises:
        ValueError: If `step_size` is negative or not finite.

    References:
        arXiv:2511.01918, Eq. 1.
    """

    step_size: float | None = None

    def __post_init__(self) -> None:
        if self.step_size is not None and not (isfinite(self.step_size) and self.step_size >= 0):
            raise ValueError(
                f"Expected `step_size` to be non-negative and finite, got {self.step_size}: it "
                "scales the perturbation. Leave it out to take each group's learning rate."
            )


@dataclass(frozen=True)
class GradientInjection(Injection):
    """Hands the base optimizer ``g + strength * Q`` and restores ``g`` after the step.

    The paper's arm "Adam with quantum-inspired moment updates": the perturbed gradient enters
    Adam's moments. Adam is scale-invariant per coordinate, so little of it survives.
    """


@dataclass(frozen=True)
class RelativeInjection(Injection):
    """Rescales the base optimizer's own step: ``theta <- theta + delta * (1 + strength * u)``.

    ``delta`` is the base step and ``u`` the modulation. It needs no learning rate, and its size
    relative to the base step does not depend on the gradient's scale.
    """

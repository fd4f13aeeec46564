"""Where the perturbation enters, and what it adds there per unit of modulation.

What is added is always the same product, on the touched entries:

    added = strength * coefficients * u

An injection says what the coefficients are and whether the sum enters the update or the gradient.
The optimizer wrapper carries every injection out in the same way; controls and learning work on
the two factors, whatever the injection.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, ClassVar, Literal

from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends import Backend
from lightning_qsgd.backends.backend import promises_end
from lightning_qsgd.perturbations.controls import Control
from lightning_qsgd.perturbations.keyed_draws import normals, signs
from lightning_qsgd.perturbations.step import TouchedStep, means_of, spread


@dataclass(frozen=True)
class Injection(ABC):
    """Says what a modulation of 1 adds, and where.

    A subclass implements `coefficients` and overrides the attributes that differ.

    Args:
        control: Replaces what is added by something classical of the same norm in each tensor;
            None adds the perturbation itself.

    Attributes:
        enters: "update": added to the parameters after the base's step. "gradient": the base
            optimizer sees it on top of the gradient, which is restored afterwards.
        modulated: Whether the circuit multiplies the coefficients; where not, u is 1 and no
            circuit is evaluated.
        needs_gradient: Whether the gradient is read.
        needs_base_step: Whether `coefficients` needs the base's step. What is added is then
            computed after the base has moved; not for what enters the gradient.
        needs_learning_rate: Whether every parameter group must have an ``lr``.
        by_tensor: Whether what is added to a tensor depends on that tensor alone; only for what
            enters the update. With features of entries a large model is then perturbed in runs
            of tensors, which saves memory: `step` holds a part of the touched ones. A subclass with
            `coefficients` or `shaped` of its own does not inherit it.
    """

    control: Control | None = field(default=None, kw_only=True)

    enters: ClassVar[Literal["update", "gradient"]] = "update"
    modulated: ClassVar[bool] = True
    needs_gradient: ClassVar[bool] = True
    needs_base_step: ClassVar[bool] = False
    by_tensor: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        promises_end(cls, {"coefficients", "shaped"}, by_tensor=False)

    @abstractmethod
    def coefficients(self, step: TouchedStep) -> Tensor:
        """Return what a modulation of 1 adds at strength 1, shape (entries,).

        Args:
            step: What is known of the step. Do not change its tensors.
        """

    def evaluate(self, backend: Backend, step: TouchedStep) -> Any:
        """Evaluate circuits elsewhere than at the touched parameters, before the base moves.

        Called where `modulated` is false; the result is `step.evaluated`.

        Args:
            backend: Evaluates the circuit.
            step: What is known of the step: theta.
        """
        return None

    def check_backend(self, backend: Backend) -> None:  # noqa: B027 - most take any
        """Raise a ValueError if the injection has no use for what this backend evaluates."""

    def shaped(self, u: Tensor, sizes: Sequence[int], strength: float) -> Tensor:
        """Return what the modulation becomes before it multiplies, shape (entries,): itself.

        Args:
            u: The circuit's modulation, shape (entries,). Gradients flow through. Not changed.
            sizes: Number of touched entries of each tensor.
            strength: The schedule's strength at this step, positive.
        """
        return u

    @property
    def needs_learning_rate(self) -> bool:
        """Whether every parameter group must have an ``lr``."""
        return False

    @property
    def can_be_learned(self) -> bool:
        """Whether the next gradient tells what the circuit did to the loss."""
        return self.modulated and self.enters == "update"

    def __post_init__(self) -> None:
        if self.control is not None and not isinstance(self.control, Control):
            raise TypeError(
                f"Expected `control` to be a Control, got {type(self.control).__name__}: it "
                "replaces what is added. Pass GaussianControl(), or None for the perturbation "
                "itself."
            )


@dataclass(frozen=True)
class UpdateInjection(Injection):
    """Adds the perturbation to the update: ``theta <- base(theta) - lr * strength * Q``.

    Args:
        step_size: Replaces ``lr``, non-negative and finite. None takes the learning rate of each
            parameter group. Give it for optimizers without ``lr`` or whose ``lr`` is no step size
            (Prodigy, D-Adaptation, Adafactor), for which Eq. 1's alpha is not defined.
        control: Replaces what is added by something classical of the same norm in each tensor.

    Raises:
        TypeError: If `control` is no `Control`.
        ValueError: If `step_size` is negative or not finite.

    References:
        arXiv:2511.01918, Eq. 1.
    """

    step_size: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size is not None and not (isfinite(self.step_size) and self.step_size >= 0):
            raise ValueError(
                f"Expected `step_size` to be non-negative and finite, got {self.step_size}: it "
                "scales the perturbation. Leave it out to take each group's learning rate."
            )

    @override
    def coefficients(self, step: TouchedStep) -> Tensor:
        rates = step.learning_rates if self.step_size is None else self.step_size
        return step.gradient * -rates

    @property
    @override
    def needs_learning_rate(self) -> bool:
        return self.step_size is None


@dataclass(frozen=True)
class GradientInjection(Injection):
    """Hands the base optimizer ``g + strength * Q`` and restores ``g`` after the step.

    The paper's arm "Adam with quantum-inspired moment updates": the perturbed gradient enters
    Adam's moments. Adam is scale-invariant per coordinate, so little of it survives.

    Args:
        control: Replaces what is added by something classical of the same norm in each tensor; of
            the gradient, where a control speaks of the base's step.
    """

    enters = "gradient"

    @override
    def coefficients(self, step: TouchedStep) -> Tensor:
        return step.gradient


@dataclass(frozen=True)
class RelativeInjection(Injection):
    """Rescales the base optimizer's own step: ``theta <- theta + delta * (1 + strength * u)``.

    ``delta`` is the base step and ``u`` the modulation. It needs no learning rate, and its size
    relative to the base step does not depend on the gradient's scale.

    Args:
        control: Replaces what is added by something classical of the same norm in each tensor.

    Raises:
        TypeError: If `control` is no `Control`.
    """

    control: Control | None = None

    needs_gradient = False
    needs_base_step = True
    by_tensor = True

    @override
    def coefficients(self, step: TouchedStep) -> Tensor:
        return step.base_step


@dataclass(frozen=True)
class RenormalisedInjection(Injection):
    r"""Rescales the base's step entry by entry, and keeps its mean size in each tensor.

    .. math::
        \theta \leftarrow \theta_{old} + \mathrm{decay} + \delta \odot
            \frac{w}{\max(\overline{w}, \mathit{floor})}, \qquad w = 1 + \lambda u

    The mean runs over the touched entries of each tensor, so that a u that is the same everywhere
    changes nothing. Dividing by the mean alone would explode where most entries are switched off,
    as units that died do; the floor bounds it. :math:`\delta` is the base's step without decoupled
    weight decay (`torch.optim.AdamW`, `Muon`), which stays as it is. Where an optimizer adds its
    weight decay to the gradient, the two are mixed, and the decay is rescaled as well.

    Args:
        floor: Smallest divisor, in (0, 1].
        control: Replaces what is added by something classical of the same norm in each tensor.

    Raises:
        ValueError: If `floor` is out of range.
    """

    floor: float = 0.1

    needs_gradient = False
    needs_base_step = True
    by_tensor = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.floor <= 1:
            raise ValueError(
                f"Expected `floor` to lie in (0, 1], got {self.floor}: it bounds how much longer "
                "a step can become. Use 0.1."
            )

    @override
    def coefficients(self, step: TouchedStep) -> Tensor:
        return step.without_decay()

    @override
    def shaped(self, u: Tensor, sizes: Sequence[int], strength: float) -> Tensor:
        # w / mean - 1 over the strength, what is added being the strength times this, is
        # (u - m) / (1 + strength * m): with m the mean of u, or what belongs to the floor.
        m = means_of(u, sizes).clamp(min=(self.floor - 1) / strength)
        return (u - spread(m, sizes)).mul_(spread((1 + strength * m).reciprocal(), sizes))


@dataclass(frozen=True)
class NoiseInjection(Injection):
    r"""Hands the base optimizer a noisy gradient, with noise that fades, and restores it after.

    At step t, counted from 0, the base sees :math:`g + \lambda z` on the chosen coordinates with
    :math:`z \sim N(0, \eta / (1 + t)^\gamma)`; strength 1 is the paper's method. Neither the
    circuit nor a perturbation's size enters: it is a classical rival, no matched control.

    Args:
        eta: Variance at the first step, non-negative and finite. The paper chose from 0.01, 0.3
            and 1.
        gamma: How fast the variance falls, non-negative and finite.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> round(NoiseInjection(eta=1.0).deviation(step=99), 4)  # 100^(-0.55 / 2)
        0.2818

    References:
        Neelakantan et al. 2015, Adding gradient noise improves learning for very deep networks,
        arXiv:1511.06807.
    """

    eta: float = 0.01
    gamma: float = 0.55

    enters = "gradient"
    modulated = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_size("eta", self.eta, "it is the variance of the noise at the first step. Use 0.01")
        _check_size("gamma", self.gamma, "it says how fast the noise fades. Use 0.55")

    def deviation(self, step: int) -> float:
        """Return the noise's standard deviation at a step, counted from 0."""
        return float((self.eta / (1 + step) ** self.gamma) ** 0.5)

    @override
    def coefficients(self, step: TouchedStep) -> Tensor:
        return step.draw(normals).mul_(self.deviation(step.seed_and_step[1]))


@dataclass(frozen=True)
class NudgeInjection(Injection):
    """Moves each chosen entry by ``strength * size`` up or down, at random: the chaos floor.

    Two runs that differ by a nudge far below the size of a step drift apart all the same. How far
    is what any change, however small, does to a result; a difference below it tells nothing.

    A size of 1e-6 is read as absolute. Relative to the base's step, 1e-3 for Adam, it would round
    away in float32; absolute, it is seen where a parameter is below 16 in magnitude. A strength
    with a large `every` nudges the first step alone.

    Args:
        size: Size of the nudge at strength 1, in the parameters' unit, non-negative and finite.

    Raises:
        ValueError: If `size` is out of range.

    Example:
        >>> NudgeInjection().size
        1e-06
    """

    size: float = 1e-6

    modulated = False
    needs_gradient = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_size("size", self.size, "it is how far each entry is moved. Use 1e-6")

    @override
    def coefficients(self, step: TouchedStep) -> Tensor:
        return step.draw(signs).mul_(self.size)


def _check_size(name: str, value: float, meaning: str) -> None:
    if not (isfinite(value) and value >= 0):
        raise ValueError(
            f"Expected `{name}` to be non-negative and finite, got {value}: {meaning}."
        )

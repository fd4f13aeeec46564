"""How strong the perturbation is at each step, and how fast it learns its strength and weights."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import cos, isfinite, nan, pi


class Decay(ABC):
    """A factor in [0, 1] as a function of the steps since warm-up ended."""

    @abstractmethod
    def factor(self, step: int) -> float:
        """Return the factor at `step` (0 is the first step after warm-up)."""


@dataclass(frozen=True)
class ConstantDecay(Decay):
    """No decay: the factor is 1 at every step."""

    def factor(self, step: int) -> float:
        """Return 1; see `Decay.factor`."""
        return 1.0


@dataclass(frozen=True)
class _TimedDecay(Decay):
    total_steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise ValueError(
                f"Expected `total_steps` to be at least 1, got {self.total_steps}: a decay needs "
                "a duration. Give the number of optimizer steps after warm-up."
            )
        if not 0.0 <= self.final <= 1.0:
            raise ValueError(
                f"Expected `final` to lie in [0, 1], got {self.final}: it is the factor that is "
                "left at the end. Use 0 to switch the perturbation off."
            )

    def factor(self, step: int) -> float:
        """Return the factor at `step`; see `Decay.factor`."""
        progress = min(step / self.total_steps, 1.0)
        return self.final + (1.0 - self.final) * self._remaining(progress)

    @abstractmethod
    def _remaining(self, progress: float) -> float: ...


@dataclass(frozen=True)
class LinearDecay(_TimedDecay):
    """From 1 down to `final` in a straight line over `total_steps`, then constant.

    Args:
        total_steps: Optimizer steps until `final` is reached, at least 1.
        final: Factor that is left at the end, in [0, 1].

    Example:
        >>> [LinearDecay(total_steps=4).factor(step) for step in (0, 1, 4, 9)]
        [1.0, 0.75, 0.0, 0.0]
    """

    def _remaining(self, progress: float) -> float:
        return 1.0 - progress


@dataclass(frozen=True)
class CosineDecay(_TimedDecay):
    """From 1 down to `final` along half a cosine over `total_steps`, then constant.

    Args:
        total_steps: Optimizer steps until `final` is reached, at least 1.
        final: Factor that is left at the end, in [0, 1].

    Example:
        >>> [round(CosineDecay(total_steps=4).factor(step), 3) for step in (0, 2, 4)]
        [1.0, 0.5, 0.0]
    """

    def _remaining(self, progress: float) -> float:
        return 0.5 * (1.0 + cos(pi * progress))


ROUNDING = 1e-6
"""How far a factor may leave [0, 1]."""


@dataclass(frozen=True)
class Strength:
    """The paper's quantum weight lambda, with a schedule.

    Args:
        value: Peak strength, non-negative and finite. 0 leaves the base optimizer bit for bit.
        warmup_steps: Optimizer steps over which the strength rises linearly to `value`.
        decay: What happens after warm-up.
        every: Perturb one step in this many.
        start_step: First step (from 0) that may be perturbed; warm-up counts from here.

    Raises:
        TypeError: If the value is no number or the decay no `Decay`.
        ValueError: If an argument is out of range, or the decay's first factor is.

    Example:
        >>> strength = Strength(0.5, warmup_steps=2, every=2)
        >>> [strength.at(step) for step in range(4)]
        [0.25, 0.0, 0.5, 0.0]
    """

    value: float = 0.5
    warmup_steps: int = 0
    decay: Decay = field(default_factory=ConstantDecay)
    every: int = 1
    start_step: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise TypeError(
                f"Expected `strength` to be a number, got {self.value!r}: it scales the "
                "perturbation. The paper uses 0.1 and 0.5."
            )
        if not (isfinite(self.value) and self.value >= 0):
            raise ValueError(
                f"Expected `strength` to be non-negative and finite, got {self.value}: it scales "
                "the perturbation. Use 0 to switch it off; the paper uses 0.1 and 0.5."
            )
        if not isinstance(self.decay, Decay):
            raise TypeError(
                f"Expected `decay` to be a Decay, got {self.decay!r}: it gives a factor for each "
                "step. Use LinearDecay(total_steps=...) or CosineDecay(total_steps=...)."
            )
        for name, least in (("warmup_steps", 0), ("every", 1), ("start_step", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(
                    f"Expected `{name}` to be an integer of at least {least}, got {value}: it "
                    "counts optimizer steps. Leave it out for the default."
                )
        self._left(0)

    def at(self, step: int) -> float:
        """Return the strength at optimizer step `step`, counted from 0.

        Raises:
            ValueError: If the decay returns no number in [0, 1].
        """
        since_start = step - self.start_step
        if since_start < 0 or since_start % self.every:
            return 0.0
        peak = float(self.value)  # one of numpy's would end up in checkpoints, which refuse it
        if since_start < self.warmup_steps:
            return peak * (since_start + 1) / self.warmup_steps
        if type(self.decay) is ConstantDecay:  # at nearly every step: nothing is asked for
            return peak
        return peak * self._left(since_start - self.warmup_steps)

    def _left(self, step: int) -> float:
        """Return what the decay has left of the strength; a decay of the user's may be none."""
        factor = self.decay.factor(step)
        try:
            left = float(factor)
        except (TypeError, ValueError, RuntimeError):
            left = nan
        if not -ROUNDING <= left <= 1 + ROUNDING:
            raise ValueError(
                f"{type(self.decay).__name__} returned {factor!r} at step {step}: a decay says "
                "what is left of the strength. No parameter was changed; return a number in "
                "[0, 1], and set `value` of the Strength to the largest strength."
            )
        return left


@dataclass(frozen=True)
class Learning:
    r"""Learns from whether the last perturbation turned out to help: hypergradient descent.

    Step t moved the touched parameters by :math:`m\, c \odot u(\theta_t; w)` beside the base's
    step: u is the modulation, w the circuit's weights, c holds what was fixed (learning rate,
    strength, and :math:`g_t` or the base's step), and m is a factor of the strength that starts at
    1. The next gradient on the same entries, g, tells what that did to the loss: it changes by
    :math:`m\, c \cdot g` per unit of u. Both derivatives are divided by norms only, so that rates
    depend on the size of neither gradient, learning rate, nor strength:

    .. math::
        m \leftarrow \max\Bigl(0,\; m - r_m \frac{\langle g,\, c \odot u\rangle}
            {\lVert g\rVert\,\lVert c \odot u\rVert}\Bigr), \qquad
        w \leftarrow w - r_w \frac{\partial}{\partial w}
            \frac{\langle g,\, c \odot u(\theta_t; w)\rangle}{\lVert g\rVert\,\lVert c\rVert}.

    The first quotient is a cosine, so m changes by at most :math:`r_m` per step. The change is
    additive where the paper's is multiplicative: m can reach 0, where nothing is added, and since
    the direction :math:`c \odot u` is evaluated all the same, it can come back. The second quotient
    lacks m for the same reason. Entries of a circuit's readout that come from rotations change by
    at most 1 per radian, so each weight moves by at most :math:`r_w` radians per step, and by less
    the less it matters.

    Args:
        strength_rate: :math:`r_m`, unitless, non-negative. 0 keeps the schedule's strength.
        weights_rate: :math:`r_w`, in radians squared, non-negative. 0 freezes the weights.

    Raises:
        ValueError: If a rate is negative or not finite, or both are 0.

    Example:
        >>> Learning(strength_rate=0.02)
        Learning(strength_rate=0.02, weights_rate=0.0)

    References:
        Baydin et al. 2018, Online learning rate adaptation with hypergradient descent,
        arXiv:1703.04782.
    """

    strength_rate: float = 0.0
    weights_rate: float = 0.0

    def __post_init__(self) -> None:
        for name in ("strength_rate", "weights_rate"):
            rate = getattr(self, name)
            if not (isfinite(rate) and rate >= 0):
                raise ValueError(
                    f"Expected `{name}` to be non-negative and finite, got {rate}: it scales what "
                    "is learned per step. Use 0 to learn nothing of it, or about 0.01."
                )
        if self.strength_rate == self.weights_rate == 0:
            raise ValueError(
                "Expected `strength_rate` or `weights_rate` to be positive, got 0 for both: "
                "nothing would be learned. Give one of them, or leave `learning` out."
            )

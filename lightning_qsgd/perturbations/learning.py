"""How fast a perturbation learns its own strength and the weights of its circuit."""

from dataclasses import dataclass
from math import isfinite


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

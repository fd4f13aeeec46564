"""What is added to attention scores; the trigonometric control of a circuit."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_qsgd.argument_checks import require_at_least
from lightning_qsgd.nn.attention.polynomial import trigonometric_polynomial


class ScoreBias(nn.Module, ABC):
    """A learned function Phi of one attention score, applied to each score on its own.

    First weights are drawn from streams named by (seed, stream), never from torch's global
    generator: adding a bias to a network shifts no other random number, and copies of one bias, a
    layer each, start from weights of their own after `reset_parameters(stream=layer)`.

    Args:
        seed: Names the streams, in [0, 2^31).

    Raises:
        ValueError: If the seed is out of range.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= seed < 2**31:
            raise ValueError(
                f"Expected `seed` to be in [0, 2^31), got {seed}: it names the stream of the first "
                "weights. Choose a smaller non-negative integer."
            )
        self.seed = seed
        self.stream = 0

    @abstractmethod
    def forward(self, scores: Tensor) -> Tensor:
        """Return Phi of each score.

        Args:
            scores: Entries of Q K^T, not divided by sqrt(d_k), any shape, floating point.

        Returns:
            Phi(scores), of the same shape, dtype and device.
        """

    def add_to(self, divided: Tensor, scale: Tensor, unit: float) -> Tensor:
        r"""Return ``divided + scale * Phi(divided * unit)``: what the softmax of Eq. 3 sees.

        Biases that can do it in fewer passes over the scores override this.

        Args:
            divided: Scores as the softmax takes them, any shape, floating point.
            scale: The gate, a number.
            unit: What they were divided by, :math:`\sqrt{d_k}`.

        Returns:
            A tensor of the shape and dtype of `divided`.
        """
        scores = divided.to(torch.promote_types(divided.dtype, torch.float32)) * unit
        added: Tensor = scale * self(scores)
        return divided + added.to(divided.dtype)

    @abstractmethod
    def reset_parameters(self, stream: int = 0) -> None:
        """Draw the first weights anew.

        Args:
            stream: Names the stream beside the seed, at least 0, e.g. the number of the layer.
        """

    def generator(self, stream: int) -> torch.Generator:
        """Start the stream of random numbers of this name, on the CPU, and keep its name.

        Raises:
            ValueError: If the stream is negative.
        """
        if stream < 0:
            raise ValueError(
                f"Expected `stream` to be non-negative, got {stream}: it numbers the copies of a "
                "bias. Use e.g. the number of the layer."
            )
        self.stream = stream
        return torch.Generator().manual_seed((self.seed << 31) + stream)


FIRST_SPREAD = 0.0933
"""Standard deviation of the first coefficients of frequency 1; see `TrigonometricBias`."""


class TrigonometricBias(ScoreBias):
    r"""Learns :math:`\Phi(s) = \sum_{k=1}^{d} a_k \cos(k s) + b_k \sin(k s)` freely.

    For fixed weights the paper's circuit is such a polynomial, of degree 8. This control has
    the same frequencies and, at degree 8, the same number of weights (16), but no circuit between
    weights and coefficients: what it achieves needs nothing quantum. The constant, which the
    softmax does not see, is left out.

    For a fair start :math:`a_k, b_k \sim N(0, \sigma^2 / k^2)` with sigma = 0.0933. Then Phi and
    its slope are as large as those of the paper's circuit with weights drawn from [-pi, pi):
    root mean squares over scores and 400 draws, without the constant, of 0.115 and 0.264 against
    0.115 and 0.267.

    Args:
        degree: Highest frequency d, at least 1.
        seed: Names the stream of the first weights.

    Attributes:
        weight: Coefficients, rows a and b, shape (2, degree), trainable.

    Raises:
        ValueError: If the degree is below 1 or the seed is out of range.

    Example:
        >>> bias = TrigonometricBias(degree=8)
        >>> bias(torch.zeros(2, 4, 5, 5)).shape, bias.weight.numel()
        (torch.Size([2, 4, 5, 5]), 16)
    """

    def __init__(self, degree: int = 8, seed: int = 0) -> None:
        super().__init__(seed)
        require_at_least("degree", degree, 1)
        self.weight = nn.Parameter(torch.empty(2, degree))
        self.reset_parameters()

    def reset_parameters(self, stream: int = 0) -> None:
        """Draw the coefficients; see `ScoreBias.reset_parameters`."""
        drawn = torch.randn(self.weight.shape, generator=self.generator(stream))
        spread = FIRST_SPREAD / torch.arange(1, self.weight.shape[1] + 1)
        with torch.no_grad():
            self.weight.copy_(drawn * spread)

    def forward(self, scores: Tensor) -> Tensor:
        """Return Phi of each score; see `ScoreBias.forward`."""
        return trigonometric_polynomial(scores, self._coefficients(), 1.0)

    def add_to(self, divided: Tensor, scale: Tensor, unit: float) -> Tensor:
        """Add Phi in one pass; see `ScoreBias.add_to`."""
        return trigonometric_polynomial(divided, scale * self._coefficients(), unit, share=1.0)

    def _coefficients(self) -> Tensor:
        return nn.functional.pad(self.weight, (1, 0))

    def extra_repr(self) -> str:
        """Describe the bias in the printout of a network."""
        return f"degree={self.weight.shape[1]}"

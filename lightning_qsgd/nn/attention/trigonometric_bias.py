"""The classical control of quantum attention: a learned trigonometric bias of the scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_qsgd.argument_checks import require_at_least
from lightning_qsgd.nn.attention.polynomial import trigonometric_polynomial
from lightning_qsgd.nn.attention.score_bias import ScoreBias

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

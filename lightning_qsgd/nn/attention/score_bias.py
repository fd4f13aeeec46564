"""What is added to attention scores: the contract of Phi in Eq. 3."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


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

"""Where a language model comes from."""

from abc import ABC, abstractmethod
from typing import Any

ATTENTION = "sdpa"
"""torch's own attention kernels."""


class ModelSource(ABC):
    """Makes a causal language model of transformers: a pretrained one, or one with new weights."""

    @abstractmethod
    def build(self) -> Any:
        """Make the model, in float32.

        Returns:
            A `PreTrainedModel` whose forward pass returns logits.
        """

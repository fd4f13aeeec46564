"""Where a tokenizer comes from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any


class TokenizerSource(ABC):
    """Makes a tokenizer of transformers: a pretrained one, or one trained on the data."""

    @abstractmethod
    def build(self, texts: Sequence[str]) -> Any:
        """Make the tokenizer.

        Args:
            texts: Texts of the training set, for those that learn from them.

        Returns:
            A fast tokenizer of transformers.
        """

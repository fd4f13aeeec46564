"""What is done to a model between loading and training."""

from abc import ABC, abstractmethod
from typing import Any


class ModelChange(ABC):
    """Changes a model in place or wraps it."""

    @abstractmethod
    def apply(self, model: Any) -> Any:
        """Change the model.

        Args:
            model: A `PreTrainedModel`, or what an earlier change made of it.

        Returns:
            The model to train.
        """

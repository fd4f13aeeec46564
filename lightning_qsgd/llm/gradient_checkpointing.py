"""Trade time for memory."""

from dataclasses import dataclass
from typing import Any

from lightning_qsgd.llm.model_change import ModelChange


@dataclass(frozen=True)
class GradientCheckpointing(ModelChange):
    """Computes activations anew in the backward pass instead of keeping them.

    Numbers stay as they are; a step takes about a third longer.

    Example:
        >>> GradientCheckpointing()
        GradientCheckpointing()
    """

    def apply(self, model: Any) -> Any:
        """Switch it on."""
        # Recent versions of transformers warn about the older name.
        old, new = "gradient_checkpointing_enable", "activation_checkpointing_enable"
        enable = getattr(model, new if hasattr(model, new) else old)
        enable({"use_reentrant": False})
        return model

"""A language model with new weights, built from nothing but its sizes."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from lightning_qsgd.llm.extra import load_extra
from lightning_qsgd.llm.model_source import ATTENTION, ModelSource


@dataclass(frozen=True)
class ModelFromConfig(ModelSource):
    """Builds a causal language model of any architecture that transformers knows.

    Its weights are drawn from torch's global generator, so that runs of one seed start alike.

    Args:
        model_type: The architecture, e.g. "llama".
        sizes: Fields of its configuration that differ from the architecture's defaults.

    Example:
        >>> source = ModelFromConfig("llama", {"hidden_size": 64, "num_hidden_layers": 2})
        >>> source.model_type
        'llama'
    """

    model_type: str = "llama"
    sizes: dict[str, int | float | bool | str | None] = field(default_factory=dict)

    def build(self) -> Any:
        """Build the model.

        Returns:
            A `PreTrainedModel` in float32.

        Raises:
            ValueError: If there is no such architecture, or it has no such field.
            ModuleNotFoundError: Without the extra `llm`.
        """
        transformers = load_extra("transformers")
        known = self._known(transformers)
        for name in self.sizes:
            if name not in known:
                nearest = get_close_matches(name, known, n=1)
                hint = f"Did you mean {nearest[0]!r}?" if nearest else "Leave it out."
                raise ValueError(
                    f"Expected `sizes` to hold fields of a {self.model_type} configuration, got "
                    f"{name!r}: transformers would keep it and never use it. {hint}"
                )
        config = transformers.AutoConfig.for_model(self.model_type, **self.sizes)
        return transformers.AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION)

    def _known(self, transformers: Any) -> list[str]:
        try:
            return list(transformers.AutoConfig.for_model(self.model_type).to_dict())
        except ValueError as error:
            raise ValueError(
                f"Expected `model_type` to be an architecture that transformers "
                f"{transformers.__version__} knows, got {self.model_type!r}: there is none of that "
                "name. Use e.g. 'llama'."
            ) from error

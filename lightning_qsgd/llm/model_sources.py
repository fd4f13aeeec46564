"""Where a model comes from: a config, or pretrained weights."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from lightning_qsgd.llm.hub import from_hub, load_extra

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


@dataclass(frozen=True)
class PretrainedModel(ModelSource):
    """Loads a causal language model with its weights, in float32.

    Mixed precision needs float32 weights: those of many models are stored in bfloat16, in which
    steps of a fine-tuning learning rate are rounded away.

    Args:
        name: Name on the Hugging Face hub, or a folder.

    Example:
        >>> PretrainedModel("meta-llama/Llama-3.2-1B-Instruct").name
        'meta-llama/Llama-3.2-1B-Instruct'
    """

    name: str

    def build(self) -> Any:
        """Load the model.

        Returns:
            A `PreTrainedModel`.

        Raises:
            RuntimeError: If it is neither here nor on the hub.
            ModuleNotFoundError: Without the extra `llm`.
        """
        loader = load_extra("transformers").AutoModelForCausalLM
        settings = {"dtype": torch.float32, "attn_implementation": ATTENTION}
        if Path(self.name).is_dir():
            return loader.from_pretrained(self.name, **settings)
        return from_hub(
            f"the model {self.name}",
            "Download it where there is a network (`hf download NAME --local-dir FOLDER`; models "
            "with a licence need `hf auth login` first), and give the folder as `name`. "
            "`ModelFromConfig` needs no download.",
            lambda: loader.from_pretrained(self.name, **settings),
        )

"""A language model by name or path."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lightning_qsgd.llm.extra import load_extra
from lightning_qsgd.llm.hub import from_hub
from lightning_qsgd.llm.model_source import ATTENTION, ModelSource


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

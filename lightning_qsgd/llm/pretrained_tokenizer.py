"""A tokenizer by name or path."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_qsgd.llm.extra import load_extra
from lightning_qsgd.llm.hub import from_hub
from lightning_qsgd.llm.tokenizer_source import TokenizerSource


@dataclass(frozen=True)
class PretrainedTokenizer(TokenizerSource):
    """Loads the tokenizer of a model.

    Args:
        name: Name on the Hugging Face hub, or a folder.

    Example:
        >>> PretrainedTokenizer("meta-llama/Llama-3.2-1B-Instruct").name
        'meta-llama/Llama-3.2-1B-Instruct'
    """

    name: str

    def build(self, texts: Sequence[str]) -> Any:
        """Load the tokenizer.

        Args:
            texts: Not looked at.

        Returns:
            A tokenizer of transformers.

        Raises:
            RuntimeError: If it is neither here nor on the hub.
            ModuleNotFoundError: Without the extra `llm`.
        """
        loader = load_extra("transformers").AutoTokenizer
        if Path(self.name).is_dir():
            return loader.from_pretrained(self.name)
        return from_hub(
            f"the tokenizer {self.name}",
            "Download the model where there is a network (`hf download NAME --local-dir FOLDER`; "
            "models with a licence need `hf auth login` first), and give the folder as `name`.",
            lambda: loader.from_pretrained(self.name),
        )

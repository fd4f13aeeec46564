"""Where a tokenizer comes from: pretrained, or trained on the data."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_qsgd.argument_checks import require_at_least
from lightning_qsgd.llm.cache import cached, key_of
from lightning_qsgd.llm.hub import from_hub, load_extra


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


PAD, END = "<pad>", "<end>"
SMALLEST = 256 + len((PAD, END))
"""One token per byte, so that every text can be written, and the special ones."""


@dataclass(frozen=True)
class TrainedTokenizer(TokenizerSource):
    """Learns byte-level byte-pair encoding from the training texts; every digit is a token.

    The same texts give the same tokenizer. It is kept in the cache, by the hash of the texts.

    Args:
        vocab_size: Number of tokens, 258 or more; fewer are used where the texts have fewer pairs.

    Raises:
        ValueError: If `vocab_size` is below 258.

    Example:
        >>> TrainedTokenizer(vocab_size=512)
        TrainedTokenizer(vocab_size=512)

    References:
        Sennrich et al., Neural Machine Translation of Rare Words with Subword Units, ACL 2016.
    """

    vocab_size: int = 512

    def __post_init__(self) -> None:
        require_at_least("vocab_size", self.vocab_size, SMALLEST)

    def build(self, texts: Sequence[str]) -> Any:
        """Train the tokenizer, or take it from the cache.

        Args:
            texts: Texts to learn from.

        Returns:
            A tokenizer of transformers without a chat template.

        Raises:
            ModuleNotFoundError: Without the extra `llm`.
        """
        tokenizers, transformers = load_extra("tokenizers"), load_extra("transformers")
        key = key_of(tokenizers.__version__, str(self.vocab_size), *texts)
        stored = cached(f"tokenizer-{key}.json", lambda: _train(texts, self.vocab_size).encode())
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.Tokenizer.from_str(stored.decode()),
            pad_token=PAD,
            eos_token=END,
            clean_up_tokenization_spaces=False,
        )


def _train(texts: Sequence[str], vocab_size: int) -> str:
    tokenizers = load_extra("tokenizers")
    parts = tokenizers.pre_tokenizers
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = parts.Sequence(
        [parts.Digits(individual_digits=True), parts.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END],
        initial_alphabet=sorted(parts.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    written: str = tokenizer.to_str()
    return written

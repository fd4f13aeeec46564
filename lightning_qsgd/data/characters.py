"""Serve a text file as examples of "which character comes next?"."""

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from lightning_qsgd.argument_checks import require_at_least, text_of
from lightning_qsgd.data.split_data_module import SplitDataModule, Splits

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
"""What has a class of its own: the line break and printable ASCII; all else shares the last one."""

NUM_CHARACTERS = len(ALPHABET) + 1


def encode(text: str) -> Tensor:
    r"""Number the characters of a text.

    Args:
        text: Any text.

    Returns:
        Classes in `0 .. NUM_CHARACTERS - 1`, int64, shape (len(text),).

    Example:
        >>> encode("\nAb\u00e9").tolist()
        [0, 34, 67, 96]
    """
    numbers = {character: number for number, character in enumerate(ALPHABET)}
    unknown = NUM_CHARACTERS - 1
    return torch.tensor([numbers.get(character, unknown) for character in text], dtype=torch.int64)


class CharactersDataModule(SplitDataModule):
    """Serve every place of a text: the characters before it, and the one that follows.

    The text is cut into three consecutive parts, so that no validation or test example shares a
    character with a training example. x is int64, shape (batch, context); y is int64, shape
    (batch,), both in `0 .. NUM_CHARACTERS - 1`.

    Args:
        path: Text file, UTF-8. None: the language reference that comes with Python, about 450,000
            characters of English. It differs between Python versions: name a file where
            figures of two machines are compared.
        context: Characters that the next one is to be guessed from, 1 or more.
        batch_size: Examples per batch, 1 or more; the last batch may be smaller.
        val_fraction: Share of the text to validate on, in (0, 1); as much is kept for the test.
        order_seed: Seed of the train order. None: the seed given to `seed_everything`.
        num_workers: Loader processes; 0 loads in the main process.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "text.txt"
        ...     _ = file.write_text("to be or not to be " * 10)
        ...     characters = CharactersDataModule(str(file), context=4, batch_size=8)
        ...     characters.setup("fit")
        >>> x, y = next(iter(characters.train_dataloader()))
        >>> x.shape, y.shape
        (torch.Size([8, 4]), torch.Size([8]))
    """

    num_classes: ClassVar[int] = NUM_CHARACTERS

    def __init__(
        self,
        path: str | None = None,
        context: int = 16,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        order_seed: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, order_seed, num_workers)
        require_at_least("context", context, 1)
        if not 0.0 < val_fraction < 0.5:
            raise ValueError(
                f"Expected `val_fraction` to be in (0, 0.5), got {val_fraction}: the test takes "
                "as much, and something must be left to train on. Use e.g. 0.1."
            )
        self.path = path
        self.context = context
        self.val_fraction = val_fraction

    def make_splits(self) -> Splits:
        """Read the text and cut it into train, validation and test.

        Returns:
            Pairs (characters before, next character).

        Raises:
            FileNotFoundError: If there is no such file, or this Python came without its reference.
            ValueError: If a part would be shorter than the context and one character.
        """
        text = _language_reference() if self.path is None else _read(self.path)
        codes = encode(text)
        size = int(self.val_fraction * len(codes))
        if size <= self.context:
            raise ValueError(
                f"Expected a longer text in {self.path}, got {len(codes)} characters, of which "
                f"{size} would be validated on, with a context of {self.context}. Give more text, "
                "a shorter `context` or a larger `val_fraction`."
            )
        cuts = [len(codes) - 2 * size, size, size]
        return Splits(*(self._examples(part) for part in codes.split(cuts)))

    def _examples(self, codes: Tensor) -> TensorDataset:
        windows = codes.unfold(0, self.context + 1, 1)  # (places, context + 1), no copy
        return TensorDataset(windows[:, :-1], windows[:, -1])


def _read(path: str) -> str:
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"Cannot read the text {path}: there is no such file in {Path.cwd()}. Give "
            "`path` as an absolute path, or relative to where the command is run."
        )
    return text_of(file)


def _language_reference() -> str:
    """Return the topics of Python's own `help()`, in the order of their names."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise FileNotFoundError(
            "Cannot find the language reference: this Python came without `pydoc_data`. Set `path` "
            "to a text file, or install the whole standard library."
        ) from error
    return "\n".join(topics[name] for name in sorted(topics))

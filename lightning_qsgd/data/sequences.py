"""Serve the synthetic sequence classification task."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.utils.data import TensorDataset

from lightning_qsgd.argument_checks import require_at_least, require_seed
from lightning_qsgd.data.sequence_generator import SEQUENCE_LENGTH, generate_split
from lightning_qsgd.data.sequence_rules import NUM_CLASSES, PAD_TOKEN, VOCAB_SIZE
from lightning_qsgd.data.split_data_module import SplitDataModule, Splits


@dataclass(frozen=True)
class SequenceSizes:
    """Hold how many sequences each split has.

    Args:
        train: Sequences to learn from, 1 or more; the default gives 12 batches of 32.
        val: Sequences to choose by, 1 or more.
        test: Sequences to report on, 1 or more.

    Raises:
        ValueError: If a size is below 1.

    Example:
        >>> SequenceSizes(train=64)
        SequenceSizes(train=64, val=500, test=2000)
    """

    train: int = 384
    val: int = 500
    test: int = 2000

    def __post_init__(self) -> None:
        require_at_least("train", self.train, 1)
        require_at_least("val", self.val, 1)
        require_at_least("test", self.test, 1)


DEFAULT_SIZES = SequenceSizes()


class SequencesDataModule(SplitDataModule):
    """Serve token sequences of length 32 in 4 classes, drawn by `generate_split`.

    x is int64 in 1..999, shape (batch, 32); y is int64 in 0..3. The splits of `data_seed` d are
    those of generator seeds 3 d (train), 3 d + 1 (validation) and 3 d + 2 (test), so that no two
    data seeds share a split.

    Args:
        batch_size: Sequences per batch, 1 or more; the last batch may be smaller.
        sizes: Number of sequences per split.
        data_seed: Seed of the sequences, in [0, 2**64). None: `torch.initial_seed()` at `setup`, so
            that each training seed has data of its own.
        order_seed: Seed of the train order. None: `torch.initial_seed()` at `setup`, i.e. the seed
            given to `seed_everything`.
        num_workers: Loader processes; 0 loads in the main process.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> sequences = SequencesDataModule()
        >>> sequences.setup("fit")
        >>> x, y = next(iter(sequences.train_dataloader()))
        >>> x.shape, len(sequences.train_dataloader())
        (torch.Size([32, 32]), 12)
    """

    num_classes: ClassVar[int] = NUM_CLASSES
    input_shape: ClassVar[tuple[int, ...]] = (SEQUENCE_LENGTH,)
    vocab_size: ClassVar[int] = VOCAB_SIZE
    pad_token: ClassVar[int] = PAD_TOKEN

    def __init__(
        self,
        batch_size: int = 32,
        sizes: SequenceSizes = DEFAULT_SIZES,
        data_seed: int | None = 0,
        order_seed: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, order_seed, num_workers)
        require_seed("data_seed", data_seed, bits=64)
        self.sizes = sizes
        self.data_seed = data_seed

    def make_splits(self) -> Splits:
        """Draw the sequences.

        Returns:
            Pairs (tokens, labels) for train, validation and test.
        """
        seed = torch.initial_seed() if self.data_seed is None else self.data_seed
        sizes = (self.sizes.train, self.sizes.val, self.sizes.test)
        return Splits(*(_draw(3 * seed + part, size) for part, size in enumerate(sizes)))


def _draw(seed: int, size: int) -> TensorDataset:
    tokens, labels = generate_split(seed, size)
    return TensorDataset(torch.from_numpy(tokens), torch.from_numpy(labels))

"""Serve train, validation and test tensors without touching torch's global random state."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

from lightning_qsgd.argument_checks import require_at_least, require_seed
from lightning_qsgd.data.epoch_sampler import EpochSampler, ResumableLoader

Batch = tuple[Tensor, ...]


class Splits(NamedTuple):
    """Hold the three parts of a data set.

    Args:
        train: Examples to learn from.
        val: Examples to choose by.
        test: Examples to report on.
    """

    train: TensorDataset
    val: TensorDataset
    test: TensorDataset


class SplitDataModule(LightningDataModule, ABC):
    """Build loaders over tensors; a subclass says in `make_splits` what the tensors are.

    The train order is that of `EpochSampler`: a pure function of the order seed and the epoch. A
    `ResumableLoader` serves it, so that a killed run goes on with the next batch. Each loader owns
    a generator, because the iterator of a loader without one draws a number from torch's global
    state, and dropout would then depend on how often data was iterated.

    Args:
        batch_size: Examples per batch, 1 or more; the last batch may be smaller.
        order_seed: Seed of the train order, in [0, 2**64). None: `torch.initial_seed()` at `setup`,
            i.e. the seed given to `seed_everything`.
        num_workers: Loader processes; 0 loads in the main process.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        See `DigitsDataModule` and `SequencesDataModule`.
    """

    num_classes: ClassVar[int]
    input_shape: ClassVar[tuple[int, ...]]

    def __init__(self, batch_size: int, order_seed: int | None, num_workers: int) -> None:
        super().__init__()
        require_at_least("batch_size", batch_size, 1)
        require_seed("order_seed", order_seed, bits=64)
        require_at_least("num_workers", num_workers, 0)
        self.batch_size = batch_size
        self.order_seed = order_seed
        self.num_workers = num_workers
        self._splits: Splits | None = None
        self._setup_seed = 0

    @abstractmethod
    def make_splits(self) -> Splits:
        """Load or draw the three parts.

        Returns:
            Pairs (x, y): x of shape (size, *input_shape), y int64 of shape (size,).
        """

    def setup(self, stage: str) -> None:
        """Make the splits and fix the seed of the train order.

        Args:
            stage: Lightning's stage; every stage makes the same splits.
        """
        self._setup_seed = torch.initial_seed() if self.order_seed is None else self.order_seed
        self._splits = self.make_splits()

    @property
    def splits(self) -> Splits:
        """The three parts.

        Raises:
            RuntimeError: Before `setup`.
        """
        if self._splits is None:
            raise RuntimeError(
                f"Cannot serve {type(self).__name__}: its data is not set up yet. "
                "Call `setup('fit')` first, or pass the data module to a Trainer."
            )
        return self._splits

    def train_dataloader(self) -> DataLoader[Batch]:
        """Serve the train split, shuffled by (seed, epoch).

        Returns:
            Batches (x, y).

        Raises:
            RuntimeError: Before `setup`.
        """
        train = self.splits.train
        return self._loader(train, EpochSampler(len(train), self._setup_seed))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Serve the validation split in its own order.

        Returns:
            Batches (x, y).

        Raises:
            RuntimeError: Before `setup`.
        """
        return self._loader(self.splits.val)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Serve the test split in its own order.

        Returns:
            Batches (x, y).

        Raises:
            RuntimeError: Before `setup`.
        """
        return self._loader(self.splits.test)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Serve the test split for prediction; the labels are there to compare with.

        Returns:
            Batches (x, y).

        Raises:
            RuntimeError: Before `setup`.
        """
        return self.test_dataloader()

    def _loader(
        self, dataset: TensorDataset, sampler: Sampler[int] | None = None
    ) -> DataLoader[Batch]:
        return ResumableLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            drop_last=False,
            generator=torch.Generator().manual_seed(self._setup_seed),
        )

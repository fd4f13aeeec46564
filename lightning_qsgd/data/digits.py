"""Serve scikit-learn's handwritten digits: real data that needs no download."""

from typing import ClassVar

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import TensorDataset

from lightning_qsgd.argument_checks import require_seed
from lightning_qsgd.data.split_data_module import SplitDataModule, Splits

NUM_IMAGES = 1797
NUM_DIGITS = 10
BRIGHTEST_PIXEL = 16.0


def load_digit_images() -> tuple[Tensor, Tensor]:
    """Load the 1797 images that ship with scikit-learn.

    Returns:
        Images in [0, 1], float32, shape (1797, 1, 8, 8), and digits 0..9, int64, shape (1797,).

    Example:
        >>> images, digits = load_digit_images()
        >>> images.shape, digits[:3]
        (torch.Size([1797, 1, 8, 8]), tensor([0, 1, 2]))

    References:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
    """
    bunch = load_digits()
    images = torch.as_tensor(bunch.images, dtype=torch.float32)[:, None] / BRIGHTEST_PIXEL
    return images, torch.as_tensor(bunch.target, dtype=torch.int64)


def split_indices(
    labels: Tensor, val_size: int, test_size: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Split indices so that every part has the classes in the same shares.

    Args:
        labels: Class of each example, int64, shape (n,).
        val_size: Number of validation examples.
        test_size: Number of test examples.
        seed: Seed of the split, in [0, 2**32).

    Returns:
        Train, validation and test indices, int64; together a permutation of `0 .. n - 1`.

    Example:
        >>> labels = torch.arange(100) % 10
        >>> [len(part) for part in split_indices(labels, val_size=20, test_size=30, seed=0)]
        [50, 20, 30]
    """
    targets = labels.numpy()
    rest, test = train_test_split(
        range(len(targets)), test_size=test_size, stratify=targets, random_state=seed
    )
    train, val = train_test_split(
        rest, test_size=val_size, stratify=targets[rest], random_state=seed
    )
    return torch.tensor(train), torch.tensor(val), torch.tensor(test)


class DigitsDataModule(SplitDataModule):
    """Serve 8 x 8 images of handwritten digits in stratified splits.

    The split has its own seed, so that runs with different training seeds share it and their
    results can be paired. x is float32 in [0, 1], shape (batch, 1, 8, 8); y is int64 in 0..9.

    Args:
        batch_size: Images per batch, 1 or more; the last batch may be smaller.
        val_fraction: Share of the 1797 images to validate on, in (0, 1).
        test_fraction: Share of the images to test on, in (0, 1).
        split_seed: Seed of the split, in [0, 2**32).
        order_seed: Seed of the train order. None: `torch.initial_seed()` at `setup`, i.e. the seed
            given to `seed_everything`.
        num_workers: Loader processes; 0 loads in the main process.

    Raises:
        ValueError: If an argument is out of range, or a split would hold fewer images than there
            are digits.

    Example:
        >>> digits = DigitsDataModule(batch_size=32)
        >>> digits.setup("fit")
        >>> x, y = next(iter(digits.train_dataloader()))
        >>> x.shape, y.shape
        (torch.Size([32, 1, 8, 8]), torch.Size([32]))
    """

    num_classes: ClassVar[int] = NUM_DIGITS
    input_shape: ClassVar[tuple[int, ...]] = (1, 8, 8)

    def __init__(
        self,
        batch_size: int = 32,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        order_seed: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, order_seed, num_workers)
        require_seed("split_seed", split_seed, bits=32)
        _require_fractions(val_fraction, test_fraction)
        self.val_size = round(val_fraction * NUM_IMAGES)
        self.test_size = round(test_fraction * NUM_IMAGES)
        self.split_seed = split_seed
        _require_every_digit(self.val_size, self.test_size)

    def make_splits(self) -> Splits:
        """Load the images and split them.

        Returns:
            Pairs (images, digits) for train, validation and test.
        """
        images, labels = load_digit_images()
        parts = split_indices(labels, self.val_size, self.test_size, self.split_seed)
        return Splits(*(TensorDataset(images[part], labels[part]) for part in parts))


def _require_fractions(val_fraction: float, test_fraction: float) -> None:
    fractions = {"val_fraction": val_fraction, "test_fraction": test_fraction}
    for name, value in fractions.items():
        if not 0.0 < value < 1.0:
            raise ValueError(
                f"Expected `{name}` to be in (0, 1), got {value}. It is a share of all images, "
                "e.g. 0.2."
            )
    if val_fraction + test_fraction >= 1.0:
        raise ValueError(
            f"Expected `val_fraction + test_fraction` to be below 1, got {val_fraction} + "
            f"{test_fraction}: nothing is left to train on. Lower one of them."
        )


def _require_every_digit(val_size: int, test_size: int) -> None:
    sizes = {"train": NUM_IMAGES - val_size - test_size, "val": val_size, "test": test_size}
    for split, size in sizes.items():
        if size < NUM_DIGITS:
            raise ValueError(
                f"Expected every split to hold at least {NUM_DIGITS} of the {NUM_IMAGES} images, "
                f"one per digit, got {size} for {split}. Change `val_fraction` or `test_fraction`."
            )

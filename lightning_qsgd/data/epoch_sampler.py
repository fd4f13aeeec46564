"""Shuffle a data set by (seed, epoch), so that a resumed run meets the same batches."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from lightning_qsgd.argument_checks import require_at_least, require_seed


def epoch_order(num_examples: int, seed: int, epoch: int) -> list[int]:
    """Draw the order of one epoch as a pure function of its seed and number.

    The epoch enters as NumPy's spawn key instead of being added to the seed, so that seed 0 at
    epoch 1 and seed 1 at epoch 0 are different orders.

    Args:
        num_examples: Number of examples, 0 or more.
        seed: Non-negative integer.
        epoch: Non-negative integer.

    Returns:
        A permutation of `0 .. num_examples - 1`.

    Example:
        >>> epoch_order(5, seed=0, epoch=3) == epoch_order(5, seed=0, epoch=3)
        True
        >>> sorted(epoch_order(5, seed=0, epoch=3))
        [0, 1, 2, 3, 4]
    """
    stream = np.random.SeedSequence(seed, spawn_key=(epoch,))
    return [int(index) for index in np.random.default_rng(stream).permutation(num_examples)]


class EpochSampler(Sampler[int]):
    """Yield the indices of a data set in an order fixed by (seed, epoch).

    A `RandomSampler` draws from a random state that Lightning does not store, so a resumed run sees
    other batches than an uninterrupted one. Here nothing has to be stored: Lightning calls
    `set_epoch` before every epoch, and the order follows. In a plain torch loop call `set_epoch`
    yourself; without it, every epoch has the order of epoch 0.

    Args:
        num_examples: Length of the data set, 1 or more.
        seed: Seed of the order, in `[0, 2**64)`.

    Raises:
        ValueError: If `num_examples` is below 1 or `seed` is out of range.

    Example:
        >>> sampler = EpochSampler(num_examples=100, seed=0)
        >>> first = list(sampler)
        >>> sampler.set_epoch(1)
        >>> list(sampler) == first
        False
        >>> sampler.set_epoch(0)
        >>> list(sampler) == first
        True
    """

    def __init__(self, num_examples: int, seed: int) -> None:
        require_at_least("num_examples", num_examples, 1)
        require_seed("seed", seed, bits=64)
        self.num_examples = num_examples
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iterator has.

        Args:
            epoch: Number of epochs finished so far.

        Raises:
            ValueError: If `epoch` is negative.

        Example:
            >>> EpochSampler(num_examples=4, seed=0).set_epoch(2)
        """
        require_at_least("epoch", epoch, 0)
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(epoch_order(self.num_examples, self.seed, self.epoch))

    def __len__(self) -> int:
        return self.num_examples

"""Shuffle a data set by (seed, epoch), so that a resumed run meets the same batches."""

import warnings
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import Dataset, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader
from typing_extensions import override

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

    @override
    def __iter__(self) -> Iterator[int]:
        return iter(epoch_order(self.num_examples, self.seed, self.epoch))

    def __len__(self) -> int:
        return self.num_examples


T_co = TypeVar("T_co", covariant=True)


class ResumableLoader(StatefulDataLoader[T_co]):  # type: ignore[misc]  # it has no types
    """Serve batches, and go on in the middle of an epoch where a checkpoint left off.

    Lightning keeps the state of such a loader in its checkpoints. Of a plain `DataLoader` it keeps
    none: a run that was killed in mid-epoch begins its epoch again, with the batches that it has
    seen. With `EpochSampler` and `RandomStateCallback` the resumed run equals the uninterrupted one
    bit for bit.

    Args:
        dataset: What to serve.
        options: As for `torch.utils.data.DataLoader`. Give it a `generator`, or its iterator draws
            from torch's global state.

    Example:
        >>> import torch
        >>> def loader():
        ...     generator = torch.Generator().manual_seed(0)
        ...     return ResumableLoader(range(6), batch_size=2, generator=generator)
        >>> interrupted = loader()
        >>> batches = iter(interrupted)
        >>> _, state = next(batches), interrupted.state_dict()
        >>> resumed = loader()
        >>> resumed.load_state_dict(state)
        >>> [batch.tolist() for batch in resumed]
        [[2, 3], [4, 5]]
    """

    def __init__(self, dataset: Dataset[T_co], **options: Any) -> None:
        with warnings.catch_warnings():
            # torchdata 0.11 calls a counter that torch 2.13 has emptied.
            warnings.filterwarnings("ignore", "'set_vital' is deprecated", UserWarning)
            super().__init__(dataset, **options)
        if self.batch_size is None and hasattr(self.batch_sampler, "sampler"):
            # Lightning injects its distributed sampler so; `DataLoader` forbids to assign it.
            object.__setattr__(self, "sampler", self.batch_sampler.sampler)
        self._epoch: int | None = None
        self._loaded: dict[str, Any] | None = None

    @override
    def __iter__(self) -> Iterator[T_co]:
        # A generator, so that the order is asked for with the first batch: a Trainer makes the
        # iterator of the epoch that it resumes before it says which epoch that is.
        self._epoch, loaded = self._epoch_of_sampler(), self._loaded
        self._loaded = None
        # At the end of an epoch a checkpoint holds a place in an epoch that is over.
        if loaded is not None and loaded["epoch"] == self._epoch:
            super().load_state_dict(loaded["place"])
        yield from super().__iter__()

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the place in it."""
        if self._loaded is not None:  # saved again before anything was served
            return self._loaded
        return {"epoch": self._epoch, "place": super().state_dict()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at a place, if the next epoch that is served is the one it lies in.

        Raises:
            ValueError: If the state is not that of such a loader.
        """
        if not {"epoch", "place"} <= set(state_dict):
            raise ValueError(
                f"Expected the state of a ResumableLoader, got one with {sorted(state_dict)}: "
                "another loader has written it. Resume with that loader, or from an epoch end."
            )
        self._loaded = state_dict

    def _epoch_of_sampler(self) -> int | None:
        epoch: int | None = getattr(self.sampler, "epoch", None)
        return epoch

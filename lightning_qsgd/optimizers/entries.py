"""The touched entries of all tensors as one flat vector."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate, groupby
from typing import TypeVar

import torch
from torch import Tensor

from lightning_qsgd.optimizers.rows import Row

T = TypeVar("T")

LOW_PRECISION = (torch.bfloat16, torch.float16)


class Entries(ABC):
    """Reads and writes the touched entries of many tensors as one flat vector.

    The flat vector has float32 entries (float64 if a tensor has) and follows the order of the
    rows.

    Args:
        rows: The touched parameters, at least one.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = tuple(rows)
        self.sizes = [row.size for row in rows]
        self.total = sum(self.sizes)

    @abstractmethod
    def read_parameters(self) -> Tensor:
        """Return a copy of the touched parameters, shape (total,)."""

    @abstractmethod
    def read_gradients(self) -> Tensor:
        """Return a copy of the gradients at the touched entries, shape (total,)."""

    @abstractmethod
    def subtract_from_parameters(self, values: Tensor) -> None:
        """Subtract `values`, shape (total,), from the touched parameters in place."""

    @abstractmethod
    def write_gradients(self, values: Tensor) -> None:
        """Overwrite the gradients at the touched entries with `values`, shape (total,)."""

    def together(self, job: Callable[[], T]) -> T:
        """Run a job that may fail, on all processes that share the entries."""
        return job()

    @cached_property
    def group_bounds(self) -> list[tuple[int, int, int]]:
        """Runs of entries of one parameter group, as (group, start, stop)."""
        starts = [0, *accumulate(self.sizes)]
        by_group = groupby(range(len(self.rows)), key=lambda index: self.rows[index].group)
        runs = [(group, list(indices)) for group, indices in by_group]
        return [(group, starts[run[0]], starts[run[-1] + 1]) for group, run in runs]

"""Entries of tensors that are sharded over processes, as if one process held them all."""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from lightning_qsgd.optimizers.entries import (
    Entries,
    gradient_at,
    refuse_sparse,
    summand_below_overflow,
    unless_overflown,
)
from lightning_qsgd.optimizers.rows import as_real
from lightning_qsgd.optimizers.sharding import Meshes, is_sharded, local_of, locate
from lightning_qsgd.perturbations.step import Row

T = TypeVar("T")


class _Part(NamedTuple):
    """What this process holds of a row.

    Attributes:
        parameter: The parameter.
        local_index: Where it lies in the local tensor: a tensor per dimension, shape (held,), or
            numbers and a slice if it is a run within one line.
        lanes: Places in the flat vector, shape (held,).
    """

    parameter: Any
    local_index: tuple[Any, ...]
    lanes: Tensor

    @property
    def is_line(self) -> bool:
        """Whether indexing returns a view, which is several times as fast."""
        return isinstance(self.local_index[-1], slice)


class ShardedEntries(Entries):
    """Every process reads all touched entries, and writes those that it holds.

    A read fills in what this process holds and adds up over the processes: a sum with zeros, so
    nothing is rounded. What is computed from it is then the same everywhere, bit for bit, without
    further exchange. Plain tensors beside sharded ones are every process's own.

    All processes must read together. A sharded tensor that has no gradient on some of them takes
    part everywhere, and its gradient there counts as zero.

    Args:
        rows: The touched parameters, at least one.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__(rows)
        held_here = [as_real(local_of(row.parameter)) for row in rows]
        is_wide = any(tensor.dtype == torch.float64 for tensor in held_here)
        self._empty = torch.empty(
            0, dtype=torch.float64 if is_wide else torch.float32, device=held_here[0].device
        )
        self._meshes = Meshes([row.parameter for row in rows], self.sizes)
        self._parts: list[_Part] = []
        self._told: list[_Part] = []
        starts = accumulate(self.sizes, initial=0)
        for row, start, counts in zip(rows, starts, self._meshes.counts, strict=False):
            index, places = locate(row.parameter, row.chosen)
            if len(places):
                is_line = is_sharded(row.parameter) and isinstance(row.chosen, slice)
                index = _line(index) if is_line else index
                lanes = (places + start).to(self._empty.device)
                # Every replica writes its entries; one of them tells what it holds, or a sum over
                # the processes would count the entry several times.
                self._parts.append(_Part(row.parameter, index, lanes))
                self._told += self._parts[-1:] if counts else []
        self._told_lanes = torch.cat([self._empty.long(), *(part.lanes for part in self._told)])

    def read_parameters(self) -> Tensor:
        """Gather from all processes; see `Entries.read_parameters`."""
        return self._gather(
            as_real(local_of(part.parameter))[part.local_index] for part in self._told
        )

    def read_gradients(self) -> Tensor:
        """Gather from all processes; see `Entries.read_gradients`."""
        for row in self.rows:
            _align_gradient(row.parameter)
        return self._gather(self._gradient_of(part) for part in self._told)

    def add_to_parameters(self, values: Tensor, scale: float = 1.0) -> None:
        """Add to what this process holds; see `Entries.add_to_parameters`."""
        lines, summands = [], []
        for part in self._parts:
            if part.parameter.grad is None and is_sharded(part.parameter):
                continue  # unused here: the base does not move it either
            target = as_real(local_of(part.parameter))
            here = target[part.local_index]
            piece = values[part.lanes].to(target.device)
            if part.is_line and here.dtype == piece.dtype:
                lines.append(here)
                summands.append(piece)
            else:
                new = (here.to(piece.dtype) + scale * piece).to(target.dtype)
                target[part.local_index] = unless_overflown(new, here)
        if lines:
            pieces = torch.cat(summands)
            summand, alpha = summand_below_overflow(pieces, scale, pieces.dtype)
            torch._foreach_add_(lines, summand.split([len(p) for p in summands]), alpha=alpha)

    def write_gradients(self, values: Tensor) -> None:
        """Overwrite what this process holds; see `Entries.write_gradients`.

        Raises:
            ValueError: If a gradient is sparse: most of its entries are not stored.
        """
        for row in self.rows:
            refuse_sparse(row.parameter.grad)
            _align_gradient(row.parameter)
        for parameter, index, lanes in self._parts:
            if parameter.grad is not None:
                target = as_real(local_of(parameter.grad))
                target[index] = unless_overflown(values[lanes].to(target), target[index])

    def together(self, job: Callable[[], T]) -> T:
        """Let the job fail on all processes if it fails on one; see `Meshes.together`."""
        return self._meshes.together(job)

    def _gradient_of(self, part: _Part) -> Tensor:
        if part.parameter.grad is None:
            return self._empty.new_zeros(len(part.lanes))
        return gradient_at(local_of(part.parameter.grad), part.local_index)

    def _gather(self, pieces: Iterable[Tensor]) -> Tensor:
        values = self._empty.new_zeros(self.total)
        values[self._told_lanes] = torch.cat([self._empty, *(p.to(self._empty) for p in pieces)])
        return self._meshes.complete_(values)


def _line(index: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """Return the same indices as numbers and a slice, if they lie in one line of the tensor.

    What is held of a run keeps its order and has no gaps in local indices, however it is cut.
    """
    *outer, last = (each.cpu() for each in index)
    if all((each == each[0]).all() for each in outer):
        return (*(int(each[0]) for each in outer), slice(int(last[0]), int(last[-1]) + 1))
    return index


def _align_gradient(parameter: Any) -> None:
    """Distribute a gradient as its parameter is, where it is not.

    Partial sums of tensor parallelism, for one, are added up here once, as the base would do in
    each of its operations.
    """
    gradient = parameter.grad
    if gradient is None or not is_sharded(parameter):
        return
    if gradient.placements != parameter.placements:
        with torch.inference_mode(False), torch.no_grad():  # the next backward adds to it
            parameter.grad = gradient.redistribute(placements=parameter.placements)

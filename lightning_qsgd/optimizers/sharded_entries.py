"""Entries of tensors that are sharded over processes, as if one process held them all."""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.general_entries import gradient_at, refuse_sparse
from lightning_qsgd.optimizers.meshes import Meshes
from lightning_qsgd.optimizers.rows import Row, as_real
from lightning_qsgd.optimizers.sharding import is_sharded, local_of, locate

T = TypeVar("T")


class _Part(NamedTuple):
    """What this process holds of a row.

    Attributes:
        parameter: The parameter.
        local_index: Indices in its local tensor, shape (held,) each.
        lanes: Places in the flat vector, shape (held,).
        counts: Whether it is this process that says what they hold.
    """

    parameter: Any
    local_index: tuple[Tensor, ...]
    lanes: Tensor
    counts: bool


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
        starts = accumulate(self.sizes, initial=0)
        for row, start, counts in zip(rows, starts, self._meshes.counts, strict=False):
            index, places = locate(row.parameter, row.chosen)
            if len(places):
                self._parts.append(_Part(row.parameter, index, places + start, counts))
        self._told = [part for part in self._parts if part.counts]
        lanes = [part.lanes.to(self._empty.device) for part in self._told]
        self._told_lanes = torch.cat([self._empty.long(), *lanes])

    def read_parameters(self) -> Tensor:
        """Gather from all processes; see `Entries.read_parameters`."""
        return self._gather(
            as_real(local_of(part.parameter))[part.local_index] for part in self._told
        )

    def read_gradients(self) -> Tensor:
        """Gather from all processes; see `Entries.read_gradients`."""
        for row in self.rows:
            _align_gradient(row.parameter)
        return self._gather(
            gradient_at(_own_gradient(part.parameter), part.local_index) for part in self._told
        )

    def subtract_from_parameters(self, values: Tensor) -> None:
        """Subtract from what this process holds; see `Entries.subtract_from_parameters`."""
        for parameter, index, lanes, _ in self._parts:
            if parameter.grad is None and is_sharded(parameter):
                continue  # unused here: the base does not move it either
            target = as_real(local_of(parameter))
            piece = values[lanes.to(values.device)].to(target.device)
            target[index] = (target[index].to(piece.dtype) - piece).to(target.dtype)

    def write_gradients(self, values: Tensor) -> None:
        """Overwrite what this process holds; see `Entries.write_gradients`.

        Raises:
            ValueError: If a gradient is sparse: most of its entries are not stored.
        """
        for row in self.rows:
            refuse_sparse(row.parameter.grad)
            _align_gradient(row.parameter)
        for parameter, index, lanes, _ in self._parts:
            gradient = _own_gradient(parameter)
            if gradient is not None:
                target = as_real(gradient)
                target[index] = values[lanes.to(values.device)].to(target)

    def together(self, job: Callable[[], T]) -> T:
        """Let the job fail on all processes if it fails on one; see `Meshes.together`."""
        return self._meshes.together(job)

    def _gather(self, pieces: Iterable[Tensor]) -> Tensor:
        values = self._empty.new_zeros(self.total)
        values[self._told_lanes] = torch.cat([self._empty, *(p.to(self._empty) for p in pieces)])
        return self._meshes.complete_(values)


def _own_gradient(parameter: Any) -> Tensor | None:
    """Return the gradient of what this process holds of a parameter, in place."""
    return None if parameter.grad is None else local_of(parameter.grad)


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

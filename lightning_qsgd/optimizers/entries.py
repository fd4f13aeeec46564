"""Reading and writing the touched entries of parameters and gradients."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate, groupby, repeat
from math import log2
from operator import attrgetter, is_
from typing import TypeVar

import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.optimizers.rows import as_real, is_of_unknown_class
from lightning_qsgd.optimizers.sharding import is_sharded
from lightning_qsgd.perturbations.step import CHUNK, LOW_PRECISION, Row, per_tensor, runs_of

T = TypeVar("T")


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

    def moved_from(self, theta: Tensor) -> Tensor:
        """Return how far the touched parameters are from where they were, shape (total,)."""
        return self.read_parameters().sub_(theta)

    @abstractmethod
    def read_gradients(self) -> Tensor:
        """Return a copy of the gradients at the touched entries, shape (total,)."""

    def summand(self, values: Tensor, scale: float, spent: bool = False) -> tuple[Tensor, float]:
        """Return what `add_to_parameters` takes to add ``scale * values``: 0 where not finite.

        Asked for before the base moves, where that is known by then: after the base's step the
        caches hold nothing of what it needs, and it costs several times as much.

        Args:
            values: Shape (total,).
            scale: Non-negative.
            spent: Whether the values may be written over: new memory costs twice as much.
        """
        return torch.nan_to_num(values, 0.0, 0.0, 0.0), scale

    @abstractmethod
    def add_to_parameters(self, values: Tensor, scale: float = 1.0) -> None:
        """Add ``scale * values``, a `summand` of shape (total,), to the parameters in place."""

    @abstractmethod
    def write_gradients(self, values: Tensor) -> None:
        """Overwrite the gradients at the touched entries with `values`, shape (total,).

        What overflows in a gradient's type is not written over a finite value.
        """

    def together(self, job: Callable[[], T]) -> T:
        """Run a job that may fail, on all processes that share the entries."""
        return job()

    def where_now(self) -> "Entries":
        """Return the same entries, where the parameters lie after the base's step."""
        return self

    @property
    def parts(self) -> Sequence["Entries"]:
        """The same entries in runs of whole tensors, which take less memory one after the other."""
        return (self,)

    @cached_property
    def group_bounds(self) -> list[tuple[int, int, int]]:
        """Runs of entries of one parameter group, as (group, start, stop)."""
        starts = [0, *accumulate(self.sizes)]
        by_group = groupby(range(len(self.rows)), key=lambda index: self.rows[index].group)
        runs = [(group, list(indices)) for group, indices in by_group]
        return [(group, starts[run[0]], starts[run[-1] + 1]) for group, run in runs]


SMALL = 2**16
"""Up to this many entries a scratch buffer is kept, whose views need not be made at every step."""

_UNIT = (1,)
_STRIDED = frozenset({torch.strided})
_GRAD, _LAYOUT = attrgetter("grad"), attrgetter("layout")


class DenseEntries(Entries):
    """Touches views that are made once: one gather to read, one foreach to write.

    Making a view costs more than the arithmetic on four entries, so the views of the parameters
    are kept; `EntriesCache` drops them when a parameter moves in memory, and `where_now` makes
    others if the base's step moves one. Gradients are new tensors at each step and need new views.

    Args:
        rows: Touched parameters for which `fits` is true.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__(rows)
        self._shapes = [(row.size,) for row in rows]
        self._parameters = [row.parameter for row in rows]
        self._addresses = list(map(Tensor.data_ptr, self._parameters))
        self._views = [row.parameter.detach().view(-1)[: row.size] for row in rows]
        self._dtype = rows[0].parameter.dtype
        self._is_low_precision = self._dtype in LOW_PRECISION
        self._scratch = torch.empty(0)
        self._scratch_views: tuple[Tensor, ...] = ()
        if self.total <= SMALL:
            self._scratch = torch.cat(self._views)
            self._scratch_views = torch.split(self._scratch, self.sizes)

    @staticmethod
    def fits(rows: Sequence[Row]) -> bool:
        """Whether all rows are leading slices of contiguous real tensors of one kind."""
        first = rows[0].parameter
        return all(
            isinstance(row.chosen, slice)
            and row.chosen.start == 0
            and row.parameter.grad is not None
            and row.parameter.is_contiguous()
            and not row.parameter.is_complex()
            and not is_sharded(row.parameter)
            and not is_of_unknown_class(row.parameter)
            and row.parameter.dtype == first.dtype
            and row.parameter.device == first.device
            for row in rows
        )

    @override
    def where_now(self) -> Entries:
        """Follow ``parameter.data = ...``: the views would be of memory that is no longer used."""
        if list(map(Tensor.data_ptr, self._parameters)) == self._addresses:
            return self
        return (
            DenseEntries(self.rows) if DenseEntries.fits(self.rows) else GeneralEntries(self.rows)
        )

    @cached_property
    @override
    def parts(self) -> Sequence[Entries]:
        if self.total <= CHUNK:
            return (self,)
        return tuple(DenseEntries(self.rows[run]) for run in runs_of(self.sizes, CHUNK))

    def read_parameters(self) -> Tensor:
        """Gather the kept views; see `Entries.read_parameters`."""
        values = torch.cat(self._views)
        return values.float() if self._is_low_precision else values

    @override
    def moved_from(self, theta: Tensor) -> Tensor:
        if len(self._views) > 1 or self._is_low_precision:
            return super().moved_from(theta)
        return self._views[0] - theta  # a pass less

    def read_gradients(self) -> Tensor:
        """Gather views of the gradients; see `Entries.read_gradients`."""
        gradients = self._dense_gradients()
        if gradients is None:
            return GeneralEntries(self.rows).read_gradients()
        values = torch.cat(list(map(Tensor.as_strided, gradients, self._shapes, repeat(_UNIT))))
        if values.dtype != self._dtype:  # one is of a wider type
            return GeneralEntries(self.rows).read_gradients()
        return values.float() if self._is_low_precision else values

    @override
    def summand(self, values: Tensor, scale: float, spent: bool = False) -> tuple[Tensor, float]:
        keeps_scratch = self._scratch_views and not self._is_low_precision
        out = self._scratch if keeps_scratch else values if spent else None
        return summand_below_overflow(values, scale, self._dtype, out)

    def add_to_parameters(self, values: Tensor, scale: float = 1.0) -> None:
        """Add in one foreach call; see `Entries.add_to_parameters`."""
        kept = values is self._scratch
        pieces = self._scratch_views if kept else per_tensor(values, self.sizes)
        torch._foreach_add_(self._views, pieces, alpha=scale)

    def write_gradients(self, values: Tensor) -> None:
        """Overwrite in one foreach call; see `Entries.write_gradients`."""
        gradients = self._dense_gradients()
        if (
            gradients is None
            or len(set(map(Tensor.data_ptr, gradients))) < len(gradients)
            or {self._dtype} != {gradient.dtype for gradient in gradients}
            or any(map(Tensor.is_neg, gradients))
        ):
            GeneralEntries(self.rows).write_gradients(values)
            return
        targets = list(map(Tensor.as_strided, gradients, self._shapes, repeat(_UNIT)))
        old = torch.cat(targets)
        new = unless_overflown(values.to(old.dtype), old)
        torch._foreach_copy_(targets, per_tensor(new, self.sizes))

    def _dense_gradients(self) -> list[Tensor] | None:
        """Return the gradients; None if one is missing, or lies otherwise in memory."""
        gradients = list(map(_GRAD, self._parameters))
        is_plain = (  # no call of Python per gradient: this runs at every step
            not any(map(is_, gradients, repeat(None)))
            and _STRIDED.issuperset(map(_LAYOUT, gradients))
            and all(map(Tensor.is_contiguous, gradients))
        )
        return gradients if is_plain else None


class GeneralEntries(Entries):
    """Touches entries row by row through logical indices.

    ``tensor.reshape(-1)[i] -= x`` is a silent no-op on a tensor that is not contiguous, because
    reshape then copies; multi-dimensional indices always reach the tensor itself.

    Args:
        rows: The touched parameters, at least one.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__(rows)
        dtypes = {as_real(row.parameter.detach()).dtype for row in rows}
        self._dtype = torch.float64 if torch.float64 in dtypes else torch.float32
        self._device = rows[0].parameter.device
        self._indices = [_logical_indices(row) for row in rows]

    def read_parameters(self) -> Tensor:
        """Gather row by row; see `Entries.read_parameters`."""
        return self._join(
            as_real(row.parameter.detach())[index]
            for row, index in zip(self.rows, self._indices, strict=True)
        )

    def read_gradients(self) -> Tensor:
        """Gather row by row; see `Entries.read_gradients`."""
        pairs = zip(self.rows, self._indices, strict=True)
        return self._join(gradient_at(row.parameter.grad, index) for row, index in pairs)

    def add_to_parameters(self, values: Tensor, scale: float = 1.0) -> None:
        """Add row by row; see `Entries.add_to_parameters`."""
        pairs = zip(self.rows, self._indices, torch.split(values, self.sizes), strict=True)
        for row, index, piece in pairs:
            target = as_real(row.parameter.detach())
            old = target[index]
            new = old.to(piece.dtype) + scale * piece.to(target.device)
            target[index] = unless_overflown(new.to(target.dtype), old)

    def write_gradients(self, values: Tensor) -> None:
        """Overwrite row by row; see `Entries.write_gradients`.

        Raises:
            ValueError: If a gradient is sparse: most of its entries are not stored.
        """
        for row in self.rows:
            refuse_sparse(row.parameter.grad)
        taken = set[int]()
        gradients = [_writable(row.parameter, taken) for row in self.rows]
        pairs = zip(gradients, self._indices, torch.split(values, self.sizes), strict=True)
        for gradient, index, piece in pairs:
            if gradient is not None:
                target = as_real(gradient)
                target[index] = unless_overflown(piece.to(target), target[index])

    def _join(self, pieces: Iterable[Tensor]) -> Tensor:
        return torch.cat([piece.to(self._device, self._dtype) for piece in pieces])


def _writable(parameter: Tensor, taken: set[int]) -> Tensor | None:
    """Return the gradient; one that shares its memory, or is lazily conjugated, is copied first.

    Args:
        parameter: Of which the gradient is.
        taken: Addresses of the gradients before this one; its own joins them.
    """
    gradient = parameter.grad
    if gradient is None:
        return None
    sizes_and_strides = zip(gradient.shape, gradient.stride(), strict=True)
    overlaps_itself = any(stride == 0 and size > 1 for size, stride in sizes_and_strides)
    if gradient.is_conj() or overlaps_itself or gradient.data_ptr() in taken:
        with torch.inference_mode(False), torch.no_grad():  # the next backward adds to it
            copied = gradient.resolve_conj().clone(memory_format=torch.contiguous_format)
            parameter.grad = gradient = copied
    taken.add(gradient.data_ptr())
    return gradient


def unless_overflown(new: Tensor, old: Tensor) -> Tensor:
    """Return new values, and old ones where the new are not finite and the old are."""
    return torch.where(torch.isfinite(new) | ~torch.isfinite(old), new, old)


def summand_below_overflow(
    values: Tensor, scale: float, dtype: torch.dtype, out: Tensor | None = None
) -> tuple[Tensor, float]:
    """Return ``scale * values`` as (summand, alpha), 0 where it comes near an overflow.

    A power of two lifts what comes within a quarter of the largest number of `dtype` to infinity,
    which becomes 0, and is taken off again by alpha: two cheap operations, and no bit is lost.

    Args:
        values: Float32 or float64; what is not finite becomes 0.
        scale: Non-negative.
        dtype: Of the parameters that the summand is for.
        out: Where the summand is written, of the values' shape and dtype.
    """
    lift = _lift(values.dtype, dtype)
    if lift == _LEAST_LIFT:
        summand = torch.mul(values, scale * lift, out=out)
    else:  # a factor of both would overflow itself
        summand = torch.mul(values, scale, out=out).mul_(lift)
    return torch.nan_to_num_(summand, 0.0, 0.0, 0.0), 1.0 / lift


_LEAST_LIFT = 4.0


@lru_cache
def _lift(own: torch.dtype, target: torch.dtype) -> float:
    largest, bound = (log2(torch.finfo(kind).max) for kind in (own, target))
    return float(2.0 ** (2 + round(max(largest - bound, 0.0))))


def _logical_indices(row: Row) -> tuple[Tensor, ...]:
    flat = row.chosen
    if isinstance(flat, slice):
        flat = torch.arange(flat.start, flat.stop)
    shape = as_real(row.parameter.detach()).shape
    return torch.unravel_index(flat.to(row.parameter.device), shape)


def gradient_at(gradient: Tensor | None, index: tuple[Tensor, ...]) -> Tensor:
    """Return some entries of a gradient, dense or sparse; 0 for none."""
    if gradient is None:
        return torch.zeros_like(index[0], dtype=torch.float32)
    if gradient.layout == torch.sparse_coo:
        rows = gradient.index_select(0, index[0]).to_dense()
        own = torch.arange(len(rows), device=rows.device)
        return rows[(own, *index[1:])]
    dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
    return as_real(dense)[index]


def refuse_sparse(gradient: Tensor | None) -> None:
    """Refuse to write into a sparse gradient.

    Raises:
        ValueError: If it is sparse.
    """
    if gradient is not None and gradient.layout != torch.strided:
        raise ValueError(
            "Cannot inject into a sparse gradient: most of its entries are not stored. "
            "Use UpdateInjection, or an embedding with sparse=False."
        )

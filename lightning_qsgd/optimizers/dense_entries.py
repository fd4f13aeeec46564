"""The fast path: leading entries of contiguous tensors of one dtype and device."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from lightning_qsgd.optimizers.entries import LOW_PRECISION, Entries
from lightning_qsgd.optimizers.general_entries import GeneralEntries
from lightning_qsgd.optimizers.rows import Row
from lightning_qsgd.optimizers.sharding import is_sharded

SMALL = 2**16
"""Up to this many entries a scratch buffer is kept, whose views need not be made at every step."""

SHORT = 256
"""Up to this many entries a vector's gradient is copied whole: cheaper than making a view of it."""

_UNIT = (1,)


class DenseEntries(Entries):
    """Touches views that are made once: one gather to read, one foreach to write.

    Making a view costs more than the arithmetic on four entries, so the views of the parameters
    are kept; `EntriesCache` drops them when a parameter moves in memory. Gradients are new tensors
    at each step and need new views, unless they are short vectors: those are gathered whole.

    Args:
        rows: Touched parameters for which `fits` is true.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__(rows)
        self._shaped = [(row.parameter, (row.size,), _is_short(row.parameter)) for row in rows]
        self._picked = _picked(rows) if any(short for *_, short in self._shaped) else None
        self._views = [row.parameter.detach().view(-1)[: row.size] for row in rows]
        self._is_low_precision = rows[0].parameter.dtype in LOW_PRECISION
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
            and row.parameter.dtype == first.dtype
            and row.parameter.device == first.device
            for row in rows
        )

    def read_parameters(self) -> Tensor:
        """Gather the kept views; see `Entries.read_parameters`."""
        values = torch.cat(self._views)
        return values.float() if self._is_low_precision else values

    def read_gradients(self) -> Tensor:
        """Gather the gradients, short ones whole; see `Entries.read_gradients`."""
        pieces = []
        for parameter, shape, short in self._shaped:
            gradient = parameter.grad
            if (
                gradient is None
                or gradient.layout is not torch.strided
                or not gradient.is_contiguous()
            ):
                return GeneralEntries(self.rows).read_gradients()
            pieces.append(gradient if short else gradient.as_strided(shape, _UNIT))
        values = torch.cat(pieces)
        if self._picked is not None:
            values = values.index_select(0, self._picked)
        return values.float() if self._is_low_precision else values

    def subtract_from_parameters(self, values: Tensor) -> None:
        """Subtract in one foreach call; see `Entries.subtract_from_parameters`."""
        if not self._scratch_views or self._is_low_precision:
            torch._foreach_sub_(self._views, list(torch.split(values, self.sizes)))
            return
        self._scratch.copy_(values)
        torch._foreach_sub_(self._views, self._scratch_views)

    def write_gradients(self, values: Tensor) -> None:
        """Overwrite row by row; see `Entries.write_gradients`."""
        GeneralEntries(self.rows).write_gradients(values)


def _is_short(parameter: Tensor) -> bool:
    return parameter.dim() == 1 and parameter.numel() <= SHORT


def _picked(rows: Sequence[Row]) -> Tensor:
    """Return where the touched entries lie when short gradients are gathered whole."""
    lengths = [row.parameter.numel() if _is_short(row.parameter) else row.size for row in rows]
    starts = [0, *accumulate(lengths)]
    picked = [
        torch.arange(start, start + row.size) for start, row in zip(starts[:-1], rows, strict=True)
    ]
    return torch.cat(picked).to(rows[0].parameter.device)

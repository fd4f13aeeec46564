"""The fast path: leading entries of contiguous tensors of one dtype and device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_qsgd.optimizers.entries import LOW_PRECISION, Entries
from lightning_qsgd.optimizers.general_entries import GeneralEntries
from lightning_qsgd.optimizers.rows import Row

SMALL = 2**16
"""Up to this many entries a scratch buffer is kept, whose views need not be made at every step."""


class DenseEntries(Entries):
    """Touches views that are made once: one gather to read, one foreach to write.

    Making a view costs more than the arithmetic on four entries, so the views of the parameters
    are kept; `EntriesCache` drops them when a parameter moves in memory. Gradients are new tensors
    at each step and need new views.

    Args:
        rows: Touched parameters for which `fits` is true.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__(rows)
        self._parameters = [row.parameter for row in rows]
        self._shapes = [(size,) for size in self.sizes]
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
            and row.parameter.is_contiguous()
            and not row.parameter.is_complex()
            and row.parameter.dtype == first.dtype
            and row.parameter.device == first.device
            for row in rows
        )

    def read_parameters(self) -> Tensor:
        """Gather the kept views; see `Entries.read_parameters`."""
        values = torch.cat(self._views)
        return values.float() if self._is_low_precision else values

    def read_gradients(self) -> Tensor:
        """Gather fresh views of the gradients; see `Entries.read_gradients`."""
        gradients = self._plain_gradients()
        if gradients is None:
            return GeneralEntries(self.rows).read_gradients()
        pieces = [g.as_strided(s, _UNIT) for g, s in zip(gradients, self._shapes, strict=True)]
        values = torch.cat(pieces)
        return values.float() if self._is_low_precision else values

    def subtract_from_parameters(self, values: Tensor) -> None:
        """Subtract in one foreach call; see `Entries.subtract_from_parameters`."""
        if not self._scratch_views or self._is_low_precision:
            torch._foreach_sub_(self._views, list(torch.split(values, self.sizes)))
            return
        self._scratch.copy_(values)
        torch._foreach_sub_(self._views, self._scratch_views)

    def write_gradients(self, values: Tensor) -> None:
        """Overwrite fresh views of the gradients; see `Entries.write_gradients`."""
        gradients = self._plain_gradients()
        if gradients is None:
            GeneralEntries(self.rows).write_gradients(values)
            return
        pieces = [g.as_strided(s, _UNIT) for g, s in zip(gradients, self._shapes, strict=True)]
        torch._foreach_copy_(pieces, torch.split(values, self.sizes))

    def _plain_gradients(self) -> list[Tensor] | None:
        gradients = [parameter.grad for parameter in self._parameters]
        plain = all(
            g is not None and g.layout is torch.strided and g.is_contiguous() for g in gradients
        )
        return gradients if plain else None  # type: ignore[return-value]


_UNIT = (1,)

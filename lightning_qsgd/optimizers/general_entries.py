"""The general path: any strides, dtypes, devices, sparse gradients and index choices."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.rows import Row, as_real


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

    def subtract_from_parameters(self, values: Tensor) -> None:
        """Subtract row by row; see `Entries.subtract_from_parameters`."""
        pairs = zip(self.rows, self._indices, torch.split(values, self.sizes), strict=True)
        for row, index, piece in pairs:
            target = as_real(row.parameter.detach())
            wide = target[index].to(piece.dtype)
            target[index] = (wide - piece.to(target.device)).to(target.dtype)

    def write_gradients(self, values: Tensor) -> None:
        """Overwrite row by row; see `Entries.write_gradients`.

        Raises:
            ValueError: If a gradient is sparse: most of its entries are not stored.
        """
        for row in self.rows:
            refuse_sparse(row.parameter.grad)
        pairs = zip(self.rows, self._indices, torch.split(values, self.sizes), strict=True)
        for row, index, piece in pairs:
            gradient = row.parameter.grad
            if gradient is not None:
                target = as_real(gradient)
                target[index] = piece.to(target.device, target.dtype)

    def _join(self, pieces: Iterable[Tensor]) -> Tensor:
        return torch.cat([piece.to(self._device, self._dtype) for piece in pieces])


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

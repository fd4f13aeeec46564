"""Chooses how entries at any indices of any tensors are read and written."""

from collections.abc import Sequence

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.general_entries import GeneralEntries
from lightning_qsgd.optimizers.rows import Row
from lightning_qsgd.optimizers.sharded_entries import ShardedEntries
from lightning_qsgd.optimizers.sharding import is_sharded


def indexed_entries(rows: Sequence[Row]) -> Entries:
    """Return the entries of these rows, over all processes if a tensor is sharded."""
    if any(is_sharded(row.parameter) for row in rows):
        return ShardedEntries(rows)
    return GeneralEntries(rows)

"""Keeps where the touched entries lie as long as it is valid."""

from collections.abc import Sequence

from lightning_qsgd.optimizers.dense_entries import DenseEntries
from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.indexed_entries import indexed_entries
from lightning_qsgd.optimizers.layout import Layout
from lightning_qsgd.optimizers.rows import ParamGroups, Row, touched_rows
from lightning_qsgd.optimizers.sharded_entries import ShardedEntries
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.perturbations.blocks import Blocks
from lightning_qsgd.perturbations.coordinates import Moment

Touched = tuple[Entries, Blocks]


class EntriesCache:
    """Finds the touched entries of a step, reusing views of the last step where nothing moved.

    Parameters are replaced, reshaped, moved to another device or group, frozen and added while a
    training runs, so kept views are compared with the parameters at every step.

    Args:
        perturbation: Says which coordinates are touched.
    """

    def __init__(self, perturbation: Perturbation) -> None:
        self._coordinates = perturbation.coordinates
        self._num_qubits = perturbation.backend.num_qubits
        self._seed = perturbation.seed
        self._kept: Touched | None = None
        self._layout = Layout([])

    def at(self, groups: ParamGroups, step: int) -> Touched | None:
        """Return the touched entries and their blocks; None if no touched tensor has a gradient.

        Args:
            groups: The optimizer's parameter groups.
            step: Number of perturbed steps before this one; moves choices that change.
        """
        if self._kept is not None and self._layout.is_unchanged(groups):
            return self._kept
        self._kept = None
        rows = touched_rows(groups, self._coordinates, Moment(step, self._seed, self._num_qubits))
        if not rows:
            return None
        blocks = self.blocks_of(rows)
        if self._coordinates.changes:
            return indexed_entries(rows), blocks
        entries = DenseEntries(rows) if DenseEntries.fits(rows) else indexed_entries(rows)
        if _can_be_kept(entries):
            self._kept, self._layout = (entries, blocks), Layout(groups)
        return entries, blocks

    def blocks_of(self, rows: Sequence[Row]) -> Blocks:
        """Return how the touched entries are cut into blocks."""
        if self._coordinates.spans_tensors:
            return Blocks(("model",), (sum(row.size for row in rows),), self._num_qubits)
        names = tuple(row.name for row in rows)
        return Blocks(names, tuple(row.size for row in rows), self._num_qubits)


def _can_be_kept(entries: Entries) -> bool:
    """Whether they stay valid as long as the layout does, which needs a gradient to watch."""
    if isinstance(entries, DenseEntries):
        return True
    with_gradient = any(row.parameter.grad is not None for row in entries.rows)
    return isinstance(entries, ShardedEntries) and with_gradient

"""Keeps the views of the touched entries as long as they are valid."""

from lightning_qsgd.optimizers.dense_entries import DenseEntries
from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.general_entries import GeneralEntries
from lightning_qsgd.optimizers.rows import ParamGroups, Row, parameters_of, touched_rows
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.perturbations.blocks import Blocks
from lightning_qsgd.perturbations.coordinates import Moment

Touched = tuple[Entries, Blocks]


class EntriesCache:
    """Finds the touched entries of a step, reusing those of the last step where nothing moved.

    Parameters are replaced, moved to another device, frozen and added while a training runs, so
    the kept views are compared with the parameters' addresses at every step.

    Args:
        perturbation: Says which coordinates are touched.
    """

    def __init__(self, perturbation: Perturbation) -> None:
        self._coordinates = perturbation.coordinates
        self._num_qubits = perturbation.backend.num_qubits
        self._seed = perturbation.seed
        self._fingerprint: list[int] = []
        self._touched: Touched | None = None

    def at(self, groups: ParamGroups, step: int) -> Touched | None:
        """Return the touched entries and their blocks; None if no touched tensor has a gradient."""
        parameters = parameters_of(groups)
        fingerprint = [
            *map(id, parameters),
            *[parameter.data_ptr() for parameter in parameters],
            *[parameter.grad is None for parameter in parameters],
        ]
        if self._coordinates.changes or fingerprint != self._fingerprint:
            moment = Moment(step, self._seed, self._num_qubits)
            rows = touched_rows(groups, self._coordinates, moment)
            self._touched = (_entries(rows), self._blocks(rows)) if rows else None
            self._fingerprint = fingerprint
        return self._touched

    def _blocks(self, rows: list[Row]) -> Blocks:
        if self._coordinates.spans_tensors:
            return Blocks(("model",), (sum(row.size for row in rows),), self._num_qubits)
        names = tuple(row.name for row in rows)
        return Blocks(names, tuple(row.size for row in rows), self._num_qubits)


def _entries(rows: list[Row]) -> Entries:
    return DenseEntries(rows) if DenseEntries.fits(rows) else GeneralEntries(rows)

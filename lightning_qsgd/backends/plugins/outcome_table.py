"""What a batch of circuits measured, as one array."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from qiskit.primitives import DataBin


class OutcomeTable:
    """How often each outcome was measured, or its exact probability, for an array of circuits.

    It answers `get_counts` as qiskit's `BitArray` does. Exact counts are the probabilities
    themselves, which serves everyone who divides counts by their sum.

    Args:
        values: Counts or probabilities, shape (*shape, 2^num_bits).
        num_shots: Number of shots; None for exact probabilities.

    Attributes:
        values: Counts or probabilities, shape (*shape, 2^num_bits).
        num_shots: Number of shots; None for exact probabilities.
        shape: Shape of the array of circuits.
        num_bits: Number of measured bits.

    Example:
        >>> OutcomeTable(np.array([[0.5, 0.0, 0.0, 0.5]]), num_shots=None).get_counts(0)
        {'00': 0.5, '11': 0.5}
    """

    def __init__(self, values: np.ndarray, num_shots: int | None) -> None:
        self.values = values
        self.num_shots = num_shots
        self.shape = values.shape[:-1]
        self.num_bits = values.shape[-1].bit_length() - 1

    @property
    def probabilities(self) -> np.ndarray:
        """Share of each outcome, shape (*shape, 2^num_bits), summing to 1."""
        return np.asarray(self.values / self.values.sum(axis=-1, keepdims=True))

    def get_int_counts(self, loc: int | tuple[int, ...] | None = None) -> dict[int, float]:
        """Return the outcomes that occurred as integers, and how often they did.

        Args:
            loc: Index of a circuit; None adds up all of them.
        """
        if loc is None:
            row = self.values.reshape(-1, self.values.shape[-1]).sum(axis=0).tolist()
        else:
            row = self._rows[self._at(loc)]
        return {outcome: value for outcome, value in enumerate(row) if value}

    def get_counts(self, loc: int | tuple[int, ...] | None = None) -> dict[str, float]:
        """Return the outcomes that occurred as bit strings, and how often they did.

        Args:
            loc: Index of a circuit; None adds up all of them.
        """
        counts = self.get_int_counts(loc)
        return {f"{outcome:0{self.num_bits}b}": value for outcome, value in counts.items()}

    @cached_property
    def _rows(self) -> list[list[float]]:
        rows: list[list[float]] = self.values.reshape(-1, self.values.shape[-1]).tolist()
        return rows

    def _at(self, loc: int | tuple[int, ...]) -> int:
        if isinstance(loc, int) and len(self.shape) < 2:  # `SamplerQNN` asks a lone circuit for 0
            return loc
        index = loc if isinstance(loc, tuple) else (loc,)
        return int(np.ravel_multi_index(index, self.shape)) if self.shape else 0


class OutcomeData(DataBin):  # type: ignore[misc]
    """The data of one PUB: its register, and a short cut to it for `SamplerQNN`.

    `SamplerQNN` asks the data itself for counts first. Integer keys spare it the reading of bit
    strings, and it gets each circuit's own counts whatever the register's name: with a name other
    than "meas" it would otherwise add up the counts of the whole batch.

    Args:
        register: Name of the register.
        table: What was measured.
    """

    def __init__(self, register: str, table: OutcomeTable) -> None:
        super().__init__(shape=table.shape, **{register: table})
        self._table = table

    def get_counts(self, loc: int | tuple[int, ...] | None = None) -> dict[int, float]:
        """Return the outcomes of one circuit as integers; see `OutcomeTable.get_int_counts`."""
        return self._table.get_int_counts(loc)

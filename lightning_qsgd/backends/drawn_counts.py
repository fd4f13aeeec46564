"""What a batch of circuits measured, without a list of every single shot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np


class DrawnCounts:
    """How often each outcome was measured, for an array of circuits.

    It answers as qiskit's `BitArray` does, whose memory grows with the number of shots: a million
    of them would take megabytes for each circuit of a step.

    Args:
        rows: Outcomes as integers and how often they occurred, for each circuit of the array.
        shape: Shape of the array.
        num_bits: Number of measured bits.

    Example:
        >>> DrawnCounts([{0: 3, 2: 1}], shape=(1,), num_bits=2).get_counts(0)
        {'00': 3, '10': 1}
    """

    def __init__(
        self, rows: Sequence[dict[int, int]], shape: tuple[int, ...], num_bits: int
    ) -> None:
        self._rows = list(rows)
        self.shape = shape
        self.num_bits = num_bits

    def get_int_counts(self, loc: int | tuple[int, ...] | None = None) -> dict[int, int]:
        """Return the outcomes that occurred as integers, and how often they did.

        Args:
            loc: Index of a circuit; None adds up all of them.
        """
        if loc is not None:
            index = loc if isinstance(loc, tuple) else (loc,)
            # `SamplerQNN` asks a lone circuit, whose array has no dimension, for row 0.
            return self._rows[int(np.ravel_multi_index(index, self.shape)) if self.shape else 0]
        total: Counter[int] = Counter()
        for row in self._rows:
            total.update(row)
        return dict(total)

    def get_counts(self, loc: int | tuple[int, ...] | None = None) -> dict[str, int]:
        """Return the outcomes that occurred as bit strings, and how often they did.

        Args:
            loc: Index of a circuit; None adds up all of them.
        """
        counts = self.get_int_counts(loc)
        return {f"{outcome:0{self.num_bits}b}": count for outcome, count in counts.items()}

"""What the steps of one evaluation share: the angles, and room for their gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_qsgd.backends.compiled.angles import AngleMap, Angles, Row

UNTURNED = (1.0, 0.0, 0.0)
"""First rows of the fixed table: cosine and sines of an angle of 0, for qubits not rotated."""


class FixedPart:
    """What depends on the weights alone, and so is shared by all evaluations with them.

    Args:
        quarters: Half the angles of all rotations in quarters (`AngleMap.quarters`), at inputs 0.
        phases: The angles of all phases, at inputs 0.
    """

    def __init__(self, quarters: Angles, phases: Angles) -> None:
        self.quarters = quarters
        self.phases = phases
        untouched = quarters.fixed.new_tensor(UNTURNED).unsqueeze(1)
        self.table = torch.cat((untouched, quarters.fixed.cos()))
        self.turns: dict[int, Tensor] = {}


class Tape:
    """The angles of one evaluation.

    Tables hold cosine, sine and negative sine of half a rotation's angle in rows 3k to 3k + 2.

    Args:
        fixed: What depends on the weights alone.
        quarters: Evaluates half the angles of all rotations in quarters.
        phases: Evaluates the angles of all phases.
        inputs: Shape (B, num_inputs).
    """

    def __init__(
        self, fixed: FixedPart, quarters: AngleMap, phases: AngleMap, inputs: Tensor
    ) -> None:
        self.fixed = fixed
        self.phases = phases.with_inputs(fixed.phases, inputs)
        self.tables = {
            True: quarters.with_inputs(fixed.quarters, inputs).cos(),
            False: fixed.table,
        }

    @property
    def batch(self) -> int:
        """Number of circuits."""
        return self.tables[True].shape[1]

    def product(self, varies: bool, rows: Tensor) -> Tensor:
        """Multiply rows of a table.

        Args:
            varies: Which table.
            rows: Its rows, shape (factors, products).

        Returns:
            Shape (products, B) or (products, 1).
        """
        table = self.tables[varies]
        return table.index_select(0, rows.view(-1)).view(*rows.shape, table.shape[1]).prod(0)

    def turn(self, row: Row) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of half a rotation's angle, shape (B,) or (1,)."""
        table, first = self.tables[row.varies], table_row(row)
        return table[first], table[first + 1]


class GradientTape(Tape):
    """The angles of one evaluation, with room for their gradients.

    Args:
        fixed: As of a `Tape`.
        quarters: As of a `Tape`.
        phases: As of a `Tape`.
        inputs: As of a `Tape`.
    """

    def __init__(
        self, fixed: FixedPart, quarters: AngleMap, phases: AngleMap, inputs: Tensor
    ) -> None:
        super().__init__(fixed, quarters, phases, inputs)
        half_angles = Angles(self.tables[True][::3], fixed.quarters.fixed[::3])
        self.of_half_angles = half_angles.zeros()
        self.of_phases = Angles(self.phases, fixed.phases.fixed).zeros()

    def note(self, row: Row, slopes: Tensor) -> None:
        """Note the gradient of a rotation, given that of each pair, shape (outer, inner, B)."""
        total = slopes.sum((0, 1)) if row.varies else slopes.sum()
        self.of_half_angles.of(row.varies)[row.place] = total

    def note_all(self, rows: Iterable[Row], slopes: Tensor) -> None:
        """Note the gradients of rotations that vary and were added one after the other.

        Args:
            rows: Their rows.
            slopes: Their gradients, shape (rows, B).
        """
        first = min(row.place for row in rows)
        self.of_half_angles.varying[first : first + len(slopes)] = slopes


def table_row(row: Row) -> int:
    """Return the row of an angle's cosine; its sine comes next, and then that negated."""
    return 3 * (row.place if row.varies else row.place + 1)

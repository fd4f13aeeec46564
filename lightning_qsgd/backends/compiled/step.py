"""A step of a compiled circuit, and the plane rotation that most steps are made of.

A batch of states is a real tensor of shape (parts, 2^n, B): real parts, and imaginary parts unless
all is real; B is 1 as long as nothing depends on the inputs. The way back un-does each operation
on the state and on its cotangent, which are stacked to shape (2, parts, 2^n, B), and reads the
gradients of the angles off the two: no intermediate state is ever stored.

Ry turns the plane of the amplitudes with qubit 0 and 1 by half its angle; a phase turns the plane
of an amplitude's real and imaginary part.

A tape holds what the steps of one evaluation share: the angles, and room for their gradients.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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

    Attributes:
        plain: Whether the steps are to change nothing in place.
    """

    plain = False

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
        # One gather and one product for all: a loop over qubits would be a call for each.
        table = self.tables[varies]
        return table.index_select(0, rows.view(-1)).view(*rows.shape, table.shape[1]).prod(0)

    def turn(self, row: Row) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of half a rotation's angle, shape (B,) or (1,)."""
        table, first = self.tables[row.varies], table_row(row)
        return table[first], table[first + 1]


class PlainTape(Tape):
    """The angles of an evaluation that torch is to differentiate."""

    plain = True


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


class Step(ABC):
    """One operation on a batch of states.

    Attributes:
        turns: Number of states that it makes one after the other.
    """

    turns = 1

    @abstractmethod
    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Apply the operation to a state, shape (parts, 2^n, B)."""

    @abstractmethod
    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Note the angles' gradients on the tape and un-do the operation.

        Args:
            pair: State and cotangent after the operation, shape (2, parts, 2^n, B).
            tape: Receives the gradients.

        Returns:
            State and cotangent before the operation.
        """


def rotate(pairs: Tensor, cos: Tensor, sin: Tensor, direction: int, plain: bool = False) -> Tensor:
    """Turn pairs by an angle, or back.

    Args:
        pairs: Shape (outer, 2, inner, B).
        cos: Cosine of the angle, broadcastable to (inner, B).
        sin: Its sine.
        direction: +1 to turn, -1 to turn back.
        plain: Change nothing in place, which autograd and `torch.func` need, at more memory.

    Returns:
        A new tensor; wider than `pairs` if only the angles vary within the batch.
    """
    first, second = pairs.unbind(1)
    if plain:
        sin = sin * direction
        return torch.stack((first * cos - second * sin, second * cos + first * sin), dim=1)
    turned = pairs * cos
    # What `unbind` returns may not be changed in place where torch records, as it does in a trace.
    out_first, out_second = turned.select(1, 0), turned.select(1, 1)
    out_first.addcmul_(second, sin, value=-direction)
    out_second.addcmul_(first, sin, value=direction)
    return turned


def slope(state: Tensor, cotangent: Tensor) -> Tensor:
    """Return the gradient of each pair's angle, given the turned pairs and their cotangent.

    The derivative of a turned pair (a, b) by its angle is (-b, a).

    Args:
        state: Turned pairs, shape (outer, 2, inner, B).
        cotangent: Gradient of the loss by them, of the same shape.

    Returns:
        Shape (outer, inner, B).
    """
    first, second = state.unbind(1)
    of_first, of_second = cotangent.unbind(1)
    return (of_second * first).addcmul_(of_first, second, value=-1)

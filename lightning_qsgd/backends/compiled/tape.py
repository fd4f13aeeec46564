"""What the steps of one evaluation share: the angles, and room for their gradients."""

from torch import Tensor

from lightning_qsgd.backends.compiled.angles import Angles, Row


class Tape:
    """The angles of one evaluation.

    Args:
        half_angles: Half the angles of all rotations.
        phases: The angles of all phases.
    """

    def __init__(self, half_angles: Angles, phases: Angles) -> None:
        self.phases = phases
        self.half_angles = half_angles
        self._cos = {v: half_angles.of(v).cos().unbind(0) for v in (True, False)}
        self._sin = {v: half_angles.of(v).sin().unbind(0) for v in (True, False)}

    def turn(self, row: Row) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of half a rotation's angle, shape (B,) or (1,)."""
        return self._cos[row.varies][row.place], self._sin[row.varies][row.place]


class GradientTape(Tape):
    """The angles of one evaluation, with room for their gradients.

    Args:
        half_angles: Half the angles of all rotations.
        phases: The angles of all phases.
    """

    def __init__(self, half_angles: Angles, phases: Angles) -> None:
        super().__init__(half_angles, phases)
        self.of_half_angles = half_angles.zeros()
        self.of_phases = phases.zeros()

    def note(self, row: Row, slopes: Tensor) -> None:
        """Note the gradient of a rotation, given that of each pair, shape (outer, inner, B)."""
        total = slopes.sum((0, 1)) if row.varies else slopes.sum()
        self.of_half_angles.of(row.varies)[row.place] = total

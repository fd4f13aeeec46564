"""The gates whose decomposition into the operations of a `Program` is written by hand.

All others are lowered by what qiskit says about them: base gate and controls, definition, matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import pi
from typing import Protocol

import numpy as np

from lightning_qsgd.backends.compiled.angles import Affine, AngleReader


class Target(Protocol):
    """What gates are written to: a program, perhaps under controls."""

    angles: AngleReader
    basis: np.ndarray

    def bit(self, qubit: int) -> np.ndarray:
        """Return the qubit's value in each basis state, shape (2^n,)."""

    def phase(self, angle: Affine, vector: np.ndarray) -> None:
        """Multiply basis state b by ``exp(i * angle * vector[b])``."""

    def fixed_phase(self, angle: float, vector: np.ndarray) -> None:
        """Do so with an angle in radians."""

    def rotation(self, qubit: int, angle: Affine) -> None:
        """Apply Ry."""

    def flip(self, mask: np.ndarray) -> None:
        """Exchange basis states b and b ^ mask[b]."""


def _x(to: Target, qubits: Sequence[int]) -> None:
    to.flip(np.full_like(to.basis, 1 << qubits[0]))


def _y(to: Target, qubits: Sequence[int]) -> None:
    _z(to, qubits)  # Y = i X Z
    _x(to, qubits)
    to.fixed_phase(pi / 2, to.basis * 0 + 1)


def _z(to: Target, qubits: Sequence[int]) -> None:
    to.fixed_phase(pi, to.bit(qubits[0]))


def _h(to: Target, qubits: Sequence[int]) -> None:
    _z(to, qubits)  # H = Ry(pi / 2) Z
    to.rotation(qubits[0], to.angles.constant(pi / 2))


def _p(to: Target, qubits: Sequence[int], angle: Affine) -> None:
    to.phase(angle, to.bit(qubits[0]))


def _rz(to: Target, qubits: Sequence[int], angle: Affine) -> None:
    to.phase(angle, to.bit(qubits[0]) - 0.5)


def _ry(to: Target, qubits: Sequence[int], angle: Affine) -> None:
    to.rotation(qubits[0], angle)


def _r(to: Target, qubits: Sequence[int], angle: Affine, axis: Affine) -> None:
    quarter = to.angles.constant(pi / 2)
    _rz(to, qubits, quarter + axis * -1)  # Rz turns the y axis into the axis of rotation
    _ry(to, qubits, angle)
    _rz(to, qubits, axis + quarter * -1)


def _rx(to: Target, qubits: Sequence[int], angle: Affine) -> None:
    _r(to, qubits, angle, to.angles.constant(0.0))


def _u(to: Target, qubits: Sequence[int], theta: Affine, phi: Affine, lam: Affine) -> None:
    _p(to, qubits, lam)
    _ry(to, qubits, theta)
    _p(to, qubits, phi)


def _u2(to: Target, qubits: Sequence[int], phi: Affine, lam: Affine) -> None:
    _u(to, qubits, to.angles.constant(pi / 2), phi, lam)


def _swap(to: Target, qubits: Sequence[int]) -> None:
    first, second = qubits
    differ = to.bit(first) ^ to.bit(second)
    to.flip(differ * ((1 << first) | (1 << second)))


def _rzz(to: Target, qubits: Sequence[int], angle: Affine) -> None:
    to.phase(angle, (to.bit(qubits[0]) ^ to.bit(qubits[1])) - 0.5)


def _rxx(to: Target, qubits: Sequence[int], angle: Affine) -> None:
    _between(to, qubits, _h, _h, lambda: _rzz(to, qubits, angle))


def _ryy(to: Target, qubits: Sequence[int], angle: Affine) -> None:
    turn, back = _fixed_phase_gate(-pi / 2), _fixed_phase_gate(pi / 2)
    _between(to, qubits, turn, back, lambda: _rxx(to, qubits, angle))


def _rzx(to: Target, qubits: Sequence[int], angle: Affine) -> None:
    _between(to, qubits[1:], _h, _h, lambda: _rzz(to, qubits, angle))


def _sx(to: Target, qubits: Sequence[int]) -> None:
    _rx(to, qubits, to.angles.constant(pi / 2))
    to.fixed_phase(pi / 4, to.basis * 0 + 1)


def _sxdg(to: Target, qubits: Sequence[int]) -> None:
    _rx(to, qubits, to.angles.constant(-pi / 2))
    to.fixed_phase(-pi / 4, to.basis * 0 + 1)


def _between(
    to: Target,
    qubits: Sequence[int],
    before: Callable[..., None],
    after: Callable[..., None],
    inner: Callable[[], None],
) -> None:
    for qubit in qubits:
        before(to, [qubit])
    inner()
    for qubit in qubits:
        after(to, [qubit])


def _fixed_phase_gate(angle: float) -> Callable[..., None]:
    return lambda to, qubits: to.fixed_phase(angle, to.bit(qubits[0]))


GATES: dict[str, Callable[..., None]] = {
    "x": _x,
    "y": _y,
    "z": _z,
    "h": _h,
    "s": _fixed_phase_gate(pi / 2),
    "sdg": _fixed_phase_gate(-pi / 2),
    "t": _fixed_phase_gate(pi / 4),
    "tdg": _fixed_phase_gate(-pi / 4),
    "sx": _sx,
    "sxdg": _sxdg,
    "p": _p,
    "u1": _p,
    "u2": _u2,
    "u3": _u,
    "u": _u,
    "r": _r,
    "rx": _rx,
    "ry": _ry,
    "rz": _rz,
    "swap": _swap,
    "rxx": _rxx,
    "ryy": _ryy,
    "rzz": _rzz,
    "rzx": _rzx,
}

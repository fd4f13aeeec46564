"""Angles of the gates of a circuit, found once per circuit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from qiskit.circuit import Parameter, ParameterExpression, QuantumCircuit

T = TypeVar("T")


class CircuitCache(Generic[T]):
    """Remembers what was built for the last few circuits.

    Circuits are mutable, and a pass manager returns new objects for the same circuit, so neither
    identity nor a hash of it will do: circuits are compared instruction by instruction, which takes
    microseconds.

    Args:
        size: Number of circuits that are kept; the least recently used goes first.
    """

    def __init__(self, size: int = 16) -> None:
        self.size = size
        self._entries: list[tuple[QuantumCircuit, Hashable, T]] = []

    def get(self, circuit: QuantumCircuit, build: Callable[[], T], variant: Hashable = None) -> T:
        """Return what was built for an equal circuit, or build it.

        Args:
            circuit: The circuit.
            build: Builds what is not there yet.
            variant: What else it depends on.
        """
        for position, (known, kind, built) in enumerate(self._entries):
            if kind == variant and _same(known, circuit):
                self._entries.insert(0, self._entries.pop(position))
                return built
        made = build()
        self._entries.insert(0, (circuit.copy(), variant, made))
        del self._entries[self.size :]
        return made

    def __len__(self) -> int:
        return len(self._entries)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_entries": []}  # quickly built anew where it is needed


def _same(one: QuantumCircuit, other: QuantumCircuit) -> bool:
    return bool(
        one.qubits == other.qubits
        and one.clbits == other.clbits
        and one.cregs == other.cregs
        and one.global_phase == other.global_phase
        and one.data == other.data
    )


class GateAngles:
    """Evaluates the angles and their derivatives by the circuit's parameters.

    Angles that are affine in the parameters, which is the rule, are one matrix product for the
    whole batch; other expressions are bound row by row.

    Args:
        parameters: The circuit's parameters, in the order of the columns of their values.
        angles: The expression of each gate angle.
    """

    def __init__(
        self, parameters: Sequence[Parameter], angles: Sequence[ParameterExpression]
    ) -> None:
        self._column = {parameter: column for column, parameter in enumerate(parameters)}
        self._angles = tuple(angles)
        self._slopes = [_slopes(angle) for angle in angles]
        self._matrix = np.zeros((len(self._angles), len(self._column)))
        self._offset = np.zeros(len(self._angles))
        self._bent: list[int] = []
        for index, slopes in enumerate(self._slopes):
            self._read(index, slopes)

    def _read(self, index: int, slopes: dict[Parameter, Any]) -> None:
        if any(_depends(slope) for slope in slopes.values()):
            self._bent.append(index)
            return
        for parameter, slope in slopes.items():
            self._matrix[index, self._column[parameter]] = _real(slope)
        angle = self._angles[index]
        self._offset[index] = _real(angle.bind(dict.fromkeys(angle.parameters, 0.0)))

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Return the angles in radians.

        Args:
            rows: Values of the parameters, shape (B, parameters).

        Returns:
            Shape (B, angles).
        """
        values = rows @ self._matrix.T + self._offset
        for index in self._bent:
            values[:, index] = [self._bound(self._angles[index], row) for row in rows]
        return np.asarray(values)

    def slopes(self, rows: np.ndarray) -> np.ndarray:
        """Return the derivatives of the angles by the parameters.

        Args:
            rows: Values of the parameters, shape (B, parameters).

        Returns:
            Shape (B, angles, parameters), or (1, angles, parameters) if they are the same for all.
        """
        slopes = np.repeat(self._matrix[None], len(rows) if self._bent else 1, axis=0)
        for index in self._bent:
            for parameter, slope in self._slopes[index].items():
                column = self._column[parameter]
                slopes[:, index, column] = [self._bound(slope, row) for row in rows]
        return slopes

    def _bound(self, expression: Any, row: np.ndarray) -> float:
        if not _depends(expression):
            return _real(expression)
        values = {p: float(row[self._column[p]]) for p in expression.parameters}
        return _real(expression.bind(values))


def _slopes(angle: ParameterExpression) -> dict[Parameter, Any]:
    return {parameter: angle.gradient(parameter) for parameter in angle.parameters}


def _depends(expression: Any) -> bool:
    return bool(getattr(expression, "parameters", None))


def _real(value: Any) -> float:
    return complex(value).real

"""The angles of a circuit's gates as functions of its parameters, for whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qiskit.circuit import Parameter, ParameterExpression


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

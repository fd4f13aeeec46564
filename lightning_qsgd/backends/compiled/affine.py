"""Angles that are affine in the parameters of a circuit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from qiskit.circuit import Parameter, ParameterExpression

from lightning_qsgd.backends.compiled.cannot_compile import CannotCompile


class Affine:
    """The angle ``coefficients . parameters + constant``, in radians.

    Args:
        coefficients: Factor of each parameter of the circuit, shape (num_parameters,).
        constant: Angle at parameters 0.
    """

    def __init__(self, coefficients: np.ndarray, constant: float) -> None:
        self.coefficients = coefficients
        self.constant = constant

    @property
    def is_constant(self) -> bool:
        """Whether no parameter enters."""
        return not self.coefficients.any()

    def __add__(self, other: Affine) -> Affine:
        return Affine(self.coefficients + other.coefficients, self.constant + other.constant)

    def __mul__(self, factor: float) -> Affine:
        return Affine(self.coefficients * factor, self.constant * factor)


class AngleReader:
    """Reads the angles of gates.

    Args:
        index: Position of each parameter.
    """

    def __init__(self, index: Mapping[Parameter, int]) -> None:
        self._index = index

    def constant(self, angle: float) -> Affine:
        """Return an angle without parameters, in radians."""
        return Affine(np.zeros(len(self._index)), angle)

    def read(self, value: Any, gate: str) -> Affine:
        """Read a gate's angle.

        Args:
            value: A number or a parameter expression.
            gate: Name of the gate, for the message.

        Raises:
            ValueError: If the expression is not affine in the parameters.
        """
        if not isinstance(value, ParameterExpression):
            return self.constant(_real(value))
        coefficients = np.zeros(len(self._index))
        for parameter in value.parameters:
            slope = _slope(value, parameter)
            if slope is None:
                raise CannotCompile(
                    f"Cannot compile gate `{gate}` with the angle {value}: it is not affine in "
                    f"{parameter.name}. Evaluate this circuit with SamplerBackend, or rescale "
                    "the data before it enters the circuit."
                )
            coefficients[self._index[parameter]] = slope
        at_zero = value.bind(dict.fromkeys(value.parameters, 0.0))
        return Affine(coefficients, _real(at_zero))


def _slope(value: ParameterExpression, parameter: Parameter) -> float | None:
    """Return the derivative by a parameter; None if it is no constant, or not known to be one."""
    try:
        slope = value.gradient(parameter)
    except RuntimeError:  # qiskit does not differentiate sign(a)
        return None
    return None if getattr(slope, "parameters", None) else _real(slope)


def _real(value: Any) -> float:
    number = complex(value)
    if number.imag:
        raise CannotCompile(
            f"Cannot compile an angle with the complex number {number}: angles of gates are real. "
            "Take its real part."
        )
    return number.real

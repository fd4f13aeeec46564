"""Angles that are no affine functions of the parameters, such as the products of feature maps.

Each of them becomes one more parameter of the compiled circuit: torch evaluates the expression for
the batch, with gradients of any order, and the circuit sees an angle that is affine again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import sympy
import torch
from qiskit.circuit import Parameter, ParameterExpression
from torch import Tensor

from lightning_qsgd.backends.compiled.angles import (
    Affine,
    CannotCompile,
    agrees_with,
    defined_point,
    points_of,
    real_value,
)
from lightning_qsgd.backends.compiled.derivatives import to_be_kept

_FUNCTIONS: dict[type, Callable[[Tensor], Tensor]] = {
    sympy.Abs: torch.abs,
    sympy.acos: torch.acos,
    sympy.asin: torch.asin,
    sympy.atan: torch.atan,
    sympy.conjugate: torch.Tensor.clone,  # parameters are real
    sympy.cos: torch.cos,
    sympy.exp: torch.exp,
    sympy.log: torch.log,
    sympy.sign: torch.sign,
    sympy.sin: torch.sin,
    sympy.tan: torch.tan,
}


class BentAngle:
    """One such angle.

    Args:
        expression: The angle in radians.
        places: Positions of its parameters, by their names.
    """

    def __init__(self, expression: sympy.Expr, places: Mapping[str, int]) -> None:
        self._expression = expression
        self._places = dict(places)

    @property
    def places(self) -> list[int]:
        """Positions of its parameters."""
        return list(self._places.values())

    def __call__(self, columns: Sequence[Tensor]) -> Tensor:
        """Evaluate for columns of all parameters, each of shape (B,) or ()."""
        found = self._evaluated(self._expression, columns)
        return found if isinstance(found, Tensor) else columns[0].new_tensor(found)

    def _evaluated(self, part: sympy.Expr, columns: Sequence[Tensor]) -> Any:
        if part.is_Symbol:
            return columns[self._places[part.name]]
        if part.is_Integer:
            return int(part)
        if not part.free_symbols:
            return float(part)
        values = [self._evaluated(each, columns) for each in part.args]
        if part.is_Add:
            return sum(values[1:], start=values[0])
        if part.is_Mul:
            return prod(values[1:], start=values[0])
        if part.is_Pow:
            return values[0] ** values[1]
        return _FUNCTIONS[type(part)](values[0])


class BentAngles:
    """Collects the bent angles of a circuit and evaluates them.

    Args:
        num_inputs: Number of inputs; the weights are the parameters after them.
        num_weights: Number of weights.

    Attributes:
        expressions: The angles as qiskit has them.
    """

    def __init__(self, num_inputs: int, num_weights: int) -> None:
        self._num_inputs = num_inputs
        self._num_weights = num_weights
        self._angles: dict[str, BentAngle] = {}
        self.expressions: list[ParameterExpression] = []

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of inputs and weights that the program sees."""
        varying = len(self._places(varies=True))
        fixed = len(self._angles) - varying
        return self._num_inputs + varying, self._num_weights + fixed

    def read(self, value: ParameterExpression, index: Mapping[Parameter, int], gate: str) -> Affine:
        """Take an angle in, once torch and qiskit agree on it at random points.

        Raises:
            ValueError: If they do not, or no point was found where the angle has a real value.
        """
        text = str(value)
        if text not in self._angles:
            places = {parameter.name: index[parameter] for parameter in value.parameters}
            angle = BentAngle(_symbolic(value, gate), places)
            _check(angle, value, index, gate)
            self._angles[text] = angle
            self.expressions.append(value)
        place = self._num_inputs + self._num_weights + list(self._angles).index(text)
        coefficients = np.zeros(place + 1)
        coefficients[place] = 1.0
        return Affine(coefficients, 0.0)

    def arranged(self, angle: Affine) -> Affine:
        """Sort the coefficients of an angle: inputs, what varies with them, weights, the rest."""
        first, second = self._num_inputs, self._num_inputs + self._num_weights
        whole = np.zeros(second + len(self._angles))
        whole[: len(angle.coefficients)] = angle.coefficients
        bent = whole[second:]
        return Affine(
            np.concatenate(
                [
                    *(whole[:first], bent[self._places(varies=True)]),
                    *(whole[first:second], bent[self._places(varies=False)]),
                ]
            ),
            angle.constant,
        )

    def extend_weights(self, weights: Tensor) -> Tensor:
        """Append the angles that depend on weights alone, shape (num_weights + fixed,)."""
        angles = self._of(varies=False)
        if not angles:
            return weights
        columns = [*[weights] * self._num_inputs, *weights.unbind()]
        return torch.cat((weights, torch.stack([angle(columns).to(weights) for angle in angles])))

    def extend_inputs(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Append the angles that vary within the batch, shape (B, num_inputs + varying).

        Args:
            inputs: Shape (B, num_inputs).
            weights: Shape (num_weights,), or longer.
        """
        angles = self._of(varies=True)
        if not angles:
            return inputs
        columns = [*inputs.unbind(1), *weights[: self._num_weights].unbind()]
        # A number of rows would become a constant of a trace.
        found = [angle(columns).to(inputs).expand_as(columns[0]) for angle in angles]
        return torch.cat((inputs, torch.stack(found, dim=1)), dim=1)

    def __len__(self) -> int:
        return len(self._angles)

    def _of(self, varies: bool) -> list[BentAngle]:
        angles = list(self._angles.values())
        return [angles[place] for place in self._places(varies)]

    def _places(self, varies: bool) -> list[int]:
        return [
            place
            for place, angle in enumerate(self._angles.values())
            if any(own < self._num_inputs for own in angle.places) == varies
        ]


def _symbolic(value: ParameterExpression, gate: str) -> sympy.Expr:
    try:
        expression = value.sympify()
    except (RuntimeError, TypeError, ValueError):
        expression = None
    if not isinstance(expression, sympy.Expr) or not _is_known(expression):
        raise CannotCompile(
            f"Cannot compile gate `{gate}` with the angle {value}: it is not a formula that torch "
            "could evaluate. Evaluate this circuit with SamplerBackend, or rewrite the angle."
        )
    return expression


def _is_known(part: sympy.Expr) -> bool:
    known = part.is_Symbol or part.is_Add or part.is_Mul or part.is_Pow or type(part) in _FUNCTIONS
    if not part.free_symbols:
        return bool(part.is_real)
    return known and all(_is_known(each) for each in part.args)


def _check(
    angle: BentAngle, value: ParameterExpression, index: Mapping[Parameter, int], gate: str
) -> None:
    points = [point for point in points_of(value) if real_value(value, point) is not None]
    if not points:  # a logarithm of negative numbers, say
        parameters = sorted(value.parameters, key=lambda parameter: parameter.name)
        found = [defined_point([value], parameters, seed) for seed in range(3)]
        points = [point for point in found if point is not None]
    if not points:
        raise CannotCompile(
            f"Cannot compile gate `{gate}` with the angle {value}: it has no finite real value at "
            "any point that was tried, of all sizes up to 100, and angles of gates are real. "
            "Rewrite it so that it is real for numbers of such sizes."
        )
    for point in points:
        expected = real_value(value, point)
        if expected is None or not agrees_with(_number(angle, point, index), expected):
            raise CannotCompile(
                f"Cannot compile gate `{gate}` with the angle {value}: torch and qiskit evaluate "
                "it differently. Evaluate this circuit with SamplerBackend, or rewrite the angle."
            )


def _number(
    angle: BentAngle, point: Mapping[Parameter, float], index: Mapping[Parameter, int]
) -> float:
    with to_be_kept():
        columns = [torch.zeros((), dtype=torch.float64)] * (max(index.values()) + 1)
        for parameter, number in point.items():
            columns[index[parameter]] = torch.tensor(number, dtype=torch.float64)
        return float(angle(columns))

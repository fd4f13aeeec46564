"""Gate angles as affine functions of inputs and weights: one matrix product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import pi
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from qiskit.circuit import Parameter, ParameterExpression
from qiskit.circuit.exceptions import CircuitError
from torch import Tensor


class CannotCompile(ValueError):  # noqa: N818 - reads as what it says
    """Raised for a gate, an angle or a measurement that the compiled circuit does not know."""


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
        longer, shorter = self.coefficients, other.coefficients
        if len(longer) != len(shorter):  # a bent angle was found in between
            longer, shorter = sorted((longer, shorter), key=len, reverse=True)
            shorter = np.pad(shorter, (0, len(longer) - len(shorter)))
        return Affine(longer + shorter, self.constant + other.constant)

    def __mul__(self, factor: float) -> Affine:
        return Affine(self.coefficients * factor, self.constant * factor)


class AngleReader:
    """Reads the angles of gates.

    Args:
        index: Position of each parameter.
        bent: Takes in what is not affine; None refuses it.
    """

    def __init__(self, index: Mapping[Parameter, int], bent: Bent | None = None) -> None:
        self._index = index
        self._bent = bent

    def constant(self, angle: float) -> Affine:
        """Return an angle without parameters, in radians."""
        return Affine(np.zeros(len(self._index)), angle)

    def read(self, value: Any, gate: str) -> Affine:
        """Read a gate's angle.

        Args:
            value: A number or a parameter expression.
            gate: Name of the gate, for the message.

        Raises:
            ValueError: If the expression is not affine in the parameters and must be, or it is no
                finite real number.
        """
        if not isinstance(value, ParameterExpression):
            return self.constant(_real(value, gate))
        if not value.parameters:
            return self.constant(_real(value.numeric(), gate))
        angle = self._affine(value, gate)
        if angle is not None:
            return angle
        if self._bent is not None:
            return self._bent.read(value, self._index, gate)
        names = ", ".join(sorted(parameter.name for parameter in value.parameters))
        raise CannotCompile(
            f"Cannot compile gate `{gate}` with the angle {value}: it is not affine in {names}. "
            "Evaluate this circuit with SamplerBackend, or rescale the data before it enters the "
            "circuit."
        )

    def _affine(self, value: ParameterExpression, gate: str) -> Affine | None:
        """Return the affine form, once it agrees with the expression at random points."""
        coefficients = np.zeros(len(self._index))
        if isinstance(value, Parameter):
            coefficients[self._index[value]] = 1.0
            return Affine(coefficients, 0.0)
        for parameter in value.parameters:
            slope = _slope(value, parameter, gate)
            if slope is None:
                return None
            coefficients[self._index[parameter]] = slope
        constant = real_value(value, dict.fromkeys(value.parameters, 0.0))
        if constant is None:
            return None
        # Derivatives are qiskit's: some releases have wrong ones, as of `conjugate()`.
        for point in points_of(value):
            expected = real_value(value, point)
            own = sum(coefficients[self._index[p]] * number for p, number in point.items())
            if expected is not None and not agrees_with(own + constant, expected):
                return None
        return Affine(coefficients, constant)


class Bent(Protocol):
    """What takes in angles that are not affine."""

    def read(self, value: ParameterExpression, index: Mapping[Parameter, int], gate: str) -> Affine:
        """Return the angle as a parameter of its own."""


def points_of(value: ParameterExpression) -> list[dict[Parameter, float]]:
    """Return random points, of either sign and of positive sign only, always the same."""
    generator = np.random.default_rng(len(value.parameters))
    ranges = ((-2.0, 2.0), (-2.0, 2.0), (0.1, 0.9))
    return [
        {parameter: float(generator.uniform(low, high)) for parameter in value.parameters}
        for low, high in ranges
    ]


def defined_point(
    values: Sequence[ParameterExpression], parameters: Sequence[Parameter], seed: int
) -> dict[Parameter, float] | None:
    """Return a random point at which all expressions are real and finite, always the same.

    It starts in [0.1, 0.9). While one expression has no value, its parameters are drawn again, of
    either sign and ever larger. Small points come first: rounding grows with what is computed.

    Args:
        values: The expressions.
        parameters: All parameters that want a number.
        seed: Names the point.

    Returns:
        A number for each parameter; None if no such point was found.
    """
    generator = np.random.default_rng(seed)
    point = dict(
        zip(parameters, generator.uniform(0.1, 0.9, len(parameters)).tolist(), strict=True)
    )
    missing = [value for value in values if _at(value, point) is None]
    for largest in SCALES:
        for _ in range(TRIES):
            if not missing:
                return point
            moved = missing[generator.integers(len(missing))]
            for parameter in sorted(moved.parameters, key=lambda each: each.name):
                size = np.exp(generator.uniform(np.log(0.1), np.log(largest)))
                point[parameter] = float(size * generator.choice((-1.0, 1.0)))
            missing = [each for each in values if not _is_moderate(_at(each, point))]
    return None if missing else point


SCALES, TRIES = (2.0, 10.0, 100.0), 500


def _at(value: ParameterExpression, point: Mapping[Parameter, float]) -> float | None:
    return real_value(value, {parameter: point[parameter] for parameter in value.parameters})


def _is_moderate(angle: float | None) -> bool:
    """Whether there is an angle, and one that rounding in double precision leaves as it is."""
    return angle is not None and abs(angle) < 1e6


def real_value(value: ParameterExpression, point: Mapping[Parameter, float]) -> float | None:
    """Return the number at a point; None where it is not real and finite, or not defined."""
    try:
        number = complex(value.bind(dict(point)))
    except (RuntimeError, TypeError, ValueError, ZeroDivisionError, CircuitError):
        return None
    return number.real if abs(number.imag) < ROUNDING and np.isfinite(number.real) else None


def agrees_with(own: float, expected: float) -> bool:
    """Whether two numbers differ by rounding alone."""
    return abs(own - expected) <= ROUNDING * (1 + abs(expected))


ROUNDING = 1e-9


def _slope(value: ParameterExpression, parameter: Parameter, gate: str) -> float | None:
    """Return the derivative by a parameter; None if it is no constant, or not known to be one."""
    try:
        slope = value.gradient(parameter)
    except (RuntimeError, TypeError, ValueError):  # qiskit does not differentiate sign(a)
        return None
    return None if getattr(slope, "parameters", None) else _real(slope, gate)


def _real(value: Any, gate: str) -> float:
    number = complex(value)
    if number.imag:
        raise CannotCompile(
            f"Cannot compile gate `{gate}` with an angle of the complex number {number}: angles of "
            "gates are real. Take its real part."
        )
    if not np.isfinite(number.real):
        raise CannotCompile(
            f"Cannot compile gate `{gate}` with an angle of {number.real}: angles of gates are "
            "finite. Check what it was computed from."
        )
    return number.real


class Row(NamedTuple):
    """Place of an angle in its table.

    Attributes:
        varies: Whether the angle depends on the inputs and so differs within a batch.
        place: Row among the angles of that kind.
    """

    varies: bool
    place: int


class AngleTable:
    """Collects affine angles, to evaluate all of them by two matrix products.

    Args:
        num_inputs: Number of inputs; the circuit's weights are the parameters after them.
        num_weights: Number of weights.
    """

    def __init__(self, num_inputs: int, num_weights: int) -> None:
        self._num_inputs = num_inputs
        self._num_weights = num_weights
        self._angles: dict[bool, list[Affine]] = {True: [], False: []}

    def add(self, angle: Affine) -> Row:
        """Add an angle and return its place."""
        varies = bool(angle.coefficients[: self._num_inputs].any())
        self._angles[varies].append(angle)
        return Row(varies, len(self._angles[varies]) - 1)

    def map(self, dtype: torch.dtype, device: torch.device) -> AngleMap:
        """Return the table as tensors."""
        return AngleMap(*(self._matrices(varies, dtype, device) for varies in (True, False)))

    def _matrices(self, varies: bool, dtype: torch.dtype, device: torch.device) -> _Matrices:
        angles = self._angles[varies]
        width = self._num_inputs + self._num_weights
        factors = np.array([angle.coefficients for angle in angles]).reshape(len(angles), width)
        constants = np.array([[angle.constant] for angle in angles]).reshape(len(angles), 1)
        split = factors[:, : self._num_inputs], factors[:, self._num_inputs :], constants
        return _Matrices(*(torch.tensor(part).to(device, dtype) for part in split))


class _Matrices(NamedTuple):
    of_inputs: Tensor
    of_weights: Tensor
    constants: Tensor


class Angles(NamedTuple):
    """Angles of a batch in radians.

    Attributes:
        varying: Those that depend on the inputs, shape (rows, B).
        fixed: Those that do not, shape (rows, 1).
    """

    varying: Tensor
    fixed: Tensor

    def of(self, varies: bool) -> Tensor:
        """Return the angles of one kind."""
        return self.varying if varies else self.fixed

    def zeros(self) -> Angles:
        """Return zeros of the same shapes."""
        return Angles(torch.zeros_like(self.varying), torch.zeros_like(self.fixed))


class AngleMap:
    """Evaluates a table of angles.

    Args:
        varying: Matrices of the angles that depend on the inputs.
        fixed: Matrices of those that do not.
    """

    def __init__(self, varying: _Matrices, fixed: _Matrices) -> None:
        self._varying = varying
        self._fixed = fixed

    def quarters(self) -> AngleMap:
        """Return a map of three rows per angle: as it is, a quarter turn less, a quarter more.

        Their cosines are cosine, sine and negative sine of the angle.
        """
        return AngleMap(_in_quarters(self._varying), _in_quarters(self._fixed))

    def without_inputs(self, weights: Tensor) -> Angles:
        """Evaluate what depends on the weights alone.

        Args:
            weights: Shape (num_weights,).

        Returns:
            The angles at inputs 0; those that vary are still to be moved by `with_inputs`.
        """
        column = weights.unsqueeze(1)
        varying, fixed = self._varying, self._fixed
        return Angles(
            varying=torch.addmm(varying.constants, varying.of_weights, column),
            fixed=torch.addmm(fixed.constants, fixed.of_weights, column),
        )

    def with_inputs(self, at_zero: Angles, inputs: Tensor) -> Tensor:
        """Return the angles that vary, shape (rows, B).

        Args:
            at_zero: The angles at inputs 0.
            inputs: Shape (B, num_inputs).
        """
        if not len(at_zero.varying):
            return at_zero.varying
        return torch.addmm(at_zero.varying, self._varying.of_inputs, inputs.t())

    def pull(self, cotangent: Angles) -> tuple[Tensor, Tensor]:
        """Turn gradients of the angles into those of inputs (num_inputs, B) and weights.

        Args:
            cotangent: Gradients of the angles, of their shapes.
        """
        of_inputs = self._varying.of_inputs.t() @ cotangent.varying
        summed = cotangent.varying.sum(1, keepdim=True)
        of_weights = self._varying.of_weights.t() @ summed
        return of_inputs, of_weights.addmm_(self._fixed.of_weights.t(), cotangent.fixed).squeeze(1)


def _in_quarters(matrices: _Matrices) -> _Matrices:
    inputs, weights, constants = (part.repeat_interleave(3, dim=0) for part in matrices)
    turns = constants.new_tensor([[0.0], [-pi / 2], [pi / 2]]).repeat(len(matrices.constants), 1)
    return _Matrices(inputs, weights, constants + turns)

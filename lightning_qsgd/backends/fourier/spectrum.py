"""Which frequencies a circuit's outputs can have in one number that enters all its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, inf, lcm
from typing import NamedTuple

import numpy as np
from qiskit.circuit import Barrier, QuantumCircuit

from lightning_qsgd.backends.compiled.angles import CannotCompile
from lightning_qsgd.backends.compiled.lowering import lower
from lightning_qsgd.backends.compiled.program import (
    ControlledRotation,
    Operation,
    Phases,
    Rotations,
)
from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.circuits.measurements import unitary_part

LARGEST_DEGREE = 256
"""Above, 2 * degree + 1 circuits and as many features of each score are no saving."""

LARGEST_DENOMINATOR = 1000
TOLERANCE = 1e-9
"""Ratios of angles that are closer to a fraction than this are that fraction."""


@dataclass(frozen=True)
class Spectrum:
    r"""The outputs are trigonometric polynomials :math:`\sum_{k=-d}^{d} \gamma_k e^{i k f s}`.

    Attributes:
        frequency: Lowest frequency f, in radians per unit of s.
        degree: The highest multiple d of it; 0 for outputs that do not depend on s.
    """

    frequency: float
    degree: int


def spectra_of(
    built: ParametrizedCircuit, entering: Sequence[int] | None = None
) -> tuple[Spectrum, Spectrum]:
    r"""Find the frequencies of probabilities and of amplitudes.

    A rotation by an angle :math:`a s + b` multiplies amplitudes by :math:`e^{\pm i (a s + b) / 2}`,
    and a product of gates adds up one frequency from each. The sums are the frequencies of the
    amplitudes; their differences are those of probabilities, where the halves are gone.

    Args:
        built: A circuit; the number s enters each of its inputs.
        entering: Which inputs it enters instead, while the others stay as they are.

    Returns:
        Spectra of the probabilities and of the amplitudes.

    Raises:
        ValueError: If a gate's angle is not affine in s, a gate is unknown, or the frequencies
            have no common divisor or too many multiples of it.

    Example:
        >>> from lightning_qsgd.circuits import ScoreCircuit
        >>> spectra_of(ScoreCircuit(num_qubits=4, reps=2).build())[0]
        Spectrum(frequency=1.0, degree=8)

    References:
        Schuld, Sweke and Meyer, Effect of data encoding on the expressive power of variational
        quantum-machine-learning models, arXiv:2008.08605.
    """
    caller = _SCORE if entering is None else _FEATURE
    factors = [_merged(values) for values in _frequencies(built, entering, caller)]
    nonzero = [abs(value) for values in factors for value in values if value]
    unit = min(nonzero, default=1.0)
    ratios = [[_ratio(value, unit, caller) for value in values] for values in factors]
    sums, scale = _sums(ratios, caller)
    differences = {high - low for high in sums for low in sums}
    return _spectrum(differences, unit / scale, caller), _spectrum(sums, unit / scale, caller)


class _Caller(NamedTuple):
    """What enters the circuit, and what to do where the circuit has no Fourier form."""

    number: str
    otherwise: str


_SCORE = _Caller("the score", "evaluation='literal', which evaluates it once per score")
_FEATURE = _Caller(
    "a feature",
    "a Backend of your own that describes no circuit, which is asked for every entry",
)


def _frequencies(
    built: ParametrizedCircuit, entering: Sequence[int] | None, caller: _Caller
) -> Iterable[set[float]]:
    """Yield, for each independent factor of the circuit, the frequencies of its amplitudes."""
    parameters = [*built.inputs, *built.weights]
    index = {parameter: place for place, parameter in enumerate(parameters)}
    try:
        bare, _ = unitary_part(built.circuit)
        operations = lower(_of_used_qubits(bare), index, lambda vectors: None).operations
    except CannotCompile as reason:
        found = str(reason).split(". ")[0].rstrip(".")  # its remedy is for other callers
        raise ValueError(
            f"Cannot find the frequencies of the circuit. {found}. Make its angles sums of inputs "
            f"and weights, or use {caller.otherwise}."
        ) from reason
    inputs = list(range(len(built.inputs)) if entering is None else entering)
    for operation in operations:
        yield from _of_operation(operation, inputs)


def _of_used_qubits(circuit: QuantumCircuit) -> QuantumCircuit:
    """Leave out qubits that no gate acts on: a device has many, and a program 2^n entries."""
    gates = [step for step in circuit.data if not isinstance(step.operation, Barrier)]
    acted = {qubit for step in gates for qubit in step.qubits}
    if circuit.num_identifiers or len(acted) == circuit.num_qubits:
        return circuit
    used = [qubit for qubit in circuit.qubits if qubit in acted]
    smaller = QuantumCircuit(used, circuit.clbits, global_phase=circuit.global_phase)
    for step in gates:
        smaller.append(step)
    return smaller


def _of_operation(operation: Operation, entering: list[int]) -> list[set[float]]:
    match operation:
        case Rotations(angles):
            halves = [float(a.coefficients[entering].sum()) / 2 for a in angles.values()]
            return [{-half, half} for half in halves]
        case ControlledRotation(_, _, angle):
            half = float(angle.coefficients[entering].sum()) / 2
            return [{-half, 0.0, half}]
        case Phases(columns, constant):
            total = np.zeros(len(constant))
            for angle, vector in columns:
                total = total + angle.coefficients[entering].sum() * vector
            return [set(total.tolist())]
    return []


def _merged(values: set[float]) -> list[float]:
    """Drop values that differ by rounding alone."""
    kept: list[float] = []
    last = -inf
    for value in sorted(0.0 if abs(value) < TOLERANCE else value for value in values):
        if value - last > TOLERANCE:
            kept.append(value)
            last = value
    return kept


def _ratio(value: float, unit: float, caller: _Caller) -> Fraction:
    ratio = Fraction(value / unit).limit_denominator(LARGEST_DENOMINATOR)
    if abs(float(ratio) - value / unit) > TOLERANCE * max(1.0, abs(value / unit)):
        raise ValueError(
            f"Cannot find a common frequency of the circuit's angles: {value:g} is no multiple of "
            f"a fraction of {unit:g}. Use factors of {caller.number} whose ratios are simple "
            f"fractions, or {caller.otherwise}."
        )
    return ratio


def _sums(factors: list[list[Fraction]], caller: _Caller) -> tuple[set[int], int]:
    """Add up one value of each factor in all ways, as integers over a common denominator."""
    scale = lcm(*(value.denominator for values in factors for value in values))
    sums = {0}
    for values in factors:
        sums = {total + int(value * scale) for total in sums for value in values}
        if len(sums) > 4 * LARGEST_DEGREE:
            raise _too_many(len(sums), caller)
    return sums, scale


def _spectrum(multiples: set[int], unit: float, caller: _Caller) -> Spectrum:
    divisor = gcd(*multiples)
    if not divisor:
        return Spectrum(unit, 0)
    degree = max(abs(multiple) for multiple in multiples) // divisor
    if degree > LARGEST_DEGREE:
        raise _too_many(degree, caller)
    return Spectrum(divisor * unit, degree)


def _too_many(count: int, caller: _Caller) -> ValueError:
    number = caller.number
    return ValueError(
        f"The circuit's outputs have {count} or more frequencies in {number}, over the limit of "
        f"{LARGEST_DEGREE}: a Fourier form saves nothing. Use factors of {number} with a larger "
        f"common divisor, fewer gates that it enters, or {caller.otherwise}."
    )

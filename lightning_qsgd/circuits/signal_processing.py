r"""Quantum signal processing: one qubit, rotations by a signal between fixed phases.

    H |0>,  then  Ry(f s), Rz(phi_1), Ry(f s), Rz(phi_2), ..., Ry(f s);  read P(1) - P(0)

On the Bloch sphere, Ry(a) turns x and z, Rz(a) turns x and y, and the Hadamard gate starts at
x = 1. So the readout, which is -z, is a sum of sines of multiples of f s, and which sum is decided
by the phases. It is odd in s and 0 at s = 0 whatever the phases are.

References:
    Low and Chuang 2017, Optimal Hamiltonian simulation by quantum signal processing,
    arXiv:1606.02685.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, pi

import numpy as np
from qiskit.circuit import Parameter, ParameterVector, QuantumCircuit
from typing_extensions import override

from lightning_qsgd.argument_checks import in_order
from lightning_qsgd.circuits.parametrized import CircuitSource, ParametrizedCircuit


@dataclass(frozen=True)
class SignalProcessingCircuit(CircuitSource):
    r"""Reads :math:`u(s) = \sum_{k=1}^{d} b_k \sin(k f s)`, with b decided by the phases.

    One rotation by the signal, d = 1, gives :math:`u = \sin(f s)`; with the default factor that is
    :math:`-\sin(\pi s / 2)`, which falls from 0 to -1 over [0, 1].

    Args:
        degree: Rotations by the signal d, at least 1; between them are d - 1 phases.
        phases: The phases in radians, d - 1 of them, which are then fixed; None makes them the
            circuit's weights, which are zero, drawn or learned. Zero phases give sin(d f s).
        factor: Radians per unit of the signal, f in the formula; finite and not 0.

    Raises:
        ValueError: If `degree` is below 1, the number of phases is another one, or a number is
            not finite.

    Example:
        >>> len(SignalProcessingCircuit(degree=3).build().weights)
        2
        >>> len(SignalProcessingCircuit(degree=3, phases=(0.5, 0.1)).build().weights)
        0
    """

    degree: int = 1
    phases: tuple[float, ...] | None = None
    factor: float = -pi / 2

    def __post_init__(self) -> None:
        if self.degree < 1:
            raise ValueError(
                f"Expected `degree` to be at least 1, got {self.degree}: the circuit would not see "
                "the signal. Use 1 for a single rotation."
            )
        if not isfinite(self.factor) or self.factor == 0:
            raise ValueError(
                f"Expected `factor` to be finite and not 0, got {self.factor}: the circuit would "
                "not see the signal. Use -pi / 2 for a quarter of a turn at signal 1."
            )
        if self.phases is None:
            return
        object.__setattr__(self, "phases", tuple(map(float, in_order("phases", self.phases))))
        if len(self.phases) != self.degree - 1 or not all(map(isfinite, self.phases)):
            raise ValueError(
                f"Expected {self.degree - 1} finite `phases` for degree {self.degree}, got "
                f"{list(self.phases)}: one lies between two rotations. Give so many, or None."
            )

    @override
    def build(self) -> ParametrizedCircuit:
        signal = Parameter("s")
        weights = tuple(ParameterVector("w", self.degree - 1)) if self.phases is None else ()
        circuit = QuantumCircuit(1, name="signal processing")
        circuit.h(0)
        circuit.ry(self.factor * signal, 0)
        for phase in weights if self.phases is None else self.phases:
            circuit.rz(phase, 0)
            circuit.ry(self.factor * signal, 0)
        return ParametrizedCircuit(circuit, (signal,), weights)


def signal_polynomial(phases: Sequence[float]) -> list[float]:
    r"""Return the coefficients of the sines that the phases decide.

    The Bloch vector is carried along as three Fourier series in a = f s.

    Args:
        phases: In radians, d - 1 of them.

    Returns:
        :math:`b_1` to :math:`b_d` of :math:`u = \sum_k b_k \sin(k a)`.

    Example:
        >>> signal_polynomial([])  # sin(a)
        [1.0]
        >>> [round(b, 6) for b in signal_polynomial([np.pi])]  # undone
        [0.0, 0.0]
    """
    degree = len(phases) + 1
    x, y, z = np.zeros((3, 2 * degree + 1), dtype=complex)  # entry degree + k belongs to exp(i k a)
    x[degree] = 1.0
    for phase in (*phases, 0.0):
        x, z = _times_cosine(x) + _times_sine(z), _times_cosine(z) - _times_sine(x)
        x, y = x * np.cos(phase) - y * np.sin(phase), x * np.sin(phase) + y * np.cos(phase)
    return [float(value) for value in 2.0 * z[degree + 1 :].imag]


def _times_cosine(series: np.ndarray) -> np.ndarray:
    product: np.ndarray = (np.roll(series, 1) + np.roll(series, -1)) / 2
    return product


def _times_sine(series: np.ndarray) -> np.ndarray:
    product: np.ndarray = (np.roll(series, 1) - np.roll(series, -1)) / 2j
    return product

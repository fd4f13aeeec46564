"""Qubits that relax while gates take their time."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from lightning_qsgd.backends.samplers.noise import Noise, gates_of

if TYPE_CHECKING:
    from qiskit_aer.noise import NoiseModel


@dataclass(frozen=True)
class ThermalNoise(Noise):
    """Lets the qubits of a gate relax towards 0 and lose their phase while it lasts.

    The gates are those of the circuit as it is written; qubits that wait do not relax.

    Args:
        t1: Relaxation time in microseconds, above 0.
        t2: Dephasing time in microseconds, above 0 and at most 2 * t1.
        one_qubit_nanoseconds: Duration of a one-qubit gate in nanoseconds, at least 0.
        two_qubit_nanoseconds: Duration of a two-qubit gate in nanoseconds, at least 0.

    Raises:
        ValueError: If a time is out of range.

    Example:
        >>> "cx" in ThermalNoise(t1=100.0, t2=80.0).build().noise_instructions
        True
    """

    t1: float = 100.0
    t2: float = 100.0
    one_qubit_nanoseconds: float = 50.0
    two_qubit_nanoseconds: float = 300.0

    def __post_init__(self) -> None:
        if not 0 < self.t2 <= 2 * self.t1 or not isfinite(self.t1):
            raise ValueError(
                f"Expected `t1` and `t2` with 0 < t2 <= 2 * t1, got {self.t1} and {self.t2}: no "
                "qubit loses its phase more slowly than that. Give times in microseconds, e.g. "
                "100 and 80."
            )
        for name in ("one_qubit_nanoseconds", "two_qubit_nanoseconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(
                    f"Expected `{name}` to be non-negative and finite, got {getattr(self, name)}: "
                    "it is how long a gate takes. Give nanoseconds, e.g. 50 or 300."
                )

    def build(self) -> NoiseModel:
        """Build Aer's noise model; see `Noise.build`."""
        from qiskit_aer.noise import NoiseModel, thermal_relaxation_error

        t1, t2 = 1000 * self.t1, 1000 * self.t2
        short = thermal_relaxation_error(t1, t2, self.one_qubit_nanoseconds)
        long = thermal_relaxation_error(t1, t2, self.two_qubit_nanoseconds)
        one, two = gates_of(1), gates_of(2)
        model = NoiseModel(basis_gates=[*one, *two])
        model.add_all_qubit_quantum_error(short, one)
        model.add_all_qubit_quantum_error(long.tensor(long), two)
        return model

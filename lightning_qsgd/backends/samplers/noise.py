"""What goes wrong in a simulated device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qiskit_aer.noise import NoiseModel


class Noise(ABC):
    """Describes a noise model for Aer; immutable, and what a config names."""

    @abstractmethod
    def build(self) -> NoiseModel:
        """Build Aer's noise model."""

    def device(self) -> Any | None:
        """Return the device whose gates and couplings circuits are transpiled to.

        None keeps the gates of the circuit as they are written.
        """
        return None


def gates_of(num_qubits: int) -> list[str]:
    """List the gates on this many qubits that Aer simulates as they are, by name."""
    from qiskit.circuit import Gate
    from qiskit_aer import AerSimulator

    target = AerSimulator().target
    operations = {name: target.operation_from_name(name) for name in target.operation_names}
    return sorted(
        name
        for name, operation in operations.items()
        if isinstance(operation, Gate) and operation.num_qubits == num_qubits and name != "delay"
    )


def noise_on(qubits: frozenset[int], model: Any) -> NoiseModel:
    """Return the part of a noise model that circuits on these qubits can meet.

    Args:
        qubits: The qubits that a circuit acts on.
        model: Aer's noise model of a whole device; it is left as it is.
    """
    part = copy(model)
    part._local_quantum_errors = {
        gate: {on: error for on, error in errors.items() if qubits.issuperset(on)}
        for gate, errors in model._local_quantum_errors.items()
    }
    part._local_readout_errors = {
        on: error for on, error in model._local_readout_errors.items() if qubits.issuperset(on)
    }
    return part


def check_probability(name: str, value: float) -> None:
    """Refuse what is no probability.

    Raises:
        ValueError: If `value` is not in [0, 1].
    """
    if not 0 <= value <= 1:
        raise ValueError(
            f"Expected `{name}` to be a probability in [0, 1], got {value}: nothing can go wrong "
            "less than never or more than always. Good devices have 0.0001 to 0.01."
        )

"""Refuses circuits that cannot be sampled from one state vector."""

from typing import Any

from qiskit.circuit import Barrier, ControlFlowOp, Delay, Gate, QuantumCircuit, Reset


def check_one_state(circuit: QuantumCircuit) -> None:
    """Refuse circuits whose final state differs from shot to shot.

    Qiskit's `Statevector` draws the outcome of a reset once, from a global generator, and goes on
    with it: probabilities would be wrong, and other ones in each call. Resets of qubits that
    nothing has acted on, such as those of an initialisation, change nothing.

    Args:
        circuit: A circuit without measurements.

    Raises:
        ValueError: If a reset follows a gate on the same qubit, or gates depend on conditions.
    """
    touched: set[Any] = set()
    for instruction in circuit.data:
        operation, qubits = instruction.operation, set(instruction.qubits)
        if isinstance(operation, ControlFlowOp) or (_resets(operation) and qubits & touched):
            raise ValueError(
                f"Cannot sample a circuit with `{operation.name}` from one state vector: each shot "
                "may end in another state. Use AerSampling, or remove it."
            )
        if not isinstance(operation, Barrier | Delay):
            touched |= qubits


def _resets(operation: Any) -> bool:
    """Whether an operation is a reset, or is made of some; gates are unitary."""
    if isinstance(operation, Reset):
        return True
    definition = None if isinstance(operation, Gate) else getattr(operation, "definition", None)
    return definition is not None and any(_resets(step.operation) for step in definition.data)

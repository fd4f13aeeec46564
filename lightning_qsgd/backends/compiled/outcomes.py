"""What a sampler would measure for each basis state of a circuit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np
from qiskit.circuit import Barrier, Measure, QuantumCircuit

from lightning_qsgd.backends.compiled.cannot_compile import CannotCompile

Interpret = Callable[[int], int | Sequence[int]]


def unitary_part(circuit: QuantumCircuit) -> tuple[QuantumCircuit, list[int]]:
    """Split off the final measurements.

    Args:
        circuit: A circuit; without measurements all qubits count as measured.

    Returns:
        The circuit without measurements, and the measured qubits, least significant first. Of a
        transpiled circuit those are the places of the original qubits.

    Raises:
        ValueError: If something follows a measurement, or several registers are measured.
    """
    measured = _measured_qubits(circuit)
    bare = circuit.copy_empty_like()
    for instruction in circuit.data:
        if not isinstance(instruction.operation, Measure):
            bare.append(instruction)
    if measured:
        return bare, [measured[clbit] for clbit in sorted(measured)]
    return bare, places_of(circuit)


def places_of(circuit: QuantumCircuit) -> list[int]:
    """Return where the qubits of a circuit are at its end: a transpiler moves them."""
    if circuit.layout is None:
        return list(range(circuit.num_qubits))
    return list(circuit.layout.final_index_layout(filter_ancillas=True))


def _measured_qubits(circuit: QuantumCircuit) -> dict[int, int]:
    measured: dict[int, int] = {}
    for instruction in circuit.data:
        operation = instruction.operation
        qubits = [circuit.find_bit(qubit).index for qubit in instruction.qubits]
        if isinstance(operation, Measure):
            measured[circuit.find_bit(instruction.clbits[0]).index] = qubits[0]
        elif not isinstance(operation, Barrier) and set(qubits) & set(measured.values()):
            raise CannotCompile(
                f"Cannot compile a circuit with `{operation.name}` after a measurement of the same "
                "qubit. Move measurements to the end, or give a CircuitLayer the SamplerQNN of a "
                "sampler that can measure on the way, such as Aer's."
            )
    if measured and (len(circuit.cregs) != 1 or sorted(measured) != list(range(len(measured)))):
        raise CannotCompile(
            "Cannot compile a circuit that does not measure into all bits of one register: the "
            "order of its outcomes is not defined. Measure into one register."
        )
    return measured


def outcomes_of(num_qubits: int, measured: Sequence[int]) -> np.ndarray:
    """Return the integer that is measured in each basis state, shape (2^n,)."""
    basis = np.arange(2**num_qubits)
    bits = [((basis >> qubit) & 1) << place for place, qubit in enumerate(measured)]
    return np.sum(bits, axis=0) if bits else basis * 0


def cells_of(
    outcomes: np.ndarray, interpret: Interpret | None, output_shape: tuple[int, ...]
) -> np.ndarray:
    """Return the flat index of the output to which each basis state contributes, shape (2^n,).

    Args:
        outcomes: Measured integer of each basis state.
        interpret: Maps a measured integer to an index, or a tuple of indices, of the output; None
            keeps the integer.
        output_shape: Shape of the output.

    Raises:
        ValueError: If an index lies outside the output.
    """
    if interpret is None:
        return outcomes
    known = {int(outcome): interpret(int(outcome)) for outcome in np.unique(outcomes)}
    flat = {outcome: _flat(outcome, index, output_shape) for outcome, index in known.items()}
    return np.array([flat[int(outcome)] for outcome in outcomes])


def _flat(outcome: int, index: int | Sequence[int], shape: tuple[int, ...]) -> int:
    place = (int(index),) if isinstance(index, Integral) else tuple(int(i) for i in index)  # type: ignore[union-attr]
    if len(place) != len(shape) or any(not 0 <= i < n for i, n in zip(place, shape, strict=True)):
        raise ValueError(
            f"`interpret` maps outcome {outcome} to {index}, outside the output of shape {shape}. "
            "Give an `output_shape` that holds every interpreted outcome."
        )
    return int(np.ravel_multi_index(place, shape))

"""What a circuit measures: which qubits, into which bits, and what their outcomes stand for.

An outcome is the integer of the classical register that the circuit measures into, as qiskit's
counts are keyed: bits of the register that nothing is measured into are 0. Registers that nothing
is measured into, such as that of `QuantumCircuit(n, n)` followed by `measure_all()`, do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np
from qiskit.circuit import Barrier, ClassicalRegister, Measure, QuantumCircuit

Interpret = Callable[[int], int | Sequence[int]]


class CannotReadOut(ValueError):  # noqa: N818 - reads as what it says
    """Raised for measurements from which no outcome can be read."""


def unitary_part(circuit: QuantumCircuit) -> tuple[QuantumCircuit, list[int | None]]:
    """Split off the final measurements.

    Args:
        circuit: A circuit; without measurements all qubits count as measured.

    Returns:
        The circuit without measurements, and the qubit that each bit of an outcome is measured
        from, least significant first; None for a bit that stays 0. Of a transpiled circuit those
        are the places of the original qubits.

    Raises:
        ValueError: If something follows a measurement, or several registers are measured.
    """
    measured = _measured_qubits(circuit)
    bare = _without_measurements(circuit)
    if not measured:
        return bare, list(places_of(circuit))
    return bare, [measured.get(bit) for bit in _bits_of(_register_of(circuit, measured), circuit)]


def places_of(circuit: QuantumCircuit) -> list[int]:
    """Return where the qubits of a circuit are at its end: a transpiler moves them."""
    if circuit.layout is None:
        return list(range(circuit.num_qubits))
    return list(circuit.layout.final_index_layout(filter_ancillas=True))


def _measured_qubits(circuit: QuantumCircuit) -> dict[int, int]:
    """Return the index of each classical bit that is measured into, and of its qubit."""
    measured: dict[int, int] = {}
    for instruction in circuit.data:
        operation = instruction.operation
        qubits = [circuit.find_bit(qubit).index for qubit in instruction.qubits]
        if isinstance(operation, Measure):
            measured[circuit.find_bit(instruction.clbits[0]).index] = qubits[0]
        elif not isinstance(operation, Barrier) and set(qubits) & set(measured.values()):
            raise CannotReadOut(
                f"Cannot read out a circuit with `{operation.name}` after a measurement of the "
                "same qubit. Move measurements to the end, or give a CircuitLayer the SamplerQNN "
                "of a sampler that can measure on the way, such as Aer's."
            )
    return measured


def _without_measurements(circuit: QuantumCircuit) -> QuantumCircuit:
    """Drop measurements, and the classical bits where nothing else needs them."""
    kept = [step for step in circuit.data if not isinstance(step.operation, Measure)]
    if any(step.clbits for step in kept):
        bare = circuit.copy_empty_like()
    else:
        bare = QuantumCircuit(circuit.qubits, *circuit.qregs, global_phase=circuit.global_phase)
    for step in kept:
        bare.append(step)
    return bare


def _register_of(circuit: QuantumCircuit, measured: dict[int, int]) -> ClassicalRegister | None:
    """Return the one register that is measured into; None for loose bits."""
    registers = [r for r in circuit.cregs if set(_bits_of(r, circuit)) & measured.keys()]
    held = {bit for register in registers for bit in _bits_of(register, circuit)}
    if len(registers) > 1 or (registers and measured.keys() - held):
        names = ", ".join(register.name for register in registers)
        raise CannotReadOut(
            f"Cannot read out a circuit that measures into several registers ({names}): the order "
            "of their bits in an outcome is not defined. Measure into one register."
        )
    return registers[0] if registers else None


def _bits_of(register: ClassicalRegister | None, circuit: QuantumCircuit) -> list[int]:
    bits = circuit.clbits if register is None else register
    return [circuit.find_bit(bit).index for bit in bits]


def outcomes_of(num_qubits: int, measured: Sequence[int | None]) -> np.ndarray:
    """Return the integer that is measured in each basis state, shape (2^n,)."""
    basis = np.arange(2**num_qubits)
    outcomes = np.zeros_like(basis)
    for place, qubit in enumerate(measured):
        if qubit is not None:
            outcomes |= ((basis >> qubit) & 1) << place
    return outcomes


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
        _flat(int(outcomes.max()), int(outcomes.max()), output_shape)
        return outcomes
    known, inverse = np.unique(outcomes, return_inverse=True)
    flat = [_flat(outcome, interpret(outcome), output_shape) for outcome in known.tolist()]
    return np.array(flat)[inverse]


def _flat(outcome: int, index: int | Sequence[int], shape: tuple[int, ...]) -> int:
    place = index if isinstance(index, tuple | list | np.ndarray) else (index,)
    if not all(isinstance(i, Integral) for i in place):
        raise ValueError(
            f"`interpret` maps outcome {outcome} to {index!r}, which is no place in the output: "
            "outputs are counted by integers. Return an integer, e.g. `int(...)`, or a tuple."
        )
    if len(place) != len(shape) or any(not 0 <= i < n for i, n in zip(place, shape, strict=True)):
        raise ValueError(
            f"`interpret` maps outcome {outcome} to {index}, outside the output of shape {shape}. "
            "Give an `output_shape` that holds every interpreted outcome."
        )
    return int(np.ravel_multi_index(tuple(place), shape))

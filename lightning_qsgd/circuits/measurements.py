"""What a circuit measures: which qubits, into which bits, and what their outcomes stand for.

An outcome is the integer of the classical register that the circuit measures into, as qiskit's
counts are keyed: bits of the register that nothing is measured into are 0. Registers that nothing
is measured into, such as that of `QuantumCircuit(n, n)` followed by `measure_all()`, do not count.

In place of outcomes, the expectation values of observables can be read: of weighted sums of Pauli
strings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from qiskit.circuit import Barrier, ClassicalRegister, Clbit, Measure, QuantumCircuit
from qiskit.quantum_info import Operator, Pauli, SparsePauliOp
from qiskit.quantum_info.operators.base_operator import BaseOperator

from lightning_qsgd.argument_checks import in_order

Interpret = Callable[[int], int | Sequence[int]]


MEASURES_ON_THE_WAY = (
    "give a CircuitLayer the SamplerQNN of a sampler that can measure on the way, such as Aer's"
)
"""A remedy that every refusal of such a circuit names."""


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
    bare = without_measurements(circuit)
    if not measured:
        return bare, list(places_of(circuit))
    return bare, [measured.get(bit) for bit in _bits_of(_register_of(circuit, measured), circuit)]


def measured_bits(circuit: QuantumCircuit) -> list[int | None]:
    """Return the qubit that each classical bit is measured from; None for a bit that stays 0.

    Raises:
        ValueError: If something follows a measurement.
    """
    measured = _measured_qubits(circuit)
    return [measured.get(bit) for bit in range(circuit.num_clbits)]


def measured_register(circuit: QuantumCircuit) -> ClassicalRegister:
    """Return the register that a circuit measures into; the bits of all others stay 0.

    Raises:
        ValueError: If there is none, or several are measured.
    """
    measured = _measured_qubits(circuit)
    if not measured:
        raise CannotReadOut(
            "Cannot sample a circuit that measures nothing: it has no outcomes. Add "
            "`circuit.measure_all()`."
        )
    register = _register_of(circuit, measured)
    if register is None:
        raise CannotReadOut(
            "Cannot sample a circuit that measures into classical bits of no register: results "
            "are named by registers. Measure into a ClassicalRegister, or use `measure_all()`."
        )
    return register


def written_registers(circuit: QuantumCircuit) -> list[str]:
    """Name the registers that something is measured into, also within blocks and instructions."""
    written = _written_bits(circuit)
    return [register.name for register in circuit.cregs if not written.isdisjoint(register)]


def _written_bits(circuit: QuantumCircuit) -> set[Clbit]:
    found: set[Clbit] = set()
    for step in circuit.data:
        if step.operation.name == "measure":
            found.update(step.clbits)
            continue
        parts = list(getattr(step.operation, "blocks", ()))
        definition = getattr(step.operation, "definition", None) if step.clbits else None
        if definition is not None and not parts:
            parts = [definition]
        for part in parts:
            places = (part.find_bit(bit).index for bit in _written_bits(part))
            found.update(step.clbits[place] for place in places)
    return found


def places_of(circuit: QuantumCircuit) -> list[int]:
    """Return where the qubits of a circuit are at its end: a transpiler moves them."""
    if circuit.layout is None:
        return list(range(circuit.num_qubits))
    return list(circuit.layout.final_index_layout(filter_ancillas=True))


MEASURED_BY_QISKIT = "meas"
"""The register that `QuantumCircuit.measure_all` adds."""


def read_as_written(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return a transpiled circuit whose outcomes are those of the original qubits, in their order.

    Bits that were measured before the transpiler came are so already: it moves qubits and no bits.
    Where `measure_all` came after it, as within `SamplerQNN`, bit i is that of qubit i of the
    device. It becomes that of original qubit i, and bits of added qubits stay 0.
    """
    if circuit.layout is None:
        return circuit
    count = circuit.num_qubits
    register = next((r for r in circuit.cregs if r.name == MEASURED_BY_QISKIT), ())
    as_they_lie = [((qubit,), (bit,)) for qubit, bit in zip(circuit.qubits, register, strict=False)]
    last = [step for step in circuit.data[-count:] if isinstance(step.operation, Measure)]
    found = [(tuple(step.qubits), tuple(step.clbits)) for step in last]
    if len(found) != count or found != as_they_lie:
        return circuit
    changed = circuit.copy()
    del changed.data[-count:]
    places = places_of(circuit)
    changed.measure(places, register[: len(places)])
    return changed


def states_as_written(circuit: QuantumCircuit) -> np.ndarray | None:
    """Return the basis states of a transpiled circuit that are those of the original qubits.

    Returns:
        Shape (2^m,) for m original qubits, in their order, with 0 at all other qubits; None where
        no qubit was moved or added.
    """
    places = places_of(circuit)
    if places == list(range(circuit.num_qubits)):
        return None
    original = np.arange(2 ** len(places))
    bits = [(original >> qubit & 1) << place for qubit, place in enumerate(places)]
    return np.asarray(sum(bits, start=np.zeros_like(original)))


def _measured_qubits(circuit: QuantumCircuit) -> dict[int, int]:
    """Return the index of each classical bit that is measured into, and of its qubit."""
    measured: dict[int, int] = {}
    seen: set[int] = set()  # also qubits whose bit is overwritten: measuring has changed them
    for instruction in circuit.data:
        operation = instruction.operation
        qubits = [circuit.find_bit(qubit).index for qubit in instruction.qubits]
        if isinstance(operation, Measure):
            measured[circuit.find_bit(instruction.clbits[0]).index] = qubits[0]
            seen.update(qubits)
        elif not isinstance(operation, Barrier) and not seen.isdisjoint(qubits):
            raise CannotReadOut(
                f"Cannot read out a circuit with `{operation.name}` after a measurement of the "
                f"same qubit. Move measurements to the end; or {MEASURES_ON_THE_WAY}."
            )
    return measured


def without_measurements(circuit: QuantumCircuit) -> QuantumCircuit:
    """Drop measurements, and classical bits and variables where nothing else needs them."""
    kept = [step for step in circuit.data if not isinstance(step.operation, Measure)]
    if circuit.num_identifiers or any(step.clbits for step in kept):
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


LARGEST_OUTCOME = 63
"""Bits of an outcome."""


def outcomes_of(num_qubits: int, measured: Sequence[int | None]) -> np.ndarray:
    """Return the integer that is measured in each basis state, shape (2^n,).

    Raises:
        ValueError: If the integers do not fit into 63 bits.
    """
    used = 1 + max((place for place, qubit in enumerate(measured) if qubit is not None), default=-1)
    if used > LARGEST_OUTCOME:
        raise CannotReadOut(
            f"Cannot read outcomes of {used} bits: they are integers of at most "
            f"{LARGEST_OUTCOME} bits. Measure into the first bits of the register."
        )
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
    if len(shape) == 1:  # which may be that of a register too long for numpy
        return int(place[0])
    return int(np.ravel_multi_index(tuple(place), shape))


REAL = 1e-12
"""Imaginary parts of coefficients below this are rounding."""


class PauliTerm(NamedTuple):
    r"""A number times a string :math:`P |b\rangle = i^{|x z|} (-1)^{b z} |b \oplus x\rangle`.

    Attributes:
        x: Qubits that are flipped (X or Y), as bits.
        z: Qubits whose sign is read (Z or Y), as bits.
        coefficient: The number.
    """

    x: int
    z: int
    coefficient: float


Observable = tuple[PauliTerm, ...]


def observables_of(given: Any, num_qubits: int) -> tuple[Observable, ...]:
    """Read observables from what qiskit has for them.

    Args:
        given: A `SparsePauliOp`, another operator or a mapping of labels to numbers; or several.
        num_qubits: Number of qubits of the circuit.

    Raises:
        TypeError: If something is no operator, or several have no order.
        ValueError: If there is none, or one has another number of qubits, parameters, or a value
            that is not real.

    Example:
        >>> observables_of({"XZ": 0.5}, num_qubits=2)
        ((PauliTerm(x=2, z=1, coefficient=0.5),),)
    """
    single = isinstance(given, BaseOperator | Mapping)
    several = (given,) if single else in_order("observables", given)
    if not several:
        raise ValueError("Got no observable: there would be nothing to read. Give one or more.")
    return tuple(_terms(_as_sum(each), num_qubits) for each in several)


def _as_sum(given: object) -> SparsePauliOp:
    if isinstance(given, SparsePauliOp):
        return given
    if isinstance(given, Mapping):
        return SparsePauliOp.from_list(list(given.items()))
    if isinstance(given, Pauli | str):
        return SparsePauliOp(given)
    if isinstance(given, BaseOperator):
        return SparsePauliOp.from_operator(Operator(given))
    raise TypeError(
        f"Expected an observable, got {type(given).__name__}: it is a weighted sum of Pauli "
        "strings. Give a SparsePauliOp, or a mapping such as {'ZZ': 1.0, 'XI': 0.5}."
    )


def _terms(total: SparsePauliOp, num_qubits: int) -> Observable:
    if total.num_qubits != num_qubits:
        raise ValueError(
            f"Got an observable of {total.num_qubits} qubits and a circuit of {num_qubits}: each "
            "qubit needs a letter. Fill up with I, or use `apply_layout` for a transpiled circuit."
        )
    if total.coeffs.dtype == object:
        raise ValueError(
            f"Cannot read the observable {total}: its coefficients have parameters. Bind them, or "
            "put the parameters into the circuit."
        )
    if np.abs(total.coeffs.imag).max(initial=0.0) > REAL:
        raise ValueError(
            f"Cannot read the observable {total}: its expectation value is not real, since its "
            "coefficients are not. Read real and imaginary parts as two observables."
        )
    if not np.isfinite(total.coeffs).all():
        raise ValueError(
            f"Got an observable with a coefficient that is not finite, in {total}: its value would "
            "be NaN. Give finite numbers."
        )
    powers = 1 << np.arange(num_qubits)
    flips, signs = total.paulis.x @ powers, total.paulis.z @ powers
    return tuple(
        PauliTerm(int(x), int(z), float(c))
        for x, z, c in zip(flips, signs, total.coeffs.real, strict=True)
    )


def flipped_parts(observables: Sequence[Observable], num_qubits: int) -> dict[int, np.ndarray]:
    r"""Write observables as :math:`(O \psi)_a = \sum_x d_{x,a} \psi_{a \oplus x}`.

    Returns:
        For each x that occurs, the complex numbers d of each observable, shape (observables, 2^n).
    """
    basis = np.arange(2**num_qubits)
    parts: dict[int, np.ndarray] = {}
    for place, observable in enumerate(observables):
        for x, z, coefficient in observable:
            own = parts.setdefault(x, np.zeros((len(observables), len(basis)), dtype=complex))
            odd = _parity((basis ^ x) & z, num_qubits)
            own[place] += coefficient * 1j ** (x & z).bit_count() * np.where(odd, -1.0, 1.0)
    return parts


def _parity(numbers: np.ndarray, bits: int) -> np.ndarray:
    odd: np.ndarray = np.bitwise_xor.reduce([numbers >> bit & 1 for bit in range(bits)])
    return odd

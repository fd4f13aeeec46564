"""Which circuits count as the same."""

import pickle

from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Clbit, Parameter, Qubit

from lightning_qsgd.backends.plugins.gate_angles import CircuitCache

ANGLE = Parameter("a")


def rotation(
    angle: object = ANGLE, register: str = "c", places: tuple[int, int] = (0, 1)
) -> QuantumCircuit:
    circuit = QuantumCircuit(QuantumRegister(2, "q"), ClassicalRegister(2, register))
    circuit.ry(angle, 0)
    circuit.measure([0, 1], places)
    return circuit


def known(cache: CircuitCache[str], circuit: QuantumCircuit, variant: object = None) -> bool:
    return cache.get(circuit, lambda: "new", variant) == "old"  # type: ignore[arg-type]


def filled() -> CircuitCache[str]:
    cache: CircuitCache[str] = CircuitCache()
    cache.get(rotation(), lambda: "old")
    return cache


def test_equal_circuits_are_known() -> None:
    assert known(filled(), rotation())


def test_other_circuits_are_new() -> None:
    longer, phased = rotation(), rotation()
    longer.barrier()
    phased.global_phase = 1.0
    others = rotation(Parameter("a")), rotation(0.5), rotation(register="d"), longer, phased
    assert not any(known(filled(), other) for other in others)


def test_circuits_measured_elsewhere_are_new() -> None:
    assert not known(filled(), rotation(places=(1, 0)))


def test_bits_and_registers_without_instructions_count() -> None:
    wider, longer, renamed = rotation(), rotation(), rotation()
    wider.add_bits([Qubit()])
    longer.add_bits([Clbit()])
    renamed.add_register(ClassicalRegister(name="also", bits=renamed.clbits))
    assert not any(known(filled(), other) for other in (wider, longer, renamed))


def test_variants_are_told_apart() -> None:
    assert not known(filled(), rotation(), variant="other")


def test_changes_in_place_are_noticed() -> None:
    circuit, cache = rotation(), CircuitCache[str]()
    cache.get(circuit, lambda: "old")
    circuit.data.insert(0, circuit.data[0])
    assert not known(cache, circuit)


def test_the_least_recently_used_goes_first() -> None:
    cache: CircuitCache[str] = CircuitCache(size=2)
    cache.get(rotation(0.1), lambda: "old")
    cache.get(rotation(0.2), lambda: "old")
    assert known(cache, rotation(0.1))
    cache.get(rotation(0.3), lambda: "old")
    assert len(cache) == 2
    assert known(cache, rotation(0.1))
    assert not known(cache, rotation(0.2))


def test_nothing_is_pickled() -> None:
    assert len(pickle.loads(pickle.dumps(filled()))) == 0

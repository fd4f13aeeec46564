"""Keeps what was prepared for a circuit, until the circuit changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from qiskit.circuit import QuantumCircuit

T = TypeVar("T")


class CircuitCache(Generic[T]):
    """Remembers what was built for the last few circuits.

    Circuits are mutable, and a pass manager returns new objects for the same circuit, so neither
    identity nor a hash of it will do: circuits are compared instruction by instruction, which takes
    microseconds.

    Args:
        size: Number of circuits that are kept; the least recently used goes first.
    """

    def __init__(self, size: int = 16) -> None:
        self.size = size
        self._entries: list[tuple[QuantumCircuit, Hashable, T]] = []

    def get(self, circuit: QuantumCircuit, build: Callable[[], T], variant: Hashable = None) -> T:
        """Return what was built for an equal circuit, or build it.

        Args:
            circuit: The circuit.
            build: Builds what is not there yet.
            variant: What else it depends on.
        """
        for position, (known, kind, built) in enumerate(self._entries):
            if kind == variant and _same(known, circuit):
                self._entries.insert(0, self._entries.pop(position))
                return built
        made = build()
        self._entries.insert(0, (circuit.copy(), variant, made))
        del self._entries[self.size :]
        return made

    def __len__(self) -> int:
        return len(self._entries)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_entries": []}  # quickly built anew where it is needed


def _same(one: QuantumCircuit, other: QuantumCircuit) -> bool:
    return bool(
        one.qubits == other.qubits
        and one.clbits == other.clbits
        and one.cregs == other.cregs
        and one.global_phase == other.global_phase
        and one.data == other.data
    )

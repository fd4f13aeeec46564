"""Gives a sampler circuits that it can run."""

from collections.abc import Iterable
from typing import Any

from qiskit.circuit import QuantumCircuit
from qiskit.primitives import BaseSamplerV2, SamplerPubLike
from qiskit.primitives.containers.sampler_pub import SamplerPub

KEPT_CIRCUITS = 64
"""Transpiled circuits that are kept: one per network, and one per gate set of its gradients."""


class TranspilingSampler(BaseSamplerV2):  # type: ignore[misc]
    """Transpiles circuits for a sampler.

    Circuits come here measured, with bit i for qubit i, and transpilation keeps that: whatever
    layout the device needs, results are those of the circuit as written, for values and for
    gradients. A `SamplerQNN` with a pass manager measures all qubits of the device afterwards
    and undoes the layout, but only for values: its gradients are those of other qubits.

    Args:
        sampler: Runs the circuits.
        pass_manager: Transpiles them for the sampler; None leaves them as they are.
    """

    def __init__(self, sampler: BaseSamplerV2, pass_manager: Any = None) -> None:
        self.sampler = sampler
        self.pass_manager = pass_manager
        self._kept: dict[int, tuple[QuantumCircuit, QuantumCircuit]] = {}

    def run(self, pubs: Iterable[SamplerPubLike], *, shots: int | None = None) -> Any:
        """Start one job for all circuits; see `BaseSamplerV2.run`."""
        ready = [self._transpiled(SamplerPub.coerce(pub)) for pub in pubs]
        return self.sampler.run(ready, shots=shots)

    def _transpiled(self, pub: SamplerPub) -> tuple[Any, ...]:
        circuit = self._physical(pub.circuit)
        # Parameters that change no outcome, such as a last Rz's, may be gone.
        places = {parameter: place for place, parameter in enumerate(pub.circuit.parameters)}
        kept = [places[parameter] for parameter in circuit.parameters]
        values = pub.parameter_values.as_array(list(pub.circuit.parameters))[..., kept]
        return (circuit, values, pub.shots) if pub.shots else (circuit, values)

    def _physical(self, circuit: QuantumCircuit) -> QuantumCircuit:
        if self.pass_manager is None:
            return circuit
        kept = self._kept.get(id(circuit))
        if kept is None:
            if len(self._kept) >= KEPT_CIRCUITS:
                self._kept.clear()
            # The circuit is kept with its result, so that no other one can get its id.
            kept = self._kept[id(circuit)] = (circuit, self.pass_manager.run(circuit))
        return kept[1]

"""What is simulated: parametrised circuits whose inputs are model parameters or data."""

from lightning_qsgd.circuits.entanglement import ENTANGLEMENTS, entangled_pairs
from lightning_qsgd.circuits.parametrized import CircuitSource, ParametrizedCircuit
from lightning_qsgd.circuits.superposition import SuperpositionCircuit, superposition_circuit

__all__ = [
    "ENTANGLEMENTS",
    "CircuitSource",
    "ParametrizedCircuit",
    "SuperpositionCircuit",
    "entangled_pairs",
    "superposition_circuit",
]

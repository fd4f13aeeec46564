"""What is simulated: parametrised circuits whose inputs are model parameters."""

from lightning_qsgd.circuits.entanglement import ENTANGLEMENTS, entangled_pairs
from lightning_qsgd.circuits.superposition import PerturbationCircuit, superposition_circuit

__all__ = ["ENTANGLEMENTS", "PerturbationCircuit", "entangled_pairs", "superposition_circuit"]

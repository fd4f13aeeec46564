"""What is simulated: parametrised circuits whose inputs are model parameters or data."""

from lightning_qsgd.circuits.from_file import CircuitFromFile
from lightning_qsgd.circuits.from_function import CircuitFromFunction
from lightning_qsgd.circuits.parametrized import CircuitSource, ParametrizedCircuit
from lightning_qsgd.circuits.superposition import (
    ENTANGLEMENTS,
    ScoreCircuit,
    SuperpositionCircuit,
    entangled_pairs,
    superposition_circuit,
)

__all__ = [
    "ENTANGLEMENTS",
    "CircuitFromFile",
    "CircuitFromFunction",
    "CircuitSource",
    "ParametrizedCircuit",
    "ScoreCircuit",
    "SuperpositionCircuit",
    "entangled_pairs",
    "superposition_circuit",
]

"""What is simulated: parametrised circuits whose inputs are model parameters or data."""

from lightning_qsgd.circuits.from_user import CircuitFromFile, CircuitFromFunction
from lightning_qsgd.circuits.parametrized import CircuitSource, ObservedCircuit, ParametrizedCircuit
from lightning_qsgd.circuits.signal_processing import SignalProcessingCircuit, signal_polynomial
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
    "ObservedCircuit",
    "ParametrizedCircuit",
    "ScoreCircuit",
    "SignalProcessingCircuit",
    "SuperpositionCircuit",
    "entangled_pairs",
    "signal_polynomial",
    "superposition_circuit",
]

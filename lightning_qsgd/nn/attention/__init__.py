"""Quantum attention (Eq. 3 to 5) and what its scores gain: a circuit, or a classical control."""

from lightning_qsgd.nn.attention.circuit_bias import CircuitBias
from lightning_qsgd.nn.attention.layer_attention import (
    BiasPerLayer,
    LayerAttention,
    PlainAttention,
    SharedBias,
)
from lightning_qsgd.nn.attention.quantum_attention import QuantumAttention
from lightning_qsgd.nn.attention.score_bias import ScoreBias, TrigonometricBias

__all__ = [
    "BiasPerLayer",
    "CircuitBias",
    "LayerAttention",
    "PlainAttention",
    "QuantumAttention",
    "ScoreBias",
    "SharedBias",
    "TrigonometricBias",
]

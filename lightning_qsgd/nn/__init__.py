"""Networks to train: small classifiers, a quantum circuit as a layer, quantum attention."""

from lightning_qsgd.nn.attention import (
    CircuitBias,
    QuantumAttention,
    ScoreBias,
    TrigonometricBias,
)
from lightning_qsgd.nn.circuit_layer import CircuitLayer
from lightning_qsgd.nn.cnn import SmallCNN
from lightning_qsgd.nn.mlp import MLP
from lightning_qsgd.nn.next_character import NextCharacter
from lightning_qsgd.nn.sequence_transformer import SequenceTransformer
from lightning_qsgd.nn.transformer_sizes import PAPER_SIZES, TransformerSizes

__all__ = [
    "MLP",
    "PAPER_SIZES",
    "CircuitBias",
    "CircuitLayer",
    "NextCharacter",
    "QuantumAttention",
    "ScoreBias",
    "SequenceTransformer",
    "SmallCNN",
    "TransformerSizes",
    "TrigonometricBias",
]

"""Networks to train: small classifiers, a quantum circuit as a layer, quantum attention."""

from lightning_qsgd.nn.attention import (
    BiasPerLayer,
    CircuitBias,
    LayerAttention,
    PlainAttention,
    QuantumAttention,
    ScoreBias,
    SharedBias,
    TrigonometricBias,
)
from lightning_qsgd.nn.circuit_layer import CircuitLayer
from lightning_qsgd.nn.digit_classifiers import MLP, SmallCNN
from lightning_qsgd.nn.next_character import NextCharacter
from lightning_qsgd.nn.transformer_classifier import (
    PAPER_SIZES,
    TransformerClassifier,
    TransformerSizes,
)

__all__ = [
    "MLP",
    "PAPER_SIZES",
    "BiasPerLayer",
    "CircuitBias",
    "CircuitLayer",
    "LayerAttention",
    "NextCharacter",
    "PlainAttention",
    "QuantumAttention",
    "ScoreBias",
    "SharedBias",
    "SmallCNN",
    "TransformerClassifier",
    "TransformerSizes",
    "TrigonometricBias",
]

"""Networks to train: small classifiers for images and token sequences."""

from lightning_qsgd.nn.cnn import SmallCNN
from lightning_qsgd.nn.mlp import MLP
from lightning_qsgd.nn.sequence_transformer import SequenceTransformer
from lightning_qsgd.nn.transformer_sizes import PAPER_SIZES, TransformerSizes

__all__ = ["MLP", "PAPER_SIZES", "SequenceTransformer", "SmallCNN", "TransformerSizes"]

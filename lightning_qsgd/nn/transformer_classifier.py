"""The paper's text classifier: a small transformer."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_qsgd.argument_checks import require_at_least, require_dropout
from lightning_qsgd.nn.attention import LayerAttention, PlainAttention


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Compute the fixed position code of the original transformer.

    Entry (p, 2k) is sin(p / 10000^(2k / width)) and entry (p, 2k + 1) the cosine of the same angle
    in radians, so that a shift in position is a rotation of each pair.

    Args:
        length: Number of positions.
        width: Entries per position, even.

    Returns:
        Position codes in [-1, 1], float32, shape (length, width).

    Example:
        >>> sinusoidal_positions(2, 2)
        tensor([[0.0000, 1.0000],
                [0.8415, 0.5403]])

    References:
        Vaswani et al., Attention Is All You Need, 2017, section 3.5.
    """
    positions = torch.arange(length, dtype=torch.float32)[:, None]
    exponents = torch.arange(0, width, 2, dtype=torch.float32) / width
    angles = positions * torch.exp(-math.log(10_000.0) * exponents)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(length, width)


@dataclass(frozen=True)
class TransformerSizes:
    """Hold the widths of a transformer encoder; the defaults are the paper's (Table II).

    Args:
        embedding: Width of a token's vector; even, and a multiple of `heads`.
        heads: Attention heads per layer.
        feed_forward: Hidden width of the feed-forward block.
        layers: Number of encoder layers.

    Raises:
        ValueError: If a size is below 1, or `embedding` is odd or no multiple of `heads`.

    Example:
        >>> TransformerSizes(layers=1)
        TransformerSizes(embedding=64, heads=4, feed_forward=128, layers=1)
    """

    embedding: int = 64
    heads: int = 4
    feed_forward: int = 128
    layers: int = 2

    def __post_init__(self) -> None:
        require_at_least("embedding", self.embedding, 1)
        require_at_least("heads", self.heads, 1)
        require_at_least("feed_forward", self.feed_forward, 1)
        require_at_least("layers", self.layers, 1)
        if self.embedding % self.heads:
            raise ValueError(
                f"Expected `embedding` to be a multiple of `heads`, got {self.embedding} and "
                f"{self.heads}: each head takes an equal share. Change one of the two."
            )
        if self.embedding % 2:
            raise ValueError(
                f"Expected `embedding` to be even, got {self.embedding}: sinusoidal positions come "
                "in pairs of sine and cosine. Use an even width."
            )


PAPER_SIZES = TransformerSizes()


PAD_TOKEN = 0


class TransformerClassifier(nn.Module):
    """Map token ids to class logits: embed, encode (post-norm), average over tokens, classify.

    Token 0 is PAD: it is neither attended to nor averaged, so appending PAD changes no logit. A
    sequence of nothing but PAD averages to zero and gets the head's bias as logits. The layers are
    built one by one, because `nn.TransformerEncoder` copies one layer and thereby starts all of
    them from the same weights. With the default sizes the network has 131,204 parameters.

    Args:
        vocab_size: Number of token ids, PAD included.
        num_classes: Number of logits, 2 or more.
        max_length: Longest sequence that has a position code.
        sizes: Widths of the encoder; the default is the paper's (Table II).
        dropout: Share of activations set to zero during training, in [0, 1).
        attention: Which attention the layers get: `BiasPerLayer` or `SharedBias` for quantum
            attention (Eq. 3) or its classical control; None takes torch's own. Whatever it adds,
            all other weights start alike.

    Raises:
        ValueError: If a size is below its minimum or `dropout` is outside [0, 1).

    Example:
        >>> import torch
        >>> network = TransformerClassifier()
        >>> network(torch.ones(5, 32, dtype=torch.int64)).shape
        torch.Size([5, 4])
        >>> sum(parameter.numel() for parameter in network.parameters())
        131204

        With quantum attention, 16 circuit weights and a gate more per layer:

        >>> from lightning_qsgd.nn import BiasPerLayer, CircuitBias
        >>> network = TransformerClassifier(attention=BiasPerLayer(CircuitBias()))
        >>> sum(parameter.numel() for parameter in network.parameters())
        131238

    References:
        Pamuk et al., Superpositional Gradient Descent, 2025, Table II (sizes). Positions, post-norm
        and averaging are readings: the paper names none of them.
    """

    def __init__(
        self,
        vocab_size: int = 1000,
        num_classes: int = 4,
        max_length: int = 32,
        sizes: TransformerSizes = PAPER_SIZES,
        dropout: float = 0.1,
        attention: LayerAttention | None = None,
    ) -> None:
        super().__init__()
        require_at_least("vocab_size", vocab_size, 2)
        require_at_least("num_classes", num_classes, 2)
        require_at_least("max_length", max_length, 1)
        require_dropout(dropout)
        self.max_length = max_length
        self.embedding = nn.Embedding(vocab_size, sizes.embedding, padding_idx=PAD_TOKEN)
        positions = sinusoidal_positions(max_length, sizes.embedding)
        self.register_buffer("positions", positions, persistent=False)
        self.dropout = nn.Dropout(dropout)
        layers = [_encoder_layer(sizes, dropout) for _ in range(sizes.layers)]
        (PlainAttention() if attention is None else attention).install(layers)
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(sizes.embedding, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute class logits.

        Args:
            tokens: Token ids in [0, vocab_size), int64, shape (batch, length), 0 for PAD.

        Returns:
            Logits, float, shape (batch, num_classes).

        Raises:
            ValueError: If the sequences are longer than `max_length` or not two-dimensional.

        Example:
            >>> import torch
            >>> TransformerClassifier()(torch.tensor([[7, 8, 0, 0]])).shape
            torch.Size([1, 4])
        """
        self._require_token_batch(tokens)
        padding = tokens == PAD_TOKEN
        unattended = padding & ~padding.all(dim=1, keepdim=True)  # softmax over nothing is NaN
        hidden = self.dropout(
            self.embedding(tokens) + self.get_buffer("positions")[: tokens.shape[1]]
        )
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=unattended)
        logits: Tensor = self.head(_mean_over_tokens(hidden, ~padding))
        return logits

    def _require_token_batch(self, tokens: Tensor) -> None:
        if tokens.dim() != 2:
            raise ValueError(
                f"Expected tokens of shape (batch, length), got {tuple(tokens.shape)}. "
                "Add the missing dimension, e.g. `tokens[None]` for a single sequence."
            )
        if tokens.shape[1] > self.max_length:
            raise ValueError(
                f"Expected at most {self.max_length} tokens per sequence, got {tokens.shape[1]}: "
                "later positions have no code. Truncate, or build with a larger `max_length`."
            )


def _encoder_layer(sizes: TransformerSizes, dropout: float) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        sizes.embedding,
        sizes.heads,
        sizes.feed_forward,
        dropout,
        batch_first=True,
        norm_first=False,
    )


def _mean_over_tokens(hidden: Tensor, is_token: Tensor) -> Tensor:
    weights = is_token.to(hidden.dtype)[..., None]  # (batch, length, 1)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)

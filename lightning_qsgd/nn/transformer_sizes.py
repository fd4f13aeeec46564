"""Group the widths of a transformer encoder."""

from dataclasses import dataclass

from lightning_qsgd.argument_checks import require_at_least


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

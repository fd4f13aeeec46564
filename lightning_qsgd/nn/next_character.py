"""Guess the next character from those before it."""

from torch import Tensor, nn

from lightning_qsgd.argument_checks import require_at_least


class NextCharacter(nn.Module):
    """A character language model of hidden layers over embedded characters, one by default.

    Args:
        num_classes: Number of characters, 2 or more.
        context: Characters that it sees, 1 or more.
        embedding_dim: Numbers per character, 1 or more.
        hidden_dim: Width of the hidden layer, 1 or more.
        dropout: Share of hidden units dropped in training, in [0, 1).
        layers: Hidden layers, 1 or more.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> network = NextCharacter(num_classes=97, context=8)
        >>> network(torch.zeros(2, 8, dtype=torch.int64)).shape
        torch.Size([2, 97])

    References:
        Bengio et al., A Neural Probabilistic Language Model, JMLR 3 (2003), 1137-1155.
    """

    def __init__(
        self,
        num_classes: int = 97,
        context: int = 16,
        embedding_dim: int = 16,
        hidden_dim: int = 128,
        dropout: float = 0.0,
        layers: int = 1,
    ) -> None:
        super().__init__()
        require_at_least("num_classes", num_classes, 2)
        require_at_least("context", context, 1)
        require_at_least("embedding_dim", embedding_dim, 1)
        require_at_least("hidden_dim", hidden_dim, 1)
        require_at_least("layers", layers, 1)
        if not 0.0 <= dropout < 1.0:
            raise ValueError(
                f"Expected `dropout` to be in [0, 1), got {dropout}. It is the share of hidden "
                "units dropped in training, e.g. 0.1."
            )
        self.context = context
        self.embedding = nn.Embedding(num_classes, embedding_dim)
        hidden: list[nn.Module] = []
        for width in (context * embedding_dim, *[hidden_dim] * (layers - 1)):
            hidden += [nn.Linear(width, hidden_dim), nn.GELU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*hidden, nn.Linear(hidden_dim, num_classes))

    def forward(self, characters: Tensor) -> Tensor:
        """Compute logits of the next character.

        Args:
            characters: The characters before it, int64, shape (batch, context).

        Returns:
            Logits, float, shape (batch, num_classes).

        Raises:
            ValueError: If the context has another length.
        """
        if characters.dim() != 2 or characters.shape[1] != self.context:
            raise ValueError(
                f"Expected characters of shape (batch, {self.context}), got "
                f"{tuple(characters.shape)}. Give the network and the data the same `context`."
            )
        logits: Tensor = self.layers(self.embedding(characters).flatten(1))
        return logits

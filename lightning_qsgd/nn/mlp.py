"""Classify flat inputs with a multi-layer perceptron."""

from torch import Tensor, nn

from lightning_qsgd.argument_checks import require_at_least, require_dropout


class MLP(nn.Module):
    """Map an input of any shape to class logits through fully connected ReLU layers.

    Args:
        in_features: Number of entries of one input, e.g. 64 for an 8 x 8 image.
        hidden: Width of each hidden layer; empty for softmax regression.
        num_classes: Number of logits, 2 or more.
        dropout: Share of hidden activations set to zero during training, in [0, 1).

    Raises:
        ValueError: If a size is below its minimum or `dropout` is outside [0, 1).

    Example:
        >>> import torch
        >>> MLP(in_features=64, hidden=(32,))(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        in_features: int = 64,
        hidden: tuple[int, ...] = (64, 64),
        num_classes: int = 10,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_at_least("in_features", in_features, 1)
        for index, width in enumerate(hidden):
            require_at_least(f"hidden[{index}]", width, 1)
        require_at_least("num_classes", num_classes, 2)
        require_dropout(dropout)
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in zip((in_features, *hidden), hidden, strict=False):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), nn.Dropout(dropout)]
        layers.append(nn.Linear((in_features, *hidden)[-1], num_classes))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Compute class logits.

        Args:
            x: Inputs, float, shape (batch, ...) with `in_features` entries each.

        Returns:
            Logits, float, shape (batch, num_classes).

        Example:
            >>> import torch
            >>> MLP(in_features=4, num_classes=3)(torch.ones(2, 4)).shape
            torch.Size([2, 3])
        """
        logits: Tensor = self.layers(x)
        return logits

"""Small classifiers of images: a perceptron and a convolutional network."""

from torch import Tensor, nn

from lightning_qsgd.argument_checks import in_order, require_at_least, require_dropout


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
        for index, width in enumerate(in_order("hidden", hidden)):
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


class SmallCNN(nn.Module):
    """Map images to class logits: stages of 3 x 3 convolution, ReLU and 2 x 2 pooling.

    Each stage halves the image, so `image_size` must be divisible by 2 once per stage.

    Args:
        in_channels: Channels of the image, e.g. 1 for grey.
        image_size: Height and width of the image in pixels.
        channels: Output channels of each stage, at least one stage.
        num_classes: Number of logits, 2 or more.
        dropout: Share of pooled features set to zero during training, in [0, 1).

    Raises:
        ValueError: If a size is below its minimum, `image_size` cannot be halved once per stage, or
            `dropout` is outside [0, 1).

    Example:
        >>> import torch
        >>> SmallCNN()(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 8,
        channels: tuple[int, ...] = (16, 32),
        num_classes: int = 10,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_at_least("in_channels", in_channels, 1)
        require_at_least("num_classes", num_classes, 2)
        require_dropout(dropout)
        _require_stages(in_order("channels", channels), image_size)
        stages: list[nn.Module] = []
        for fan_in, fan_out in zip((in_channels, *channels), channels, strict=False):
            stages += [nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*stages)
        pooled_size = image_size // 2 ** len(channels)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(channels[-1] * pooled_size**2, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute class logits.

        Args:
            x: Images, float, shape (batch, in_channels, image_size, image_size).

        Returns:
            Logits, float, shape (batch, num_classes).

        Example:
            >>> import torch
            >>> SmallCNN(in_channels=3, image_size=16)(torch.zeros(2, 3, 16, 16)).shape
            torch.Size([2, 10])
        """
        logits: Tensor = self.head(self.features(x))
        return logits


def _require_stages(channels: tuple[int, ...], image_size: int) -> None:
    require_at_least("len(channels)", len(channels), 1)
    for index, width in enumerate(channels):
        require_at_least(f"channels[{index}]", width, 1)
    require_at_least("image_size", image_size, 1)
    shrink = 2 ** len(channels)
    if image_size % shrink:
        raise ValueError(
            f"Expected `image_size` to be divisible by {shrink}, got {image_size}: each of the "
            f"{len(channels)} stages halves the image. Use fewer `channels` or another size."
        )

"""Refuse impossible sizes before a network is built."""


def require_at_least(name: str, value: int, minimum: int) -> None:
    """Refuse a size below its minimum.

    Args:
        name: Argument as the user wrote it.
        value: What was given.
        minimum: Smallest value that makes sense.

    Raises:
        ValueError: If `value < minimum`.

    Example:
        >>> require_at_least("num_classes", 10, 2)
    """
    if value < minimum:
        raise ValueError(
            f"Expected `{name}` to be at least {minimum}, got {value}. "
            f"Set `{name}` to {minimum} or more."
        )


def require_dropout(dropout: float) -> None:
    """Refuse a dropout rate that keeps nothing or is no rate.

    Args:
        dropout: Share of activations set to zero during training.

    Raises:
        ValueError: If `dropout` is outside [0, 1).

    Example:
        >>> require_dropout(0.1)
    """
    if not 0.0 <= dropout < 1.0:
        raise ValueError(
            f"Expected `dropout` to be in [0, 1), got {dropout}. It is the share of activations "
            "set to zero; use 0 to switch it off."
        )

"""Refuse impossible arguments, and files that hold no text, before anything is drawn or built."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def require_at_least(name: str, value: int, minimum: int) -> None:
    """Refuse a count below its minimum.

    Args:
        name: Argument as the user wrote it.
        value: What was given.
        minimum: Smallest value that makes sense.

    Raises:
        ValueError: If `value < minimum`.

    Example:
        >>> require_at_least("batch_size", 32, 1)
    """
    if value < minimum:
        raise ValueError(
            f"Expected `{name}` to be at least {minimum}, got {value}. "
            f"Set `{name}` to {minimum} or more."
        )


def require_seed(name: str, value: int | None, bits: int) -> None:
    """Refuse a seed that the generators behind it cannot take.

    Args:
        name: Argument as the user wrote it.
        value: The seed; None passes, because it means "take torch's initial seed".
        bits: Width of the generator's seed: the seed must lie in `[0, 2**bits)`.

    Raises:
        ValueError: If the seed is negative or too wide.

    Example:
        >>> require_seed("order_seed", None, bits=64)
    """
    if value is not None and not 0 <= value < 2**bits:
        raise ValueError(
            f"Expected `{name}` to be an integer in [0, 2**{bits}), got {value}. "
            "A seed outside that range cannot be stored by the random generator; choose a smaller "
            "non-negative one."
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


def in_order(name: str, given: Iterable[T]) -> tuple[T, ...]:
    """Return what was given in its order, and refuse what has none.

    A dictionary's keys and qiskit's `circuit.parameters` have one, and pass.

    Args:
        name: Argument as the user wrote it.
        given: Where the place of each item counts, such as inputs or observables.

    Raises:
        TypeError: If it is a set: the order of its items may be another one in each process.

    Example:
        >>> in_order("inputs", ["x", "y"])
        ('x', 'y')
    """
    if isinstance(given, set | frozenset):
        raise TypeError(
            f"Expected `{name}` in an order, got a {type(given).__name__}: its order may be "
            "another one in each process, and the place of each item counts. Give a list or a "
            "tuple."
        )
    return tuple(given)


def text_of(path: Path) -> str:
    """Return the text of a file that a user has written.

    Args:
        path: The file.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"Cannot read {path}: line {line} is not UTF-8 text. Save the file as UTF-8."
        ) from error

"""Blocks of seeds."""

from collections.abc import Sequence

HIGHEST_SEED = 2**32 - 1
"""What numpy's global generator takes."""


def seed_list(name: str, seeds: int | Sequence[int], first: int = 0) -> tuple[int, ...]:
    """Return the seeds that a config asks for.

    Args:
        name: Where the config says it, for error messages.
        seeds: The number of seeds, or the seeds.
        first: Seed to count from.

    Raises:
        ValueError: If there is none, or one is out of range or named twice.

    Example:
        >>> seed_list("seeds", 3, first=100), seed_list("seeds", [7, 3])
        ((100, 101, 102), (7, 3))
    """
    listed = tuple(range(first, first + seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not listed:
        raise ValueError(
            f"Expected `{name}` to be the number of seeds or a list of seeds, got {seeds}: nothing "
            "would be run. Give 1 or more."
        )
    if len(set(listed)) < len(listed):
        raise ValueError(
            f"Expected every seed in `{name}` once, got {seeds}: a repeated run would count twice. "
            "Remove the repetition."
        )
    if min(listed) < 0 or max(listed) > HIGHEST_SEED:
        raise ValueError(
            f"Expected the seeds in `{name}` between 0 and {HIGHEST_SEED}, got {seeds}: random "
            "generators take no others. Choose smaller ones."
        )
    return listed

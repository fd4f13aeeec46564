"""Draws for many tensors, each from the stream that its name keys."""

from collections.abc import Callable, Iterable

import numpy as np

from lightning_qsgd.perturbations.keys import stream_key


def keyed_draws(
    draw: Callable[[np.random.Generator, int], np.ndarray],
    tensors: Iterable[tuple[str, int]],
    moment: tuple[int, int],
) -> np.ndarray:
    """Draw for each tensor from its own generator, and join what was drawn.

    A draw depends on (seed, step, tensor name) alone: it is the same on every process and after a
    resume, is independent of which other tensors there are, and touches no global generator. The
    stream is another one than that of `RandomEntries`, whose choices must not repeat in the draws.

    Args:
        draw: Returns as many numbers as it is asked for from a generator, shape (size,).
        tensors: Name and number of entries of each tensor, at least one tensor.
        moment: The seed and the optimizer step.

    Returns:
        The draws in the order of the tensors, shape (entries,).

    Example:
        >>> draw = lambda generator, size: generator.standard_normal(size)
        >>> both = keyed_draws(draw, [("0", 2), ("1", 3)], (0, 7))
        >>> bool((both[2:] == keyed_draws(draw, [("1", 3)], (0, 7))).all())
        True
    """
    seed, step = moment
    return np.concatenate(
        [
            draw(np.random.default_rng(stream_key(seed, step, f"draws of {name}")), size)
            for name, size in tensors
        ]
    )


def signs(generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw -1 or 1 with equal probability, float64, shape (size,)."""
    return generator.integers(0, 2, size) * 2.0 - 1.0


def normals(generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw from the standard normal distribution, float64, shape (size,)."""
    return generator.standard_normal(size)

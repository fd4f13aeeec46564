"""Random numbers from streams named by (seed, step, tensor, block).

A global or per-rank generator lets replicas of a distributed run drift apart silently, and makes a
resumed run draw other numbers than an uninterrupted one. Here every stream is a pure function of
(seed, step, tensor name, block), mixed with the finaliser of SplitMix64.
"""

import zlib
from collections.abc import Callable, Iterable

import numpy as np

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_GOLDEN = 0x9E37_79B9_7F4A_7C15


def stream_key(seed: int, step: int, tensor: str) -> int:
    """Return the 64-bit key of one tensor's stream at one step.

    Example:
        >>> stream_key(0, 1, "0") == stream_key(0, 1, "0") != stream_key(0, 2, "0")
        True
    """
    key = _mix(seed & _MASK)
    key = _mix(key ^ (step & _MASK))
    return _mix(key ^ zlib.crc32(tensor.encode()))


def block_keys(key: int, num_blocks: int) -> np.ndarray:
    """Return one uint64 per block of a tensor, shape (num_blocks,)."""
    return np.array([_mix(key ^ block) for block in range(num_blocks)], dtype=np.uint64)


def _mix(value: int) -> int:
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
    return value ^ (value >> 31)


def keyed_draws(
    draw: Callable[[np.random.Generator, int], np.ndarray],
    tensors: Iterable[tuple[str, int]],
    seed_and_step: tuple[int, int],
) -> np.ndarray:
    """Draw for each tensor from its own generator, and join what was drawn.

    A draw depends on (seed, step, tensor name) alone: it is the same on every process and after a
    resume, is independent of which other tensors there are, and touches no global generator. The
    stream is another one than that of `RandomEntries`, whose choices must not repeat in the draws.

    Args:
        draw: Returns as many numbers as it is asked for from a generator, shape (size,).
        tensors: Name and number of entries of each tensor, at least one tensor.
        seed_and_step: The seed and the optimizer step.

    Returns:
        The draws in the order of the tensors, shape (entries,).

    Example:
        >>> draw = lambda generator, size: generator.standard_normal(size)
        >>> both = keyed_draws(draw, [("0", 2), ("1", 3)], (0, 7))
        >>> bool((both[2:] == keyed_draws(draw, [("1", 3)], (0, 7))).all())
        True
    """
    seed, step = seed_and_step
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

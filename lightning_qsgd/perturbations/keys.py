"""Noise keys: random streams named by what they are for, never by the order of calls.

A global or per-rank generator lets replicas of a distributed run drift apart silently, and makes a
resumed run draw other numbers than an uninterrupted one. Here every stream is a pure function of
(seed, step, tensor name, block), mixed with the finaliser of SplitMix64.
"""

import zlib

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

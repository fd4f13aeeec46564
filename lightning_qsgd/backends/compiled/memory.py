"""How much memory a batch of state vectors takes, known before any is allocated."""

import torch

STATES_AT_ONCE = 8
"""Copies of the states of one chunk that live at once: state and cotangent, before and after a
step, and the products from which gradients are summed."""

ALLOCATED = 2.5
"""What a process grows by over what is in use: temporary tensors leave gaps between kept ones, and
the allocator gives back in pieces. Measured as 1.7 to 2.3 at 14 qubits."""

BYTES_PER_ENTRY = 28
"""What an entry of a program's vectors takes while the program becomes tensors: float64 three
times, and float32."""

VECTORS_WHILE_LOWERING = 8
"""Vectors of bits, masks and basis states that live while a gate is added to a program."""

CACHE_BYTES = 2**19
"""Size that the states of one chunk should not exceed, so that all steps find them in the cache."""


def columns_in_cache(num_qubits: int, itemsize: int) -> int:
    """Return how many circuits are evaluated at once on a CPU, at least 16."""
    return max(16, CACHE_BYTES // (2 * itemsize << num_qubits))


def bytes_of_program(num_qubits: int, vectors: int) -> int:
    """Forecast what a program takes whose operations and readout hold vectors of 2^n entries."""
    return BYTES_PER_ENTRY * (vectors + VECTORS_WHILE_LOWERING) << num_qubits


def bytes_needed(num_qubits: int, batch: int, chunk: int, dtype: torch.dtype, outputs: int) -> int:
    """Forecast the peak of an evaluation with gradients, without the program.

    Args:
        num_qubits: Number of qubits.
        batch: Number of circuits.
        chunk: Number of circuits evaluated at once.
        dtype: Precision of the evaluation.
        outputs: Number of outputs of one circuit.

    Returns:
        Bytes: the final states of the whole batch, the working copies of one chunk, and outputs
        with their gradient.
    """
    state = 2 * dtype.itemsize << num_qubits
    working = STATES_AT_ONCE * min(chunk, batch)
    used = state * (batch + working) + 2 * dtype.itemsize * batch * outputs
    return int(ALLOCATED * used)


def check_memory(needed: int, limit_gib: float, num_qubits: int, batch: int) -> None:
    """Refuse an evaluation that would not fit.

    Raises:
        ValueError: If more bytes are needed than the limit allows.
    """
    if needed > limit_gib * 2**30:
        raise ValueError(
            f"Cannot evaluate {batch} circuit(s) of {num_qubits} qubits at once: states and gates "
            f"would take about {in_words(needed)}, over the limit of "
            f"{in_words(limit_gib * 2**30)}. Use smaller batches or fewer qubits, or raise "
            "`memory_limit_gib`."
        )


def check_limit(limit_gib: float) -> None:
    """Refuse a limit under which nothing could be evaluated.

    Raises:
        ValueError: If it is not positive.
    """
    if not limit_gib > 0:
        raise ValueError(
            f"Expected `memory_limit_gib` to be positive, got {limit_gib}: nothing could be "
            "evaluated. Give the GiB that an evaluation may take."
        )


def in_words(size: float) -> str:
    """Write a number of bytes in GiB, or in MiB below one.

    Example:
        >>> in_words(5 * 2**30), in_words(3 * 2**20)
        ('5.00 GiB', '3.00 MiB')
    """
    return f"{size / 2**30:,.2f} GiB" if size >= 2**30 else f"{size / 2**20:,.2f} MiB"

"""How much memory a batch of state vectors takes, known before any is allocated."""

import torch

STATES_AT_ONCE = 8
"""Copies of the states of one chunk that live at once: state and cotangent, before and after a
step, and the products from which gradients are summed."""

CACHE_BYTES = 2**18
"""Size that the states of one chunk should not exceed, so that all steps find them in the cache."""


def columns_in_cache(num_qubits: int, itemsize: int) -> int:
    """Return how many circuits are evaluated at once on a CPU, at least 16."""
    return max(16, CACHE_BYTES // (2 * itemsize << num_qubits))


def bytes_needed(num_qubits: int, batch: int, chunk: int, dtype: torch.dtype, outputs: int) -> int:
    """Forecast the peak of an evaluation with gradients.

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
    working = STATES_AT_ONCE * state * min(chunk, batch)
    return state * batch + working + 2 * dtype.itemsize * batch * outputs


def check_memory(needed: int, limit_gib: float, num_qubits: int, batch: int) -> None:
    """Refuse an evaluation that would not fit.

    Raises:
        ValueError: If more bytes are needed than the limit allows.
    """
    if needed > limit_gib * 2**30:
        raise ValueError(
            f"Cannot evaluate {batch} circuit(s) of {num_qubits} qubits at once: their states "
            f"would take about {needed / 2**30:,.2f} GiB, over the limit of {limit_gib:g} GiB. Use "
            "smaller batches or fewer qubits, or raise `memory_limit_gib`."
        )

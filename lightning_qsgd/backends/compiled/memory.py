"""How much memory a compiled circuit takes, and in which precision it computes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, TypeVar, cast

import torch

STATES_AT_ONCE = 8
"""Copies of the states of one chunk that live at once: state and cotangent, before and after a
step, and the products from which gradients are summed."""

STATES_PER_TURN = 10
"""Copies of each state on the way that torch keeps to differentiate plain operations twice: 5 for
first derivatives, 6 to 9 for second and 17 for third ones were measured at 14 qubits."""

ALLOCATED = 2.2
"""What a process grows by over what is in use: temporary tensors leave gaps between kept ones, and
the allocator gives back in pieces. Measured as 1.3 to 2.05 at 14 to 20 qubits."""

BYTES_PER_ENTRY = 18
"""What an entry of a program's vectors takes while the program becomes tensors: float64, float32
and a copy on the way. Measured as 12 to 16 at 16 to 20 qubits."""

BYTES_PER_QUBIT = 20
"""What the first layer of rotations takes per qubit and basis state: which cosines and sines are
multiplied, as int64, and a copy on the way."""

CACHE_BYTES = 2**19
"""Size that the states of one chunk should not exceed, so that all steps find them in the cache."""


def columns_in_cache(num_qubits: int, itemsize: int) -> int:
    """Return how many circuits are evaluated at once on a CPU, at least 16."""
    return max(16, CACHE_BYTES // (2 * itemsize << num_qubits))


def bytes_of_program(num_qubits: int, vectors: int) -> int:
    """Forecast what a program takes whose operations hold vectors of 2^n entries."""
    return BYTES_PER_ENTRY * vectors + BYTES_PER_QUBIT * num_qubits << num_qubits


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


def check_memory_of_states(
    rows: int, num_qubits: int, dtype: torch.dtype, turns: int, limit_gib: float
) -> None:
    """Refuse an evaluation in plain operations that would not fit.

    Args:
        rows: Number of circuits.
        num_qubits: Number of qubits.
        dtype: Precision of the evaluation.
        turns: Number of states on the way, all of which are kept.
        limit_gib: The limit in GiB.

    Raises:
        ValueError: If more bytes are needed than the limit allows.
    """
    needed = STATES_PER_TURN * turns * rows * (2 * dtype.itemsize << num_qubits)
    if needed > limit_gib * 2**30:
        raise ValueError(
            f"Cannot differentiate {rows} circuit(s) of {num_qubits} qubits this way: torch.func, "
            f"forward mode and higher derivatives keep every state on the way, about "
            f"{in_words(needed)}, over the limit of {in_words(limit_gib * 2**30)}. Use smaller "
            "batches or `chunk_size` of torch.func, or raise `memory_limit_gib`."
        )


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


_NOTHING = nullcontext()
_MATMUL = torch.backends.cuda.matmul
Function = TypeVar("Function")


def in_full_precision(device_type: str) -> AbstractContextManager[Any]:
    """Return a context in which matrix products of angles and states keep their precision.

    Autocast would round them to 8 or 11 bits, TF32 on CUDA to 11: errors of 1e-3 in a readout.
    """
    casts = device_type != "meta" and torch.is_autocast_enabled(device_type)
    if not casts and device_type != "cuda":
        return _NOTHING
    stack = ExitStack()
    if casts:
        stack.enter_context(torch.autocast(device_type, enabled=False))
    if device_type == "cuda":
        stack.enter_context(without_tf32())
    return stack


@contextmanager
def without_tf32() -> Iterator[None]:
    """Switch TF32 off for matrix products on CUDA, and back to what it was.

    Torch has an older and a newer setting, and refuses to read one after the other was changed: so
    whichever the user has chosen is changed, and put back.
    """
    older = _older_setting()
    if older in ("high", "medium"):
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(older)
    elif hasattr(_MATMUL, "fp32_precision"):  # since torch 2.9
        newer = _MATMUL.fp32_precision
        _MATMUL.fp32_precision = "ieee"
        try:
            yield
        finally:
            _MATMUL.fp32_precision = newer
    else:
        yield


def _older_setting() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # the newer one was changed
        return None


def eagerly(function: Function) -> Function:
    """Keep a function as it is where a whole model is compiled: it keeps plans between calls.

    The option `torch_compile` of a circuit compiles what is worth it.
    """
    return cast(Function, torch.compiler.disable(function))

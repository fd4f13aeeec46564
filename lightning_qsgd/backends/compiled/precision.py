"""Keeps evaluations out of autocast, of TF32 and of an outer torch.compile."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, TypeVar, cast

import torch

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

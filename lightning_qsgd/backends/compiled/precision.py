"""Keeps evaluations out of autocast and of an outer torch.compile."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast

import torch

_NOTHING = nullcontext()
Function = TypeVar("Function")


def without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Return a context in which matrix products of angles and states keep their precision."""
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return _NOTHING


def eagerly(function: Function) -> Function:
    """Keep a function as it is where a whole model is compiled: it keeps plans between calls.

    The option `torch_compile` of a circuit compiles what is worth it.
    """
    return cast(Function, torch.compiler.disable(function))

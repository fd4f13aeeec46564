"""Derivatives that a fast way back does not give: second ones, forward mode, `torch.func`.

A fast function computes values and first gradients by hand and hides both from torch. For all else
there is a slow twin of it in plain operations, which torch can differentiate as often as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor
from torch._functorch.pyfunctorch import (
    VmapInterpreter,
    retrieve_all_functorch_interpreters,
    temporarily_clear_interpreter_stack,
)
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes

Plain = Callable[..., Tensor]
"""A function of tensors in plain, differentiable operations that change nothing in place."""


def is_transformed() -> bool:
    """Whether `torch.func` or forward mode is at work: they follow plain operations alone."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_traced() -> bool:
    """Whether `torch.jit.trace` records: no branch may then be taken by the number of rows."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def asks_for_more(cotangent: Tensor) -> bool:
    """Whether a backward pass has to be in plain operations, since it is differentiated or mapped.

    Args:
        cotangent: What the backward pass was given.
    """
    create_graph = torch.is_grad_enabled()
    return create_graph or is_transformed() or is_legacy_batchedtensor(cotangent)


def pull_back(plain: Plain, arguments: tuple[Tensor, ...], cotangent: Tensor) -> tuple[Any, ...]:
    """Return the gradients of a function's arguments so that they can be differentiated again.

    Args:
        plain: The function.
        arguments: Where it is evaluated.
        cotangent: Gradient of the loss by its values.

    Returns:
        One gradient for each argument, differentiable by arguments and cotangent.

    Example:
        >>> x = torch.tensor(2.0, requires_grad=True)
        >>> (gradient,) = pull_back(lambda value: value**3, (x,), torch.tensor(1.0))
        >>> torch.autograd.grad(gradient, x)  # 6 x
        (tensor(12.),)
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        aliases = [_alias(argument) for argument in arguments]
        values = plain(*aliases)
    return torch.autograd.grad(
        values, aliases, cotangent, create_graph=create_graph, materialize_grads=True
    )


def _alias(argument: Tensor) -> Tensor:
    """Return a tensor whose gradient is that of the argument, but stops short of its history."""
    return argument.view_as(argument) if argument.requires_grad else _leaf(argument)


def _leaf(argument: Tensor) -> Tensor:
    return argument.detach().requires_grad_()


@contextmanager
def to_be_kept() -> Iterator[None]:
    """Make tensors that outlive the call, whatever surrounds it.

    Those made in inference mode can carry no gradient later, those made inside of a transform of
    `torch.func` cannot be used after it, and `torch.jit.trace` takes those made while it traces as
    part of its graph. `torch.export` would make fake ones, and a default device, such as meta on
    which large models are built, ones without numbers: here they are made on the CPU unless the
    caller names a device.
    """
    traced = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        with (
            torch.inference_mode(False),
            temporarily_clear_interpreter_stack(),
            _disable_current_modes(),
            torch.device("cpu"),
        ):
            yield
    finally:
        torch._C._set_tracing_state(traced)  # type: ignore[attr-defined]


def mapped_copies() -> int:
    """Return how many evaluations `torch.func.vmap` makes of one call, 1 outside of it."""
    if not torch._C._are_functorch_transforms_active():
        return 1
    levels = retrieve_all_functorch_interpreters()
    return prod(level.batch_size() for level in levels if isinstance(level, VmapInterpreter))

"""Runs the step hooks that users registered on the wrapper itself.

torch runs hooks by patching `step`, global ones included. The base's own `step` is patched and
fires the global hooks already; firing them for the wrapper as well would count each step twice.
"""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

Closure = Callable[[], Any] | None


def run_pre_hooks(
    optimizer: Optimizer, closure: Closure, kwargs: dict[str, Any]
) -> tuple[Closure, dict[str, Any]]:
    """Run the pre-hooks; return the closure and keywords that they leave.

    Raises:
        RuntimeError: If a hook returns something else than None or (args, kwargs).
    """
    for hook in optimizer._optimizer_step_pre_hooks.values():
        changed = hook(optimizer, _arguments(optimizer, closure), kwargs)
        if changed is None:
            continue
        if not (isinstance(changed, tuple) and len(changed) == 2):
            raise RuntimeError(
                f"A step pre-hook returned {changed!r}: the step cannot be called with it. Return "
                "None or a tuple (args, kwargs)."
            )
        arguments, kwargs = changed[0], dict(changed[1])
        closure = arguments[1] if len(arguments) > 1 else kwargs.pop("closure", None)
    return closure, kwargs


def run_post_hooks(optimizer: Optimizer, closure: Closure, kwargs: dict[str, Any]) -> None:
    """Run the post-hooks, after the perturbation was applied."""
    for hook in optimizer._optimizer_step_post_hooks.values():
        hook(optimizer, _arguments(optimizer, closure), kwargs)


def _arguments(optimizer: Optimizer, closure: Closure) -> tuple[Any, ...]:
    return (optimizer,) if closure is None else (optimizer, closure)

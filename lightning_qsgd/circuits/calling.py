"""Calls a function that a config names."""

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from typing import Any


def call_by_name(path: str, arguments: Mapping[str, Any]) -> Any:
    """Import a function and call it.

    Args:
        path: Module and name of the function, joined by dots.
        arguments: Its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        ValueError: If there is no such function, or it does not take the arguments.

    Example:
        >>> call_by_name("fractions.Fraction", {"numerator": 1, "denominator": 2})
        Fraction(1, 2)
    """
    function = _imported(path)
    try:
        signature(function).bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"Cannot call {path} with the arguments {sorted(arguments)}: {error}. Give those of "
            f"{signature(function)}."
        ) from error
    return function(**arguments)


def _imported(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name) if module else None
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"Cannot import {path!r}: {error}. Give the module and the name of a function, joined "
            "by dots; the module must be installed or on the PYTHONPATH."
        ) from error
    if not callable(found):
        raise ValueError(
            f"Cannot call {path!r}: it names no function. Give the module and the name of a "
            "function, joined by dots."
        )
    return found  # type: ignore[no-any-return]

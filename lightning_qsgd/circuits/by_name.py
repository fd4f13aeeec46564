"""A user's functions, called by the names that configs have for them."""

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from traceback import extract_tb
from typing import Any


def call_by_name(path: str, arguments: Mapping[str, Any]) -> Any:
    """Import a function and call it.

    Args:
        path: Module and name of the function, joined by dots.
        arguments: Its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        ValueError: If there is no such function, it does not take the arguments, or it raises.

    Example:
        >>> call_by_name("fractions.Fraction", {"numerator": 1, "denominator": 2})
        Fraction(1, 2)
    """
    function = imported(path)
    try:
        signature(function).bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"Cannot call {path} with the arguments {sorted(arguments)}: {error}. Give those of "
            f"{signature(function)}."
        ) from error
    try:
        return function(**arguments)
    except Exception as error:  # whatever a user's function raises
        place = extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"Cannot use what {path} returns: it raised {type(error).__name__} in "
            f"{place.filename}, line {place.lineno}: {error}. Correct the function, or the "
            "arguments that it is called with."
        ) from error


def imported(path: str) -> Callable[..., Any]:
    """Import a function.

    Args:
        path: Module and name of the function, joined by dots.

    Raises:
        ValueError: If there is no such function.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name) if module else None
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"Cannot import {path!r}: {error}. Give the module and the name of a function, joined "
            "by dots; the module must be installed or on the PYTHONPATH."
        ) from error
    if not callable(found):
        remedy = "Give the module and the name of a function, joined by dots."
        raise ValueError(f"Cannot call {path!r}: it names no function. {remedy}")
    return found  # type: ignore[no-any-return]

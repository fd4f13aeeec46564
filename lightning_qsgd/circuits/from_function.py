"""Circuits that a function of the user returns, from Python or named in a config."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from typing import Any

from typing_extensions import override

from lightning_qsgd.circuits.parametrized import CircuitSource, ParametrizedCircuit


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


REMEDY = "Return a ParametrizedCircuit, or a tuple (circuit, inputs, weights)."


@dataclass(frozen=True)
class CircuitFromFunction(CircuitSource):
    """Builds a circuit by calling a function that can be imported.

    Args:
        function: Module and name of the function, e.g. ``"my_package.circuits.ansatz"``. It
            returns a `ParametrizedCircuit` or a tuple (circuit, inputs, weights).
        arguments: Its keyword arguments.

    Raises:
        ValueError: When it is built, if there is no such function, it does not take the
            arguments, or its parameters have no clear roles.
        TypeError: When it is built, if the function returns something else.

    Example:
        >>> source = CircuitFromFunction(
        ...     "lightning_qsgd.circuits.superposition_circuit", {"num_qubits": 2}
        ... )
        >>> source.build().num_qubits
        2
    """

    function: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", deepcopy(dict(self.arguments)))

    @override
    def build(self) -> ParametrizedCircuit:
        returned = call_by_name(self.function, self.arguments)
        if isinstance(returned, ParametrizedCircuit):
            return returned
        if isinstance(returned, tuple) and len(returned) == 3:
            return ParametrizedCircuit(*returned)
        raise TypeError(
            f"{self.function} returned {type(returned).__name__}, from which the roles of the "
            f"parameters cannot be told. {REMEDY}"
        )

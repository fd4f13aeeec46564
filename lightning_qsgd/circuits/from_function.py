"""A circuit that a function builds, named in a config."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from lightning_qsgd.circuits.calling import call_by_name
from lightning_qsgd.circuits.parametrized import CircuitSource, ParametrizedCircuit

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

    def build(self) -> ParametrizedCircuit:
        """Import and call the function; see `CircuitSource.build`."""
        returned = call_by_name(self.function, self.arguments)
        if isinstance(returned, ParametrizedCircuit):
            return returned
        if isinstance(returned, tuple) and len(returned) == 3:
            return ParametrizedCircuit(*returned)
        raise TypeError(
            f"{self.function} returned {type(returned).__name__}, from which the roles of the "
            f"parameters cannot be told. {REMEDY}"
        )

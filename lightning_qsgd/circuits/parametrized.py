"""A circuit whose parameters have roles, and where such circuits come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from qiskit.circuit import Parameter, QuantumCircuit


class CircuitSource(ABC):
    """Something that a circuit is built from: a recipe, a function, a file, or a circuit itself.

    Sources are what configs name; backends and layers build the circuit when they need it.
    """

    @abstractmethod
    def build(self) -> ParametrizedCircuit:
        """Build the circuit.

        Raises:
            ValueError: If no circuit can be built from this source.
        """


class ParametrizedCircuit(CircuitSource):
    """A parametrised circuit together with the roles of its parameters.

    Two of them are equal only if they are the same object.

    Args:
        circuit: The circuit; measurements, if any, come last.
        inputs: Parameters that take data: model parameters, or the inputs of a layer.
        weights: Parameters of the circuit itself, in radians.

    Raises:
        TypeError: If an argument is no circuit or no sequence of parameters.
        ValueError: If a parameter has two roles or none, or is not one of the circuit's.

    Example:
        >>> from qiskit.circuit import Parameter, QuantumCircuit
        >>> x, w = Parameter("x"), Parameter("w")
        >>> circuit = QuantumCircuit(1)
        >>> _ = circuit.ry(x + w, 0)
        >>> ParametrizedCircuit(circuit, inputs=[x], weights=[w]).num_qubits
        1
    """

    def __init__(
        self,
        circuit: QuantumCircuit,
        inputs: Sequence[Parameter],
        weights: Sequence[Parameter] = (),
    ) -> None:
        _check_circuit(circuit)
        self.circuit = circuit
        self.inputs = _parameters(inputs)
        self.weights = _parameters(weights)
        _check_roles(set(circuit.parameters), [*self.inputs, *self.weights])

    @classmethod
    def of_network(cls, network: Any) -> ParametrizedCircuit:
        """Take the circuit and its roles from a qiskit-machine-learning network.

        Args:
            network: A `SamplerQNN`.
        """
        return cls(network.circuit, network.input_params, network.weight_params)

    @property
    def num_qubits(self) -> int:
        """Number of qubits."""
        return int(self.circuit.num_qubits)

    @property
    def num_weight_angles(self) -> int:
        """Number of gate angles that depend on a weight."""
        own = set(self.weights)
        angles = [angle for gate in self.circuit.data for angle in gate.operation.params]
        return sum(bool(own & set(getattr(angle, "parameters", ()))) for angle in angles)

    def build(self) -> ParametrizedCircuit:
        """Return the circuit itself; see `CircuitSource.build`."""
        return self


def _check_circuit(circuit: object) -> None:
    if not isinstance(circuit, QuantumCircuit):
        raise TypeError(
            f"Expected a QuantumCircuit, got {type(circuit).__name__}: gates and parameters are "
            "read from it. Pass the circuit itself."
        )


def _parameters(given: Any) -> tuple[Parameter, ...]:
    parameters = (None,) if isinstance(given, str | Parameter) else tuple(given)
    if not all(isinstance(parameter, Parameter) for parameter in parameters):
        raise TypeError(
            f"Expected a sequence of Parameters, got {given!r}: inputs and weights are told apart "
            "by the circuit's own parameters. Pass e.g. [x], or a ParameterVector."
        )
    return parameters


def _check_roles(present: set[Parameter], given: list[Parameter]) -> None:
    twice = {parameter.name for parameter in given if given.count(parameter) > 1}
    foreign = {parameter.name for parameter in given if parameter not in present}
    missing = {parameter.name for parameter in present - set(given)}
    if twice or foreign or missing:
        problems = [
            f"{', '.join(sorted(names))} {problem}"
            for names, problem in (
                (twice, "given twice"),
                (foreign, "not in the circuit"),
                (missing, "in the circuit without a role"),
            )
            if names
        ]
        raise ValueError(
            f"Cannot tell inputs from weights: {'; '.join(problems)}. Give each parameter of the "
            "circuit once, as an input or as a weight."
        )

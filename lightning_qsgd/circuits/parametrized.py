"""A circuit whose parameters have roles, and where such circuits come from."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.exceptions import QiskitError
from typing_extensions import override

from lightning_qsgd.argument_checks import in_order
from lightning_qsgd.circuits.expansion import angles_of, described, expanded, older_lines
from lightning_qsgd.circuits.measurements import (
    Interpret,
    Observable,
    PauliTerm,
    cells_of,
    observables_of,
    outcomes_of,
    places_of,
    read_as_written,
    unitary_part,
)

GENERIC_POINTS = 300
"""At so many points the angles are tried, to find one where all have values."""


class CircuitSource(ABC):
    """Something that a circuit is built from: a recipe, a function, a file, or a circuit itself.

    Sources are what configs name; backends and layers build the circuit when they need it, once.
    Equal sources of one `version` share it, unless their class, or that of a source inside, is a
    user's.
    """

    def version(self) -> Hashable:
        """Name what equal sources may differ in, such as what a file holds; None for nothing."""
        return None

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
        circuit: The circuit; measurements, if any, come last. Loops of fixed turns are written out,
            and time evolutions of terms that do not commute are replaced by the product formula of
            their synthesis (`expanded`).
        inputs: Parameters that take data: model parameters, or the inputs of a layer.
        weights: Parameters of the circuit itself, in radians.
        interpret: Maps a measured integer to an index, or a tuple of indices, of the output, as for
            `SamplerQNN`; None keeps the integer.
        output_shape: Shape of the output, required with `interpret`; by default 2 to the power of
            the measured bits, or of the qubits where nothing is measured.
        observables: What is read in place of probabilities: the expectation value of each
            `SparsePauliOp`, which may be any sum of Pauli strings; see `observables_of`.

    Raises:
        TypeError: If an argument is no circuit or no sequence of parameters, or has no order.
        ValueError: If a parameter has two roles or none, or is not one of the circuit's.

    Attributes:
        circuit: What is simulated, by every backend, for values and gradients.
        synthesized: What was replaced in it, with the synthesis that says by what.

    Example:
        >>> from qiskit.circuit import Gate, Instruction, Parameter, QuantumCircuit
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
        interpret: Interpret | None = None,
        output_shape: int | tuple[int, ...] | None = None,
        observables: Any = None,
    ) -> None:
        _check_circuit(circuit)
        if observables is not None and interpret is not None:
            raise ValueError(
                "Got `observables` and `interpret`: the outputs are expectation values or "
                "probabilities of outcomes. Give one of the two."
            )
        if interpret is not None and output_shape is None:
            raise ValueError(
                "Got `interpret` without `output_shape`: the size of the output is unknown. Give "
                "the number of values that `interpret` can return."
            )
        copied = circuit.copy()  # what is done to the user's circuit later is not compiled
        self.circuit, self.synthesized = expanded(copied)
        self.interpret = interpret
        count = circuit.num_qubits
        self.observables = None if observables is None else observables_of(observables, count)
        self._output_shape = output_shape if self.observables is None else len(self.observables)
        self.inputs = _parameters("inputs", inputs)
        self.weights = _parameters("weights", weights)
        _check_roles(set(circuit.parameters), [*self.inputs, *self.weights])

    @classmethod
    def of_network(cls, network: Any) -> ParametrizedCircuit:
        """Take the circuit and its roles from a qiskit-machine-learning network.

        Args:
            network: A `SamplerQNN`, or an `EstimatorQNN` with its observables. One with a pass
                manager that moves what they act on brings a warning: `EstimatorQNN` reads them on
                the qubits of the device, also those that it makes up itself.
        """
        roles = network.input_params, network.weight_params
        if hasattr(network, "observables"):
            built = cls(network.circuit, *roles, observables=network.observables)
            _warn_of_moved_observables(network, built)
            return built
        default = getattr(network.interpret, "__qualname__", "") == _DEFAULT_INTERPRET
        return cls(
            read_as_written(network.circuit),
            *roles,
            None if default else network.interpret,
            tuple(network.output_shape),
        )

    @property
    def num_qubits(self) -> int:
        """Number of qubits."""
        return int(self.circuit.num_qubits)

    @property
    def num_own_qubits(self) -> int:
        """Number of qubits of the circuit as it was written: a transpiler may have added some."""
        return len(places_of(self.circuit))

    @cached_property
    def digest(self) -> str:
        """Name what the circuit does, in 16 digits: gates, angles, wires, phases and observables.

        Names of parameters, registers and composite gates do not count. Angles are compared at one
        generic value of all inputs and weights.
        """
        roles = len(self.inputs), len(self.weights)
        said = repr((roles, described(self._generic()), self.observables))
        return sha256(said.encode()).hexdigest()[:16]

    @cached_property
    def older_digest(self) -> str | None:
        """What version 0.2 named the circuit, in 12 digits; None where it failed.

        Other circuits may have the same one: it knows library gates by name and angles only.
        """
        shape = f"{len(self.inputs)} inputs, {len(self.weights)} weights"
        try:
            lines = [shape, *older_lines(self._generic())]
        except (AttributeError, TypeError, ValueError):
            return None
        return sha256("\n".join(lines).encode()).hexdigest()[:12]

    def _generic(self) -> QuantumCircuit:
        """Bind generic values, always the same; others where some angle has none there."""
        roles = [*self.inputs, *self.weights]
        values = [0.1 + (0.7548776662 * place) % 1.0 for place in range(len(roles))]
        for again in range(GENERIC_POINTS):
            with suppress(QiskitError, RuntimeError):  # such as the logarithm of what is negative
                return self.circuit.assign_parameters(dict(zip(roles, values, strict=True)))
            largest = (2.0, 10.0, 100.0)[again % 3]
            values = np.random.default_rng(again).uniform(-largest, largest, len(roles)).tolist()
        raise ValueError(
            f"Cannot name the circuit: its angles have no values at {GENERIC_POINTS} points that "
            "were tried, so that its weights in a checkpoint could not be told from another's. "
            "Write the angles so that they are defined for most parameters."
        )

    @property
    def num_weight_angles(self) -> int:
        """Number of gate angles that depend on a weight, also inside of gates."""
        own = set(self.weights)
        angles = angles_of(self.circuit)
        return sum(bool(own & set(getattr(angle, "parameters", ()))) for angle in angles)

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output of one circuit: probabilities of all outputs, or observables.

        Raises:
            ValueError: If no outcome can be read from the circuit's measurements.
        """
        if self._output_shape is None:
            return (2 ** len(unitary_part(self.circuit)[1]),)
        shape = self._output_shape
        return (shape,) if isinstance(shape, int) else tuple(shape)

    def output_cells(self) -> np.ndarray:
        """Return the flat index of the output to which each basis state adds, shape (2^n,).

        Raises:
            ValueError: If no outcome can be read, or `interpret` leaves the output.
        """
        outcomes = outcomes_of(self.num_qubits, unitary_part(self.circuit)[1])
        return cells_of(outcomes, self.interpret, self.output_shape)

    @override
    def build(self) -> ParametrizedCircuit:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Replace an `interpret` that pickle cannot store, such as a lambda, by its numbers."""
        if "<" not in getattr(self.interpret, "__qualname__", ""):
            return self.__dict__
        count = 2 ** len(unitary_part(self.circuit)[1])
        table = _Table([self.interpret(outcome) for outcome in range(count)])  # type: ignore[misc]
        return self.__dict__ | {"interpret": table}


@dataclass(frozen=True)
class ObservedCircuit(CircuitSource):
    """Reads observables from a circuit of any source, for configs and for Python.

    Args:
        circuit: The circuit.
        observables: For each output, the Pauli strings in qiskit's order (the last letter is qubit
            0) and their weights. A perturbation takes one for each input.

    Raises:
        TypeError: When it is built, if something is no observable.
        ValueError: When it is built, if an observable does not fit the circuit.

    Example:
        >>> from lightning_qsgd.circuits import SuperpositionCircuit
        >>> observed = ObservedCircuit(SuperpositionCircuit(2), [{"ZZ": 0.5, "XI": 0.5}])
        >>> observed.build().output_shape
        (1,)
    """

    circuit: CircuitSource
    observables: Sequence[Mapping[str, float]] = field(hash=False)

    @override
    def version(self) -> Hashable:
        return self.circuit.version()

    @override
    def build(self) -> ParametrizedCircuit:
        built = self.circuit.build()
        return ParametrizedCircuit(
            built.circuit, built.inputs, built.weights, observables=self.observables
        )


@dataclass(frozen=True)
class _Table:
    """Maps outcomes to what they were interpreted as.

    Args:
        indices: That of each outcome.
    """

    indices: list[int | Sequence[int]]

    def __call__(self, outcome: int) -> int | Sequence[int]:
        return self.indices[outcome]


_DEFAULT_INTERPRET = "SamplerQNN.set_interpret.<locals>.<lambda>"
"""The name of what `SamplerQNN` itself sets, which keeps the integer."""


def _warn_of_moved_observables(network: Any, built: ParametrizedCircuit) -> None:
    """Warn where qubits may have been moved away from the observables of a network.

    Whoever transpiles a circuit moves its observables, too. A pass manager of the network moves
    none, and those that `EstimatorQNN` makes up are on the first qubits of the device.
    """
    places = dict(enumerate(places_of(built.circuit)))
    held = sum(1 << place for place in places.values())
    observables = built.observables or ()
    terms = {term for observable in observables for term in observable}
    beside = any((term.x | term.z) & ~held for term in terms)
    passes = getattr(network.gradient, "_pass_manager", None) is not None
    if beside or (passes and any(_moved(each, places) != set(each) for each in observables)):
        warnings.warn(
            "The transpiler has moved the qubits of the EstimatorQNN, and its observables are read "
            "on the qubits of the device. If they are those of the circuit as it is written, "
            "transpile it first: `circuit = pass_manager.run(circuit)`. Give the network this "
            "circuit, and `observable.apply_layout(circuit.layout)` for each observable. If they "
            "are moved already, nothing is to be done.",
            stacklevel=3,
        )


def _moved(observable: Observable, places: dict[int, int]) -> set[PauliTerm]:
    """Return the terms on the places of their qubits; a qubit that has none stays."""

    def shifted(bits: int) -> int:
        qubits = [qubit for qubit in range(bits.bit_length()) if bits >> qubit & 1]
        return sum(1 << places.get(qubit, qubit) for qubit in qubits)

    return {PauliTerm(shifted(x), shifted(z), weight) for x, z, weight in observable}


def _check_circuit(circuit: object) -> None:
    if not isinstance(circuit, QuantumCircuit):
        raise TypeError(
            f"Expected a QuantumCircuit, got {type(circuit).__name__}: gates and parameters are "
            "read from it. Pass the circuit itself."
        )


def _parameters(name: str, given: Any) -> tuple[Parameter, ...]:
    parameters = (None,) if isinstance(given, str | Parameter) else in_order(name, given)
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

"""Circuits of the user's own: in a file, or returned by a function; named in a config."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from qiskit import qasm2, qasm3, qpy
from qiskit.circuit import Parameter, QuantumCircuit
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


@dataclass(frozen=True)
class CircuitFromFile(CircuitSource):
    """Reads a circuit from a file; the parameters that are no inputs are its weights.

    Args:
        path: A QPY file (``.qpy``) or OpenQASM 2 or 3 (``.qasm``, ``.qasm3``). OpenQASM 2 has no
            free parameters, so that only complete circuits can be read from it.
        inputs: Names of the input parameters in their order; the name of a vector stands for its
            elements. A single name may stand alone.

    Raises:
        FileNotFoundError: When it is built, if there is no such file.
        ModuleNotFoundError: When it is built, if OpenQASM 3 needs an importer.
        ValueError: When it is built, if the file holds no circuit or not those inputs.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from lightning_qsgd.circuits import superposition_circuit
        >>> with TemporaryDirectory() as folder:
        ...     path = f"{folder}/circuit.qpy"
        ...     with open(path, "wb") as file:
        ...         qpy.dump(superposition_circuit(num_qubits=2).circuit, file)
        ...     built = CircuitFromFile(path, inputs="x").build()
        >>> len(built.inputs), len(built.weights)
        (2, 8)
    """

    path: str
    inputs: tuple[str, ...] | str

    def __post_init__(self) -> None:
        names = (self.inputs,) if isinstance(self.inputs, str) else tuple(self.inputs)
        object.__setattr__(self, "inputs", names)
        object.__setattr__(self, "path", str(self.path))

    @override
    def build(self) -> ParametrizedCircuit:
        path = Path(self.path)
        if not path.is_file():
            raise FileNotFoundError(
                f"Cannot read a circuit from {self.path!r}: there is no such file. Give a path "
                f"from the working directory, which is {Path.cwd()}."
            )
        circuit = _from_qpy(path) if path.suffix == ".qpy" else _from_text(path)
        inputs = [parameter for name in self.inputs for parameter in _named(name, circuit)]
        weights = [parameter for parameter in circuit.parameters if parameter not in inputs]
        return ParametrizedCircuit(circuit, inputs, weights)


def _from_qpy(path: Path) -> QuantumCircuit:
    try:
        with path.open("rb") as file:
            circuits = qpy.load(file)
    except Exception as error:
        raise _unreadable(path, error, "Write it with `qiskit.qpy.dump`.") from error
    if len(circuits) != 1:
        raise ValueError(
            f"Cannot choose between the {len(circuits)} circuits of {path}: a source is one "
            "circuit. Write them to files of their own."
        )
    return circuits[0]


def _from_text(path: Path) -> QuantumCircuit:
    text = path.read_text()
    newer = "OPENQASM 3" in text
    if newer and find_spec("qiskit_qasm3_import") is None:
        raise ModuleNotFoundError(
            f"Cannot read {path}: qiskit needs qiskit-qasm3-import for OpenQASM 3. Run `pip "
            "install qiskit-qasm3-import`, or write the circuit as QPY."
        )
    try:
        return qasm3.loads(text) if newer else qasm2.loads(text)
    except Exception as error:
        remedy = "Give a QPY file (.qpy) or a program of OpenQASM 2 or 3."
        raise _unreadable(path, error, remedy) from error


def _unreadable(path: Path, error: Exception, remedy: str) -> ValueError:
    return ValueError(f"Cannot read a circuit from {path}: {error}. {remedy}")


def _named(name: str, circuit: QuantumCircuit) -> list[Parameter]:
    """Return the parameter of this name, or the elements of the vector, in their order."""
    found = [
        parameter
        for parameter in circuit.parameters  # the elements of a vector come in their order
        if name in (parameter.name, getattr(getattr(parameter, "vector", None), "name", None))
    ]
    if not found:
        present = ", ".join(parameter.name for parameter in circuit.parameters)
        raise ValueError(
            f"Cannot find the input {name!r}: the circuit has "
            f"{f'the parameters {present}' if present else 'no free parameters'}. Name those that "
            "take data; OpenQASM 2 cannot hold any."
        )
    return found

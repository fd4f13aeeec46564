"""A circuit in a file, named in a config."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from qiskit import qasm2, qasm3, qpy
from qiskit.circuit import Parameter, QuantumCircuit
from typing_extensions import override

from lightning_qsgd.circuits.parametrized import CircuitSource, ParametrizedCircuit


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

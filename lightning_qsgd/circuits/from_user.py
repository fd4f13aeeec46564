"""Circuits of the user's own: in a file, or returned by a function; named in a config."""

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from io import StringIO
from math import pi
from pathlib import Path
from typing import Any, NoReturn

from qiskit import qasm2, qasm3, qpy
from qiskit.circuit import Parameter, ParameterVector, QuantumCircuit
from typing_extensions import override

from lightning_qsgd.argument_checks import in_order
from lightning_qsgd.circuits.by_name import call_by_name, imported
from lightning_qsgd.circuits.parametrized import CircuitSource, ParametrizedCircuit

WRITE_OUT = "Write the gates out, or write the circuit as QPY with `qiskit.qpy.dump`."
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
            arguments, it raises an error, or its parameters have no clear roles.
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
    def version(self) -> Hashable:
        found = imported(self.function)  # another object once its module was reloaded
        return found if isinstance(found, Hashable) else id(found)

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
        path: A QPY file (``.qpy``), or OpenQASM 2 or 3 in UTF-8; which of them, the text says.
            OpenQASM 2 has no free parameters. Those of OpenQASM 3 come in the order of their
            declarations, and ``x_0, x_1, ...`` are the vector x again, as which qiskit wrote them.
        inputs: Names of the input parameters in their order; the name of a vector stands for its
            elements. A single name may stand alone.

    Raises:
        TypeError: If the names have no order.
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
        names = (self.inputs,) if isinstance(self.inputs, str) else in_order("inputs", self.inputs)
        object.__setattr__(self, "inputs", names)
        object.__setattr__(self, "path", str(self.path))

    @override
    def version(self) -> Hashable:
        return sha256(b"\0\0".join(_contents(Path(self.path), set()))).hexdigest()

    @override
    def build(self) -> ParametrizedCircuit:
        path = Path(self.path)
        if not path.is_file():
            raise FileNotFoundError(
                f"Cannot read a circuit from {self.path!r}: there is no such file. Give a path "
                f"from the working directory, which is {Path.cwd()}."
            )
        circuit, parameters = (_from_qpy if path.suffix == ".qpy" else _from_text)(path)
        inputs = [parameter for name in self.inputs for parameter in _named(name, parameters)]
        weights = [parameter for parameter in parameters if parameter not in inputs]
        return ParametrizedCircuit(circuit, inputs, weights)


def _contents(path: Path, known: set[Path]) -> Iterator[bytes]:
    """Yield what a file holds, and the files beside it that it includes, each once."""
    path = path.resolve()
    if path in known or not path.is_file():
        return
    known.add(path)
    yield (content := path.read_bytes())
    for name in re.findall(rb'\binclude\s+"([^"\n\0]+)"', content):
        yield from _contents(path.parent / name.decode(errors="replace"), known)


Read = tuple[QuantumCircuit, list[Parameter]]
"""A circuit, and its parameters in their order."""


def _from_qpy(path: Path) -> Read:
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
    return circuits[0], list(circuits[0].parameters)


def _from_text(path: Path) -> Read:
    text = _text_of(path)
    if not re.sub(r'\bOPENQASM\b[^;]*;|\binclude\s*"(?:stdgates|qelib1).inc"\s*;|[;\s]', "", text):
        remedy = "Give a program of OpenQASM 2 or 3, or a QPY file (.qpy)."
        raise _unreadable(path, "it holds no statement", remedy)
    version = re.search(r"\bOPENQASM\s+(\d+)", text)
    older = '"qelib1.inc"' in text if version is None else version[1] == "2"
    return (_from_qasm2 if older else _from_qasm3)(path, text)


def _text_of(path: Path) -> str:
    """Return the text with comments blanked out; lines keep their numbers."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        reason = f"line {line} holds the byte 0x{content[error.start]:02x}, which is not UTF-8"
        remedy = "Save a program of OpenQASM 2 or 3 as UTF-8, and name a QPY file .qpy."
        raise _unreadable(path, reason, remedy) from error
    words_or_comment = r'("[^"\n]*")|//[^\n]*|/\*.*?\*/'
    blank = lambda found: found[1] or "\n" * found[0].count("\n")  # noqa: E731
    return re.sub(words_or_comment, blank, text, flags=re.DOTALL)


def _from_qasm2(path: Path, text: str) -> Read:
    text = _with_includes(path, text, {path.name: "", "qelib1.inc": 'include "qelib1.inc";'})
    defined = set(re.findall(r"\bgate\s+(\w+)", text))
    # What qiskit writes without a definition: sx, p, cp, rzz, swap, cswap, ... With a definition
    # of the file's, a name stands for that.
    known = [each for each in qasm2.LEGACY_CUSTOM_INSTRUCTIONS if each.name not in defined]
    try:
        circuit = qasm2.loads(
            text,
            custom_instructions=known,
            custom_classical=qasm2.LEGACY_CUSTOM_CLASSICAL,
        )
    except Exception as error:
        raise _unreadable(path, _with_line(error), CORRECT) from error
    return circuit, []


def _from_qasm3(path: Path, text: str) -> Read:
    if find_spec("qiskit_qasm3_import") is None:
        raise ModuleNotFoundError(
            f"Cannot read {path}: qiskit needs qiskit-qasm3-import for OpenQASM 3. Run `pip "
            "install qiskit-qasm3-import`, or write the circuit as QPY."
        )
    standard = dict.fromkeys(("stdgates.inc", "qelib1.inc"), 'include "stdgates.inc";')
    text = _without_constants(path, _with_includes(path, text, {path.name: "", **standard}))
    _refuse_what_runs(path, text)
    said = StringIO()
    try:
        with redirect_stderr(said):  # where the parser says what is wrong, and in which line
            circuit = qasm3.loads(_with_one_register(text))
    except Exception as error:
        reason = _with_line(error) or _with_line(said.getvalue())
        raise _unreadable(path, reason or type(error).__name__, CORRECT) from error
    return _with_vectors(circuit, re.findall(r"\binput\b[^;]*?(\w+)\s*;", text))


def _with_includes(path: Path, text: str, known: Mapping[str, str]) -> str:
    """Put files that lie beside this one in the place of their includes, each on one line.

    Args:
        path: The file.
        text: Its text.
        known: What stands in the place of the standard files; nothing for those that are open.
    """

    def content(found: re.Match[str]) -> str:
        name, beside = found[1], path.parent / found[1]
        if known.get(name):
            return known[name]
        if name in known:
            _refuse_line(path, text, found.start(), f"it includes {name!r}, which includes it")
        if not beside.is_file():
            _refuse_line(path, text, found.start(), f"it includes {name!r}, which is not beside it")
        inner = re.sub(r"\bOPENQASM\b[^;]*;", "", _text_of(beside))
        return _with_includes(beside, inner, {**known, name: ""}).replace("\n", " ")

    return re.sub(r'\binclude\s+"([^"]*)"\s*;', content, text)


def _without_constants(path: Path, text: str) -> str:
    """Put the values of constants in their place: qiskit's importer knows inputs only."""
    declared = r"\b(?:const\s+)?(float|angle|int|uint)(?:\[(\d+)\])?\s+(\w+)\s*=([^;]*);"
    while (found := re.search(declared, text)) is not None:
        kind, width, name, value = found.groups()
        rest = text[found.end() :]
        changed = re.search(rf"\b{name}\s*(?:[-+*/]|<<|>>)?=(?!=)", rest)
        if changed is not None:
            place = found.end() + changed.start()
            _refuse_line(path, text, place, f"it changes the variable {name!r} while it runs")
        hidden = re.search(rf"\bgate\b[^{{;]*\b{name}\b[^{{;]*\{{", rest)
        if hidden is not None:
            reason = f"the gate has a parameter or qubit {name!r}, which is a constant, too"
            _refuse_line(path, text, found.end() + hidden.start(), reason, f"Rename {name!r}.")
        try:
            value = _literal(kind, width, value.strip())
        except ValueError as reason:
            remedy = "Declare it a float of the value that you mean."
            _refuse_line(path, text, found.start(), f"the constant {name!r} {reason}", remedy)
        lines = "\n" * found[0].count("\n")
        text = text[: found.start()] + lines + re.sub(rf"\b{name}\b", f"({value})", rest)
    return text


def _literal(kind: str, width: str | None, value: str) -> str:
    """Write a constant as its type would: 3 / 2 is 1 of integers and 1.5 of floats."""
    try:
        with redirect_stderr(StringIO()):
            program = qasm3.loads(f'include "stdgates.inc"; qubit q; rx({value}) q;')
        number = float(program.data[0].operation.params[0])
    except Exception as error:
        if kind == "float":  # of inputs, or an error that is found with its line later
            return value
        raise ValueError(f"is no number, as its type {kind} asks for ({error!s:.60})") from error
    if kind == "float":
        return repr(number)
    bits, size = int(width or 64), "" if width is None else f"[{width}]"
    half = 2 ** (bits - 1)
    low, high = {"int": (-half, half), "uint": (0, 2 * half), "angle": (0, 2 * pi)}[kind]
    if not low <= number < high or (kind != "angle" and not number.is_integer()):
        raise ValueError(f"is {number:g}, which its type {kind}{size} would round or wrap")
    return repr(number) if kind == "angle" else str(int(number))


def _with_one_register(text: str) -> str:
    """Make the physical qubits $0, $1, ..., which transpilers write, a register in their order."""
    numbers = [int(number) for number in re.findall(r"\$(\d+)", text)]
    if not numbers:
        return text
    text = re.sub(r"\$(\d+)", r"physical_qubits[\1]", text)
    declaration = rf"\g<0> qubit[{max(numbers) + 1}] physical_qubits;"
    return re.sub(r"^\s*(?:OPENQASM[^;]*;)?", declaration, text, count=1)


def _refuse_what_runs(path: Path, text: str) -> None:
    words = "for|while|def|extern|defcal|cal|switch|pragma|array|return|end|box|duration|stretch"
    found = re.search(rf"(?<![\w@])(?:{words})\b", text)
    if found is not None:
        _refuse_line(path, text, found.start(), f"it uses `{found[0]}`, which is no gate to qiskit")


def _with_vectors(circuit: QuantumCircuit, declared: Sequence[str]) -> Read:
    """Restore vectors, and the order in which parameters were declared."""
    present = {parameter.name: parameter for parameter in circuit.parameters}
    order = [name for name in declared if name in present]
    restored: dict[str, Parameter] = {}
    for vector, names in _vectors_of(order).items():
        restored |= dict(zip(names, ParameterVector(vector, len(names)), strict=True))
    changes = {present[name]: element for name, element in restored.items()}
    parameters = [restored.get(name, present[name]) for name in order]
    return circuit.assign_parameters(changes), parameters


def _vectors_of(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the elements of each vector: ``_x_0_``, as qiskit writes them, or ``x_0``."""
    groups: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        found = re.fullmatch(r"(_?)(\w+?)_(\d+)(_?)", name)
        if found is not None and found[1] == found[4]:
            groups.setdefault((found[2], found[1]), {})[int(found[3])] = name
    return {
        vector: [elements[place] for place in range(len(elements))]
        for (vector, mark), elements in groups.items()
        if sorted(elements) == list(range(len(elements)))
        and (mark or len(elements) > 1)
        and vector not in names
    }


CORRECT = "Correct the line, or give a QPY file (.qpy) or another program of OpenQASM 2 or 3."


def _with_line(error: object) -> str:
    """Say "line 3" where qiskit's parsers say "<input>:3,5:" or "3,5:", or "line 3:5"."""
    text = str(getattr(error, "message", error)).strip("\"' \n")
    return re.sub(r"^(?:<input>:|line )?(\d+)[,:]\d+:? ", r"line \1: ", text)


def _refuse_line(path: Path, text: str, at: int, reason: str, remedy: str = WRITE_OUT) -> NoReturn:
    line = text[:at].count("\n") + 1
    raise _unreadable(path, f"line {line}: {reason}", remedy)


def _unreadable(path: Path, reason: object, remedy: str) -> ValueError:
    return ValueError(f"Cannot read a circuit from {path}: {reason}. {remedy}")


def _named(name: str, parameters: Sequence[Parameter]) -> list[Parameter]:
    """Return the parameter of this name, or the elements of the vector, in their order."""
    found = [
        parameter
        for parameter in parameters
        if name in (parameter.name, getattr(getattr(parameter, "vector", None), "name", None))
        or name == re.sub(r"\[(\d+)\]$", r"_\1", parameter.name)
    ]
    if not found:
        present = ", ".join(parameter.name for parameter in parameters)
        raise ValueError(
            f"Cannot find the input {name!r}: the circuit has "
            f"{f'the parameters {present}' if present else 'no free parameters'}. Name those that "
            "take data; OpenQASM 2 cannot hold any."
        )
    return sorted(found, key=lambda parameter: getattr(parameter, "index", 0))

"""Circuits from functions and files, as configs name them."""

import copy
import pickle
import sys
from copy import deepcopy
from dataclasses import dataclass
from importlib import reload
from math import sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import qasm2, qpy
from qiskit.circuit import Parameter, ParameterVector, QuantumCircuit

from lightning_qsgd.backends import CompiledBackend, SamplerBackend
from lightning_qsgd.circuits import (
    CircuitFromFile,
    CircuitFromFunction,
    CircuitSource,
    ObservedCircuit,
    ParametrizedCircuit,
    SuperpositionCircuit,
    from_user,
)
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import HiddenMatrices, Perturbation, SpectralInjection


def ansatz(num_qubits: int = 2, angle: float = 0.5) -> tuple[Any, Any, Any]:
    """A circuit as its parts."""
    x, w = ParameterVector("x", num_qubits), Parameter("w")
    circuit = QuantumCircuit(num_qubits)
    for qubit in range(num_qubits):
        circuit.ry(x[qubit] + w, qubit)
    circuit.rz(angle, 0)
    return circuit, x, [w]


def mapping() -> dict[str, Any]:
    return {}


def write(path: Path, *circuits: QuantumCircuit) -> str:
    with path.open("wb") as file:
        qpy.dump(list(circuits), file)
    return str(path)


def test_function_may_return_a_parametrized_circuit() -> None:
    path = "lightning_qsgd.circuits.superposition_circuit"
    source = CircuitFromFunction(path, {"num_qubits": 3, "reps": 1})
    values = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    expected = SamplerBackend(SuperpositionCircuit(3, reps=1), 1).readout(values)
    assert torch.equal(SamplerBackend(source, 1).readout(values), expected)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A module that a user has written, with the functions above."""
    code = Path(__file__).read_text().split("def mapping")[0].split("def ansatz")
    (tmp_path / "own_circuits.py").write_text(
        "from typing import Any\n"
        "from qiskit.circuit import Parameter, ParameterVector, QuantumCircuit\n"
        f"def ansatz{code[1]}\n\ndef mapping():\n    return {{}}\n\nNUMBER = 3\n"
        "def broken():\n    raise KeyError('boom')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "own_circuits"


def test_function_may_return_the_parts(module: str) -> None:
    built = CircuitFromFunction(f"{module}.ansatz", {"num_qubits": 3}).build()
    assert (built.num_qubits, len(built.inputs), len(built.weights)) == (3, 3, 1)


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "message"),
    [
        ("nothing", {}, ValueError, r"Cannot import '.*nothing': .*no attribute"),
        ("NUMBER", {}, ValueError, r"NUMBER': it names no function"),
        ("mapping", {}, TypeError, r"returned dict, from which .*Return a ParametrizedCircuit"),
        ("broken", {}, ValueError, r"own_circuits\.broken .*KeyError in .*line \d+: 'boom'\. Corr"),
        ("ansatz", {"qubits": 3}, ValueError, r"arguments \['qubits'\]: .*Give those of \(num_q"),
    ],
)
def test_function_that_builds_no_circuit_is_refused(
    name: str, arguments: dict[str, Any], kind: type[Exception], message: str, module: str
) -> None:
    with pytest.raises(kind, match=message):
        CircuitFromFunction(f"{module}.{name}", arguments).build()


@pytest.mark.parametrize(
    ("path", "message"),
    [("ansatz", r"'ansatz': it names no function"), ("no_such.module.f", r"No module named")],
)
def test_path_that_names_no_function_is_refused(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CircuitFromFunction(path).build()


def test_vector_stands_for_its_elements_in_their_order(tmp_path: Path) -> None:
    circuit, *_ = ansatz(num_qubits=12)
    built = CircuitFromFile(write(tmp_path / "c.qpy", circuit), "x").build()
    assert [p.name for p in built.inputs] == [f"x[{i}]" for i in range(12)]
    assert [p.name for p in built.weights] == ["w"]


def test_names_keep_their_own_order(tmp_path: Path) -> None:
    circuit, *_ = ansatz()
    built = CircuitFromFile(write(tmp_path / "c.qpy", circuit), ("x[1]", "w")).build()
    assert [p.name for p in built.inputs] == ["x[1]", "w"]
    assert [p.name for p in built.weights] == ["x[0]"]


def test_file_reads_out_as_the_circuit_that_was_written(tmp_path: Path) -> None:
    circuit, x, w = ansatz()
    values = torch.tensor([[0.1, 0.2]], dtype=torch.float64)
    read = SamplerBackend(CircuitFromFile(write(tmp_path / "c.qpy", circuit), "x"), 1)
    own = SamplerBackend(ParametrizedCircuit(circuit, x, w), 1)
    assert torch.equal(read.readout(values), own.readout(values))


def test_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"'no.qpy': there is no such file. Give a path"):
        CircuitFromFile("no.qpy", "x").build()


def test_file_that_is_no_circuit_is_refused(tmp_path: Path) -> None:
    for name, remedy in (("c.qpy", "qpy.dump"), ("c.qasm", "program of OpenQASM 2 or 3")):
        (tmp_path / name).write_text("hello")
        with pytest.raises(ValueError, match=rf"Cannot read a circuit from .*{remedy}"):
            CircuitFromFile(str(tmp_path / name), "x").build()


def test_file_of_several_circuits_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "c.qpy", ansatz()[0], ansatz()[0])
    with pytest.raises(ValueError, match=r"Cannot choose between the 2 circuits"):
        CircuitFromFile(path, "x").build()


def test_unknown_input_lists_what_there_is(tmp_path: Path) -> None:
    path = write(tmp_path / "c.qpy", ansatz()[0])
    with pytest.raises(ValueError, match=r"input 'y': the circuit has the parameters w, x\[0\], x"):
        CircuitFromFile(path, "y").build()


def test_openqasm_2_has_no_inputs(tmp_path: Path) -> None:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    (tmp_path / "c.qasm").write_text(qasm2.dumps(circuit))
    with pytest.raises(ValueError, match=r"no free parameters.*OpenQASM 2 cannot hold any"):
        CircuitFromFile(str(tmp_path / "c.qasm"), "x").build()


OPENQASM_3 = """OPENQASM 3.0;
include "stdgates.inc";
input float[64] a;
input float[64] w;
qubit[1] q;
ry(a) q[0];
rz(w) q[0];
"""


def test_openqasm_3_names_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.qasm").write_text(OPENQASM_3)
    monkeypatch.setattr(from_user, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install qiskit-qasm3-import"):
        CircuitFromFile(str(tmp_path / "c.qasm"), "x").build()


def test_openqasm_3_is_read_where_its_importer_is(tmp_path: Path) -> None:
    pytest.importorskip("qiskit_qasm3_import")
    (tmp_path / "c.qasm").write_text(OPENQASM_3)
    built = CircuitFromFile(str(tmp_path / "c.qasm"), "a").build()
    assert ([p.name for p in built.inputs], [p.name for p in built.weights]) == (["a"], ["w"])


SOURCES: list[CircuitSource] = [
    CircuitFromFunction("lightning_qsgd.circuits.superposition_circuit", {"num_qubits": 2}),
    CircuitFromFile("c.qpy", ["x", "y"]),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_equal_sources_are_equal_after_copies(source: CircuitSource) -> None:
    for same in (copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        assert same == source
        assert hash(same) == hash(source)
    assert source not in [other for other in SOURCES if other is not source]


def test_arguments_are_the_sources_own() -> None:
    arguments = {"num_qubits": 2}
    source = CircuitFromFunction("lightning_qsgd.circuits.superposition_circuit", arguments)
    arguments["num_qubits"] = 5
    assert source.build().num_qubits == 2


def turned(path: Path, factor: float) -> str:
    x = ParameterVector("x", 1)
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.ry(factor * x[0], 0)
    return write(path, circuit)


def read_out(backend: Any) -> float:
    return float(backend.readout(torch.tensor([[0.5]], dtype=torch.float64)))


@pytest.mark.parametrize("kind", [CompiledBackend, SamplerBackend])
def test_a_file_that_was_changed_is_read_again_and_an_older_backend_keeps_its_circuit(
    kind: Any, tmp_path: Path
) -> None:
    source = CircuitFromFile(turned(tmp_path / "c.qpy", 1.0), "x")
    content = (tmp_path / "c.qpy").read_bytes()
    older = kind(source)
    assert kind(source).describe() is older.describe()
    assert read_out(older) == pytest.approx(sin(0.5))
    stored = pickle.dumps(older)
    turned(tmp_path / "c.qpy", 0.2)
    assert read_out(kind(source)) == pytest.approx(sin(0.1))
    assert read_out(kind(CircuitFromFile(source.path, "x"))) == pytest.approx(sin(0.1))
    assert read_out(older) == pytest.approx(sin(0.5))
    assert read_out(pickle.loads(stored)) == pytest.approx(sin(0.1))
    digests = {each.describe().digest for each in (older, kind(source))}
    assert len(digests) == 2  # so that a checkpoint of the one is refused by the other
    (tmp_path / "c.qpy").write_bytes(content)
    assert kind(source).describe() is older.describe()


def test_a_changed_file_is_seen_through_observables_and_by_the_spectrum(tmp_path: Path) -> None:
    source = CircuitFromFile(turned(tmp_path / "c.qpy", 1.0), "x")
    values = []
    for factor in (1.0, 0.2):
        turned(tmp_path / "c.qpy", factor)
        observed = CompiledBackend(ObservedCircuit(source, [{"Z": 1.0}]))
        parameter = torch.nn.Parameter(torch.eye(3, 4))
        perturbation = Perturbation(
            CompiledBackend(source),
            HiddenMatrices(others=[]),
            injection=SpectralInjection(evaluation="exact"),
        )
        base = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
        parameter.grad = torch.arange(12.0).view(3, 4)
        PerturbedOptimizer(base, perturbation).step()
        values.append((read_out(observed), parameter.detach().clone()))
    assert values[0][0] == pytest.approx(-sin(0.5)), "P(0) - P(1)"
    assert values[1][0] == pytest.approx(-sin(0.1))
    assert not torch.allclose(values[0][1], values[1][1], atol=1e-4)


def test_a_changed_include_counts_as_a_changed_file(tmp_path: Path) -> None:
    head = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
    body = 'include "own.inc";\ninput float th;\nqubit q;\nh q;\nown(th) q;'
    (tmp_path / "c.qasm").write_text(head + body)
    source = CircuitFromFile(str(tmp_path / "c.qasm"), "th")
    for factor in (1, 2):
        (tmp_path / "own.inc").write_text(f"gate own(a) b {{ ry({factor}*a) b; }}")
        assert read_out(CompiledBackend(source)) == pytest.approx(sin(0.5 * factor))


def test_a_function_of_a_module_that_was_reloaded_is_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(tmp_path)
    text = """
from qiskit.circuit import ParameterVector, QuantumCircuit

def ansatz():
    x = ParameterVector("x", 1)
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.ry({factor} * x[0], 0)
    return circuit, x, []
"""
    source = CircuitFromFunction("reloaded_circuits.ansatz")
    for factor in (1, 2):
        (tmp_path / "reloaded_circuits.py").write_text(text.format(factor=factor))
        if factor > 1:
            reload(sys.modules["reloaded_circuits"])
        assert read_out(CompiledBackend(source)) == pytest.approx(sin(0.5 * factor))


@pytest.mark.parametrize("backend", [CompiledBackend, SamplerBackend])
def test_copies_of_a_backend_share_its_circuit_and_hold_no_second_one(backend: Any) -> None:
    made = backend(SuperpositionCircuit(2, reps=1))
    built = made.describe()
    for copied in (deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert copied == made
        assert copied.describe() is built


class Turned(CircuitSource):
    """A circuit of a user's: a Ry by the input times a factor."""

    factor: Any

    def build(self) -> ParametrizedCircuit:
        circuit, x = QuantumCircuit(1), Parameter("x")
        circuit.h(0)
        circuit.ry(float(np.sum(self.factor)) * x, 0)
        return ParametrizedCircuit(circuit, [x])


@dataclass
class HashedByIdentity(Turned):
    factor: Any
    __hash__ = object.__hash__  # type: ignore[assignment]


@dataclass
class Unhashable(Turned):
    factor: Any


@dataclass(frozen=True)
class OfAList(Turned):
    factor: Any


@pytest.mark.parametrize("kind", [HashedByIdentity, Unhashable, OfAList])
@pytest.mark.parametrize("inside", [False, True])
def test_a_source_of_a_users_that_has_changed_is_built_anew(
    kind: type[Turned], inside: bool
) -> None:
    value = [1.0]
    source: Any = kind(value)
    given = ObservedCircuit(source, [{"Z": -1.0}]) if inside else source
    assert read_out(CompiledBackend(given)) == pytest.approx(sin(0.5))
    value[0] = 2.0
    backend = CompiledBackend(given)
    assert read_out(backend) == pytest.approx(sin(1.0))
    value[0] = 3.0  # a backend keeps the circuit that it has built
    assert read_out(backend) == pytest.approx(sin(1.0))

"""A corpus of small files: each is read as what it says, or refused with line and remedy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit, generate_preset_pass_manager, qasm2, qasm3, transpile
from qiskit.circuit import Parameter, ParameterVector
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import Statevector

from lightning_qsgd.backends import AerSampling, CompiledBackend, SamplerBackend
from lightning_qsgd.circuits import CircuitFromFile, ParametrizedCircuit
from lightning_qsgd.circuits.measurements import CannotReadOut
from lightning_qsgd.nn import CircuitLayer
from tests.unit.backends.random_circuits import GATES

pytest.importorskip("qiskit_qasm3_import")

HEAD2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
HEAD3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'


def read(folder: Path, text: str, inputs: Any = (), name: str = "c.qasm") -> ParametrizedCircuit:
    (folder / name).write_text(text, encoding="utf-8")
    return CircuitFromFile(str(folder / name), inputs).build()


def expected(*gates: tuple[str, tuple[float, ...], tuple[int, ...]]) -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    for name, angles, qubits in gates:
        getattr(circuit, name)(*angles, *qubits)
    return circuit


def probabilities(built: ParametrizedCircuit) -> np.ndarray:
    return CompiledBackend(built).probabilities(torch.zeros(1, 0).double())[0].numpy()


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("dumps", [qasm2.dumps, qasm3.dumps], ids=["OpenQASM 2", "OpenQASM 3"])
def test_what_qiskit_writes_is_read_back(name: str, dumps: Any, tmp_path: Path) -> None:
    gate = GATES[name].to_mutable()
    gate.params = [0.3 * (place + 1) for place in range(len(gate.params))]
    circuit = QuantumCircuit(gate.num_qubits)
    for qubit in range(gate.num_qubits):
        circuit.u(0.3 * qubit + 0.2, 0.4, 0.5, qubit)
    circuit.append(gate, range(gate.num_qubits))
    own = Statevector(read(tmp_path, dumps(circuit)).circuit)
    assert abs(own.inner(Statevector(circuit))) == pytest.approx(1.0, abs=1e-9)


RX, CX = ("rx", (np.pi / 2,), (0,)), ("cx", (), (0, 1))
FILES: dict[str, tuple[str, QuantumCircuit]] = {
    "no version line": ('include "stdgates.inc";\nqubit[2] q;\nrx(pi/2) q[0];', expected(RX)),
    "no version line, OpenQASM 2": (
        'include "qelib1.inc";\nqreg q[2];\nrx(pi/2) q[0];',
        expected(RX),
    ),
    "comments first": (
        "// OPENQASM 2.0 was here\n/* more\n   of it */\n" + HEAD3 + "qubit[2] q;\nrx(pi/2) q[0];",
        expected(RX),
    ),
    "comments first, OpenQASM 2": (
        "// to OPENQASM 3\n" + HEAD2 + "qreg q[2];\nrx(pi/2) q[0];",
        expected(RX),
    ),
    "physical qubits": (HEAD3 + "rx(pi/2) $0;\ncx $0, $1;\n", expected(RX, CX)),
    "physical qubits, the last one first": (
        HEAD3 + "x $1;\nrx(pi/2) $0;\n",
        expected(("x", (), (1,)), RX),
    ),
    "constants": (
        HEAD3 + "const float a = pi;\nangle[32] half = a/2;\nqubit[2] q;\nrx(half) q[0];",
        expected(RX),
    ),
    "a constant is divided as its type is": (
        HEAD3 + "const float two = 2;\nconst int n = 2;\nqubit[2] q;\nrx(pi*(3/two - 3/n)) q[0];",
        expected(RX),
    ),
    "an integer that is written as a float": (
        HEAD3 + "const int[3] n = 2.0 + 1;\nqubit[2] q;\nrx((n - 2)*pi/2) q[0];",
        expected(RX),
    ),
    "constant expressions": (
        HEAD3 + "qubit[2] q;\nrx(pi/2 + 2*pi - 2*π) q[0];",
        expected(RX),
    ),
    "a header of OpenQASM 2 in OpenQASM 3": (
        'OPENQASM 3;\ninclude "qelib1.inc";\nqreg q[2];\nrx(pi/2) q[0];',
        expected(RX),
    ),
    "modifiers": (
        HEAD3 + "qubit[2] q;\nrx(pi/2) q[0];\nctrl @ x q[0], q[1];\ninv @ s q[0];",
        expected(RX, CX),
    ),
    "a gate that is defined twice": (
        HEAD2 + "gate sx a { sdg a; h a; sdg a; }\nqreg q[2];\nsx q[0];",
        expected(RX),
    ),
    "a gate of one's own": (
        HEAD3 + "gate mine(a) b { rx(a/2) b; }\nqubit[2] q;\nmine(pi) q[0];",
        expected(RX),
    ),
    "a byte order mark": ("\ufeff" + HEAD3 + "qubit[2] q;\nrx(pi/2) q[0];", expected(RX)),
    "a register that is not used": (
        HEAD3 + "qubit[2] q;\nbit[3] unused;\nbit[2] meas;\nrx(pi/2) q[0];\nmeas = measure q;",
        expected(RX),
    ),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("suffix", [".qasm", ".qasm3", ".inc"])
def test_file_is_read_as_what_it_says(name: str, suffix: str, tmp_path: Path) -> None:
    text, circuit = FILES[name]
    built = read(tmp_path, text, name=f"c{suffix}")
    found, own = probabilities(built), Statevector(circuit).probabilities()
    np.testing.assert_allclose(found, own, rtol=0, atol=1e-9)


@pytest.mark.parametrize("header", [HEAD2, HEAD3], ids=["2", "3"])
def test_includes_lie_beside_the_file(header: str, tmp_path: Path) -> None:
    (tmp_path / "mine.inc").write_text("// of mine\ngate half a {\n  rx(pi/2) a;\n}\n")
    built = read(tmp_path, header + 'include "mine.inc";\nqreg q[2];\nhalf q[0];\ncx q[0], q[1];')
    np.testing.assert_allclose(probabilities(built), [0.5, 0, 0, 0.5], atol=1e-12)


OWN_RZZ = "gate rzz(t) a,b { cx a,b; rz(2*t) b; cx a,b; }"
BODY = "qreg q[2];\nh q;\nrzz(0.7) q[0], q[1];\nh q;"


@pytest.mark.parametrize(
    ("before", "angle"),
    [
        pytest.param(HEAD2 + OWN_RZZ, 1.4, id="defined"),
        pytest.param(HEAD2 + 'include "own.inc";', 1.4, id="defined in a file beside it"),
        pytest.param(HEAD2 + f"// {OWN_RZZ}\n/* {OWN_RZZ} */", 0.7, id="defined in comments"),
        pytest.param(HEAD2 + "opaque rzz(t) a,b;", 0.7, id="declared without a definition"),
        pytest.param(HEAD2, 0.7, id="not defined"),
    ],
)
def test_a_gate_that_a_file_defines_is_that_gate(before: str, angle: float, tmp_path: Path) -> None:
    (tmp_path / "own.inc").write_text(OWN_RZZ)
    built = read(tmp_path, f"{before}\n{BODY}")
    written = QuantumCircuit(2)
    written.h([0, 1])
    written.rzz(angle, 0, 1)
    written.h([0, 1])
    found = probabilities(built), Statevector(written).probabilities()
    np.testing.assert_allclose(*found, atol=1e-12)


def test_a_file_that_includes_nothing_may_define_h(tmp_path: Path) -> None:
    text = "OPENQASM 2.0;\ngate h a { U(pi/3,0,0) a; }\nqreg q[1];\nh q[0];"
    built = read(tmp_path, text)
    np.testing.assert_allclose(probabilities(built), [0.75, 0.25], atol=1e-12)
    sampled = SamplerBackend(built, sampling=AerSampling(40_000))
    keys = np.array([1], dtype=np.uint64)
    found = sampled.probabilities(torch.zeros(1, 0), keys).numpy()[0]
    np.testing.assert_allclose(found, [0.75, 0.25], atol=0.015)


def test_partly_measured_register_leaves_its_other_bits_zero(tmp_path: Path) -> None:
    built = read(tmp_path, HEAD3 + "qubit[2] q;\nbit[2] c;\nx q[0];\nc[1] = measure q[0];")
    np.testing.assert_allclose(probabilities(built), [0, 0, 1, 0], atol=1e-12)


def test_transpiled_circuit_is_read_back_with_its_qubits_in_order(tmp_path: Path) -> None:
    circuit = QuantumCircuit(3)
    circuit.ry(0.3, 0)
    circuit.ry(1.1, 1)
    circuit.cx(1, 2)
    device = GenericBackendV2(4, seed=1)
    moved = generate_preset_pass_manager(1, backend=device, initial_layout=[2, 0, 3]).run(circuit)
    built = read(tmp_path, qasm3.dumps(moved))
    own = Statevector(moved).probabilities()
    np.testing.assert_allclose(probabilities(built), own, rtol=0, atol=1e-9)


@pytest.mark.parametrize("device", [[0, 1, 2], [2, 1, 0], [4, 0, 2]])
def test_loops_and_evolutions_of_a_transpiled_circuit_keep_its_qubits_in_order(
    device: list[int],
) -> None:
    x = ParameterVector("x", 3)
    circuit = QuantumCircuit(3)
    for qubit in range(3):
        circuit.ry(x[qubit], qubit)
    with circuit.for_loop(range(3)):
        circuit.cx(0, 1)
        circuit.ry(x[2], 2)
    width = 5 if max(device) > 2 else 3
    line = [[place, place + 1] for place in range(width - 1)]
    moved = transpile(circuit, coupling_map=line, initial_layout=device, optimization_level=0)
    assert moved.layout is not None
    values = torch.tensor([[0.3, 0.8, 1.3]], dtype=torch.float64)
    written, placed = (ParametrizedCircuit(each, x) for each in (circuit, moved))
    expected = CompiledBackend(written).readout(values)
    assert float((expected - expected.flip(1)).abs().max()) > 0.1
    torch.testing.assert_close(CompiledBackend(placed).readout(values), expected)
    outputs = CircuitLayer(placed, engine="compiled").double()(values)
    torch.testing.assert_close(outputs, CircuitLayer(written).double()(values))
    with pytest.raises(ValueError, match="transpiled already: the layout has moved them"):
        SamplerBackend(placed)


def test_a_qubit_that_was_measured_stays_so_when_its_bit_is_measured_into_again() -> None:
    circuit = QuantumCircuit(3, 2)
    circuit.h(0)
    circuit.measure(0, 0)
    circuit.measure(2, 0)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure(1, 1)
    with pytest.raises(CannotReadOut, match="with `h` after a measurement of the same qubit"):
        CircuitLayer(ParametrizedCircuit(circuit, []))


def test_a_bit_holds_what_was_measured_into_it_last() -> None:
    circuit = QuantumCircuit(3, 2)
    circuit.x(0)
    circuit.measure(0, 0)
    circuit.measure(2, 0)
    circuit.x(1)
    circuit.measure(1, 1)
    outputs = CircuitLayer(ParametrizedCircuit(circuit, []))()
    torch.testing.assert_close(outputs, torch.tensor([0.0, 0.0, 1.0, 0.0]))


def long_circuit() -> tuple[QuantumCircuit, ParameterVector, ParameterVector]:
    x, w = ParameterVector("x", 2), ParameterVector("w", 12)
    circuit = QuantumCircuit(2)
    circuit.ry(x[0], 0)
    circuit.ry(x[1], 1)
    for place in range(12):
        circuit.rx((place + 1) * w[place], place % 2)
    circuit.cx(0, 1)
    circuit.ry(Parameter("z_last") + Parameter("a"), 0)
    return circuit, x, w


def test_parameters_keep_the_order_of_their_declarations_and_their_vectors(tmp_path: Path) -> None:
    circuit, x, w = long_circuit()
    rest = [p for p in circuit.parameters if p.name in ("a", "z_last")]
    own = CompiledBackend(ParametrizedCircuit(circuit, x, [rest[0], *w, rest[1]]))
    built = read(tmp_path, qasm3.dumps(circuit), "x")
    assert [p.name for p in built.inputs] == ["x[0]", "x[1]"]
    names = [p.name for p in built.weights]
    assert names == ["a", *(f"w[{place}]" for place in range(12)), "z_last"]
    values, weights = torch.rand(3, 2).double(), torch.rand(14).double()
    found = CompiledBackend(built).readout(values, None, weights)
    torch.testing.assert_close(found, own.readout(values, None, weights), rtol=0, atol=1e-12)


def test_elements_that_are_written_by_hand_are_a_vector_too(tmp_path: Path) -> None:
    declared = "".join(f"input float w_{place};\n" for place in range(11))
    gates = "".join(f"rx({place + 1}*w_{place}) q[0];\n" for place in range(11))
    text = HEAD3 + "input float b;\ninput float a_0;\n" + declared + "qubit[2] q;\n" + gates
    built = read(tmp_path, text + "ry(b + a_0) q[1];", "w")
    assert [p.name for p in built.inputs] == [f"w[{place}]" for place in range(11)]
    assert [p.name for p in built.weights] == ["b", "a_0"]
    again = CircuitFromFile(str(tmp_path / "c.qasm"), ("w_10", "w[2]")).build()
    assert [p.name for p in again.inputs] == ["w[10]", "w[2]"]


REFUSED = {
    "unknown gate, OpenQASM 2": (HEAD2 + "qreg q[1];\nmystery q[0];", r"line 4: 'mystery' is not"),
    "unknown gate": (HEAD3 + "qubit q;\nmystery q;", r"line 4: .*mystery.*Correct the line"),
    "syntax": (HEAD3 + "qubit q;\nrx(90deg q;", r"line 4: .*Correct the line"),
    "loop": (HEAD3 + "qubit[2] q;\nfor int i in [0:1] { h q[i]; }", r"line 4: it uses `for`.*QPY"),
    "subroutine": (HEAD3 + "def f(qubit a) { h a; }\n", r"line 3: it uses `def`.*Write the gates"),
    "pragma": (HEAD3 + "\npragma of someone\nqubit q;", r"line 4: it uses `pragma`"),
    "variable": (HEAD3 + "float a = 0.1;\nqubit q;\na = 0.2;\nrx(a) q;", r"line 5: .*variable 'a'"),
    "an angle that wraps": (
        HEAD3 + "const angle a = 3*pi;\nqubit q;\nrx(a/2) q;",
        r"line 3: the constant 'a' is 9\.42478, which its type angle would round or wrap\. Declare",
    ),
    "a negative angle": (HEAD3 + "const angle a = -pi;", r"line 3: .*'a' is -3\.14159, which its"),
    "an integer that is none": (HEAD3 + "const int n = 2.7;", r"line 3: .*'n' is 2\.7, .*type int"),
    "a wide integer": (
        HEAD3 + "const int[3] n = 4;",
        r"line 3: .*'n' is 4, which its type int\[3\] would",
    ),
    "a wide unsigned integer": (
        HEAD3 + "const uint[2] n = 5;",
        r"line 3: .*'n' is 5, .*type uint\[2\]",
    ),
    "a negative count": (
        HEAD3 + "const uint n = 2 - 3;",
        r"line 3: .*'n' is -1, which its type uint would",
    ),
    "an angle of inputs": (
        HEAD3 + "input float a;\nangle b = a/2;\nqubit q;\nrx(b) q;",
        r"line 4: the constant 'b' is no number, as its type angle asks for .*Declare it a float",
    ),
    "a constant that a gate hides": (
        HEAD3 + "const float a = 1;\n\ngate mine(a) b { rx(a) b; }\nqubit q;\nmine(0.5) q;",
        r"line 5: the gate has a parameter or qubit 'a', which is a constant, too\. Rename 'a'\.",
    ),
    "missing include": (HEAD3 + 'include "no.inc";\n', r"line 3: it includes 'no\.inc', which is"),
    "missing include, OpenQASM 2": (HEAD2 + 'include "no.inc";\n', r"line 3: .*no\.inc"),
    "circle": (HEAD3 + 'include "c.qasm";\n', r"line 3: it includes 'c\.qasm', which includes it"),
    "a name of a gate": (HEAD3 + "input float t;\nqubit q;\nrx(t) q;", r"line 3: Symbol 't' alrea"),
    "array": (HEAD3 + "input array[float, 3] w;\nqubit q;", r"line 3: it uses `array`"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_file_is_refused_with_line_reason_and_remedy(name: str, tmp_path: Path) -> None:
    text, message = REFUSED[name]
    with pytest.raises(ValueError, match=rf"Cannot read a circuit from .*: {message}"):
        read(tmp_path, text)


def test_file_that_is_not_utf_8_is_refused_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "c.qasm").write_bytes(HEAD3.encode() + b"// caf\xe9\nqubit q;")
    with pytest.raises(ValueError, match=r"line 3 holds the byte 0xe9, .*Save .* as UTF-8"):
        CircuitFromFile(str(tmp_path / "c.qasm"), ()).build()


def test_gates_under_conditions_are_refused_when_they_are_compiled(tmp_path: Path) -> None:
    text = HEAD2 + "qreg q[2];\ncreg c[1];\nmeasure q[0] -> c[0];\nif(c==1) x q[1];"
    with pytest.raises(ValueError, match=r"`if_else`"):
        CompiledBackend(read(tmp_path, text))


@pytest.mark.parametrize("text", ["", "// nothing\n/* more\n */", HEAD3, HEAD2, ";"])
def test_a_file_without_a_statement_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it holds no statement\. Give a program of OpenQASM"):
        read(tmp_path, text)

"""``lightning-qsgd circuit``, as a user types it."""

import re
from pathlib import Path

import pytest
import torch
from qiskit.circuit import AnnotatedOperation, ControlModifier, Parameter, QuantumCircuit

from lightning_qsgd.backends import CompiledBackend, SineBackend
from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.cli import circuit_command
from lightning_qsgd.cli.main import main

TWO_QUBITS = ["--backend.circuit", "SuperpositionCircuit", "--backend.circuit.num_qubits", "2"]
PAID = [
    *("--backend", "SamplerBackend", "--backend.max_circuits", "9"),
    *("--backend.sampling", "HardwareSampling", "--backend.sampling.device", "a"),
    *("--backend.sampling.shots", "3"),
]
COMPILED = ["--backend", "CompiledBackend", *TWO_QUBITS]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["circuit", *arguments])
    return capsys.readouterr().out


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main(["circuit", *arguments])
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.err + printed.out


def test_draw_shows_the_paper_circuit_and_counts_it(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = run(capsys, "draw")
    assert "Ry(w[0] + π*x[0])" in drawn
    assert "4 qubits, 4 inputs, 16 weights" in drawn


def test_draw_writes_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("pylatexenc")
    run(capsys, "draw", *COMPILED, "--output", str(tmp_path / "circuit.png"))
    assert (tmp_path / "circuit.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("given", "written"), [("x", "x.png"), ("y.", "y.png"), ("z.SVG", "z.SVG"), ("a.b.pdf",) * 2]
)
def test_the_file_that_is_told_is_the_one_that_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, given: str, written: str
) -> None:
    pytest.importorskip("pylatexenc")
    said = run(capsys, "draw", *COMPILED, "--output", str(tmp_path / given))
    assert said.endswith(f"Picture: {tmp_path / written}\n")
    assert [path.name for path in tmp_path.iterdir()] == [written]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing/x.png", "there is no folder .* Make it, or name another file"),
        ("x.txt", r"'\.txt' is the ending of no format of pictures. Use one of .*\.png"),
        ("", r"it is a folder. Name a file in it, such as .*circuit\.png"),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_drawn(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, given: str, message: str
) -> None:
    pytest.importorskip("pylatexenc")
    status, said = failure(capsys, "draw", *COMPILED, "--output", str(tmp_path / given))
    assert status == 2
    assert re.search(f"Cannot write a picture to .*{message}", " ".join(said.split()))
    assert "q_0" not in said
    assert not list(tmp_path.iterdir())


def test_a_picture_is_refused_before_anything_is_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_qsgd.circuits.drawing.find_spec", lambda name: None)
    status, said = failure(capsys, "draw", *COMPILED, "--output", "circuit.png")
    assert status == 2
    assert "pip install 'lightning-qsgd[plot]'`, or draw it as text" in " ".join(said.split())
    assert "q_0" not in said


def test_draw_takes_the_circuit_of_an_arm(capsys: pytest.CaptureFixture[str]) -> None:
    assert "4 qubits, 4 inputs" in run(capsys, "draw", "--arm", "configs/arms/quantum_shots.yaml")


def test_check_says_that_the_backends_agree(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "check", *COMPILED, "--rows", "3")
    assert printed.count("agrees") == 2
    assert "The backends agree." in printed


def test_check_sets_the_weights_of_a_closed_form_to_zero(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = run(capsys, "check", "--backend", "SineBackend", "--backend.num_qubits", "2")
    assert printed.count("agrees") == 3


def test_check_of_an_arm_with_shots_judges_only_exact_backends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = run(capsys, "check", "--arm", "configs/arms/quantum_shots.yaml", "--rows", "2")
    assert "not exact" in printed
    assert "The exact backends agree; SamplerBackend, ShotSampling gives shots" in printed


def test_check_fails_when_a_backend_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = CompiledBackend.readout
    monkeypatch.setattr(
        CompiledBackend, "readout", lambda *args, **kwargs: right(*args, **kwargs) * 1.0001
    )
    status, printed = failure(capsys, "check", *COMPILED, "--rows", "2")
    assert status == 1
    assert "DISAGREES" in printed
    assert "trust none of them" in printed


def test_an_arm_without_a_backend_has_the_sine(capsys: pytest.CaptureFixture[str]) -> None:
    assert "SineBackend" in run(capsys, "check", "--arm", "configs/arms/relative_0.5.yaml")


def test_bench_times_the_backend_that_was_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(CompiledBackend, "readout", lambda self, *_: asked.append(self))
    printed = run(capsys, "bench", *COMPILED, "--backend.torch_compile", "true", "--circuits=[1]")
    assert {backend.torch_compile for backend in asked} == {True}
    assert "CompiledBackend, torch.compile" in printed


def test_bench_forecasts_each_backend(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "bench", *COMPILED, "--circuits", "[1, 3000]")
    assert "3,000 circuits" in printed
    assert "CompiledBackend" in printed
    sampler = next(line for line in printed.splitlines() if "SamplerBackend, exact" in line)
    assert "~" in sampler


def test_bench_leaves_out_what_cannot_evaluate_the_circuit_and_says_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "reset.qasm"
    path.write_text(
        'OPENQASM 3.0; include "stdgates.inc"; input float[64] a; qubit[2] q;\n'
        "ry(a) q[0]; cx q[0], q[1]; reset q[0];\n"
    )
    sampler = ("--backend", "SamplerBackend", "--backend.sampling", "AerSampling")
    circuit = ("--backend.circuit", "CircuitFromFile", "--backend.circuit.path", str(path))
    settings = ("--backend.sampling.shots", "10", "--backend.circuit.inputs", "a")
    pytest.importorskip("qiskit_qasm3_import")
    printed = run(capsys, "bench", *sampler, *circuit, *settings, "--circuits", "[2]")
    assert "AerSampling" in printed
    assert "Left out: Cannot compile gate `reset`" in printed
    assert "Left out: Cannot sample a circuit with `reset` from one state vector" in printed


def test_wrong_arguments_name_the_remedy(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    unperturbed = tmp_path / "arm.yaml"
    unperturbed.write_text("optimizer: torch.optim.Adam\n")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("# café".encode("latin-1"))
    shots = "configs/arms/quantum_shots.yaml"
    cases = {
        ("draw", "--arm", "missing.yaml"): "There is no file missing.yaml",
        ("draw", "--arm", str(latin)): "line 1 is not UTF-8 text",
        ("draw", "--arm", str(unperturbed)): "has no `perturbation`",
        ("draw", "--arm", shots, "--backend", "SineBackend"): "Got --arm and --backend",
        ("draw", "--output", str(tmp_path / "missing" / "c.png")): "there is no folder",
        ("check", "--rows", "0"): "restriction v>0",
        ("check", "--seed", "-1"): "restriction v>=0",
        ("bench", "--circuits", "[]"): "Expected `circuits` to hold a number",
        ("bench", *PAID): "Cannot try out HardwareSampling: its circuits cost money",
        ("check", *PAID): "Cannot try out HardwareSampling: its circuits cost money",
        ("draw", "--backend", "CompiledBackend", "--backend.weight_seed", "-1"): "weight_seed",
        ("check", "--rosw", "3"): "Did you mean rows",
    }
    for arguments, message in cases.items():
        status, printed = failure(capsys, *arguments)
        assert status == 2
        assert message in printed


def test_a_backend_without_a_circuit_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SineBackend, "describe", lambda self: None)
    for command in ("draw", "check"):
        status, printed = failure(capsys, command, "--backend", "SineBackend")
        assert status == 2
        assert "describes no circuit" in printed


def test_commands_leave_the_global_generator_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_rng_state()
    run(capsys, "check", *COMPILED, "--rows", "2")
    assert torch.equal(before, torch.get_rng_state())


FEATURES = ("--arm", "configs/arms/alignment_2features.yaml")


def test_commands_know_what_a_circuit_sees(capsys: pytest.CaptureFixture[str]) -> None:
    assert "x[0] = Alignment / 2, x[1] = Weight / 2" in run(capsys, "draw", *FEATURES)
    checked = run(capsys, "check", *FEATURES, "--rows", "3")
    assert "polynomial of 9 coefficients" in checked
    assert checked.count("agrees") == 3
    benched = run(capsys, "bench", *FEATURES, "--circuits", "[2]")
    assert "9 circuits once per change of its weights" in " ".join(benched.split())


def test_check_tells_a_polynomial_that_is_not_the_circuit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = circuit_command.evaluate_polynomial
    monkeypatch.setattr(circuit_command, "evaluate_polynomial", lambda *given: exact(*given) + 1e-6)
    status, printed = failure(capsys, "check", *FEATURES, "--rows", "3")
    assert status == 1
    assert "DISAGREES" in printed


def with_logarithm() -> ParametrizedCircuit:
    """Named by configs of the tests below: no value at half of the inputs that `check` draws."""
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.ry((x - 1).log() + w, 0)
    return ParametrizedCircuit(circuit, [x], [w])


def annotated() -> ParametrizedCircuit:
    x, w = Parameter("x"), Parameter("w")
    inner, circuit = QuantumCircuit(1), QuantumCircuit(2, global_phase=w)
    inner.ry(w, 0)
    circuit.rx(x, 0)
    with circuit.box():
        circuit.append(AnnotatedOperation(inner.to_gate(), ControlModifier(1)), [0, 1])
    return ParametrizedCircuit(circuit, [x], [w])


def of_function(name: str) -> list[str]:
    function = ("--backend.circuit.function", f"{__name__}.{name}")
    return ["--backend", "CompiledBackend", "--backend.circuit", "CircuitFromFunction", *function]


@pytest.mark.parametrize("command", ["check", "bench"])
def test_an_error_of_qiskit_ends_in_a_message(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Ry" in run(capsys, "draw", *of_function("with_logarithm"))
    status, said = failure(capsys, command, *of_function("with_logarithm"))
    words = " ".join(said.split())
    assert status == 2
    assert f"Cannot {command} this circuit: QiskitMachineLearningError: Sampler job failed" in words
    assert "See whether its angles are defined for inputs and weights between -4 and 4" in words


def test_annotations_boxes_and_phases_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert "The backends agree." in run(capsys, "check", *of_function("annotated"), "--rows", "2")

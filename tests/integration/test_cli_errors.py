"""Every bad value ends with status 2 before training, and with words that say what to do."""

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_qsgd.cli import PerturbationCLI, commands
from lightning_qsgd.cli.main import main
from lightning_qsgd.compare import save_results
from lightning_qsgd.compare.executors.executor import Executor, attempts_of
from lightning_qsgd.compare.planning.job import Job
from lightning_qsgd.compare.running.folder_lock import locked
from lightning_qsgd.training import ConvergenceCallback
from tests.comparison_cases import made_results

SAMPLER = ("--perturbation.backend=lightning_qsgd.SamplerBackend",)
REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "negative strength": (
        ("--perturbation.strength=-1",),
        r"`strength` to be non-negative and finite, got -1\.0.*Use 0 to switch it off",
    ),
    "endless strength": (
        ("--perturbation.strength=1e400",),
        r"`strength` to be non-negative and finite, got inf",
    ),
    "strength of another type": (("--perturbation.strength=strong",), r"strength.*strong"),
    "negative seed": (("--perturbation.seed=-1",), r"`seed` to be .*non-negative.*, got -1"),
    "no qubit": (
        (*SAMPLER, "--perturbation.backend.circuit.num_qubits=0"),
        r"`num_qubits` to be at least 1, got 0.*paper uses",
    ),
    "40 qubits": (
        (*SAMPLER, "--perturbation.backend.circuit.num_qubits=40"),
        r"40 qubits.*Use fewer qubits",
    ),
    "no shot": (
        (*SAMPLER, "--perturbation.backend.sampling=0"),
        r"`shots` to be at least 1, got 0.*Use ExactSampling",
    ),
    "unknown entanglement": (
        (*SAMPLER, "--perturbation.backend.circuit.entanglement=ring"),
        r"none.*linear.*circular.*full.*ring|ring.*none.*linear",
    ),
    "unknown backend": (("--perturbation.backend=lightning_qsgd.NoBackend",), r"NoBackend"),
    "coordinates that are a backend": (
        ("--perturbation.coordinates=lightning_qsgd.SineBackend",),
        r"SineBackend",
    ),
    "no entry": (
        (
            "--perturbation.coordinates=lightning_qsgd.RandomEntries",
            "--perturbation.coordinates.count=0",
        ),
        r"`count` to be at least 1, got 0",
    ),
    "negative baseline lr": (
        ("--baseline.lr=-0.1",),
        r"`baseline\.lr` to be non-negative and finite, got -0\.1.*Leave it out",
    ),
    "endless baseline weight decay": (
        ("--baseline.weight_decay=.inf",),
        r"`baseline\.weight_decay` to be non-negative and finite, got inf",
    ),
    "target that is no number": (
        ("--goal.target=.nan",),
        r"`target` to be finite, got nan.*Leave it out",
    ),
    "endless target": (("--goal.target=.inf",), r"`target` to be finite, got inf"),
    "arm with a slash": (("--run.arm=a/b",), r"`run\.arm` to be the name of one folder, got 'a/b'"),
    "empty experiment": (("--run.experiment=",), r"`run\.experiment` to be the name of one folder"),
    "parent as name": (("--run.name=..",), r"`run\.name` to be the name of one folder, got '\.\.'"),
    "unknown model": (("--model=lightning_qsgd.training.NoModel",), r"NoModel"),
    "negative learning rate": (("--optimizer.init_args.lr=-1",), r"Invalid learning rate: -1"),
    "misspelt trainer key": (
        ("--trainer.max_epohcs=3",),
        r"trainer\.max_epohcs.*Did you mean trainer\.max_epochs\?",
    ),
    "misspelt group": (
        ("--perturbatoin.strength=1",),
        r"perturbatoin.*Did you mean perturbation",
    ),
    "misspelt goal": (("--goal.targt=0.5",), r"goal\.targt.*Did you mean goal\.target\?"),
    "misspelt option of a backend": (
        (*SAMPLER, "--perturbation.backend.circuit.num_qbits=2"),
        r"num_qbits.*Did you mean num_qubits\?",
    ),
    "misspelt run": (("--run.mame=x",), r"run\.mame.*Did you mean run\.name\?"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_value_is_refused_before_training(
    arguments: tuple[str, ...], message: str, command_line: Any
) -> None:
    printed = command_line.refuse(*arguments)
    assert re.search(message, printed), printed[-600:]
    assert "Traceback" not in printed


def test_a_command_that_is_interrupted_ends_without_a_traceback(
    command_line: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "import_module", interrupt)
    with pytest.raises(SystemExit) as caught:
        command_line.main("doctor")
    assert caught.value.code == 130
    assert capsys.readouterr().err == "Interrupted.\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_that_a_signal_ends_has_its_status(
    number: int, status: int, command_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(ConvergenceCallback, "on_train_epoch_start", killed)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(SystemExit) as caught:
            command_line.fit()
    finally:
        for each, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(each, handler)
    assert caught.value.code == status


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("perturbation: {strenght: 0.5}", r"strenght.*Did you mean (perturbation\.)?strength\?"),
        ("baseline: {learning_rate: 0.5}", r"learning_rate"),
        ("goals: {target: 0.5}", r"goals.*Did you mean goal\?"),
        ("trainer: {max_epoch: 3}", r"max_epoch.*Did you mean (trainer\.)?max_epochs\?"),
        ("perturbation: [1, 2]", r"perturbation"),
        ("goal: null", r"Expected `goal` to hold its settings, got null.*Leave `goal` out, or"),
        ("run: null", r"Expected `run` to hold its settings, got null.*write `run: {}`"),
    ],
)
def test_misspelt_key_of_a_file_is_refused(
    lines: str, message: str, command_line: Any, tmp_path: Any
) -> None:
    (tmp_path / "bad.yaml").write_text(lines)
    printed = command_line.refuse("--config", str(tmp_path / "bad.yaml"))
    assert re.search(message, printed), printed[-600:]


def test_optimizer_without_a_learning_rate_is_refused(command_line: Any) -> None:
    printed = command_line.refuse(
        "--optimizer=tests.integration.modules.RateLess", "--perturbation.strength=0.5"
    )
    assert re.search(
        r"error: Cannot scale the perturbation: parameter group 0 has no `lr`", printed
    )
    assert "Give UpdateInjection(step_size=...)" in printed


def test_circuits_that_exceed_memory_are_refused(command_line: Any) -> None:
    printed = command_line.refuse(
        *SAMPLER,
        "--perturbation.backend.circuit.num_qubits=12",
        "--perturbation.coordinates=lightning_qsgd.AllEntries",
    )
    assert re.search(r"error: Cannot evaluate \d+ circuit\(s\) of 12 qubits.*Use fewer", printed)


def test_perturbation_in_two_places_is_refused(command_line: Any) -> None:
    printed = command_line.refuse(
        "--model=tests.integration.modules.PerturbedClassifier",
        *("--model.network=lightning_qsgd.nn.MLP", "--model.num_classes=10"),
        "--perturbation.strength=0.1",
    )
    assert "perturbed already by" in printed
    assert "Configure it in one place" in printed


def test_network_of_the_wrong_width_is_refused(command_line: Any) -> None:
    printed = command_line.refuse("--model.num_classes=7")
    assert "Give the network and the classifier the same `num_classes`" in printed


def test_a_bad_value_is_found_before_the_baseline_is_trained(command_line: Any) -> None:
    printed = command_line.refuse("--baseline={}", "--perturbation.strength=-1")
    assert "got -1.0" in printed
    assert not command_line.runs.exists()


def test_debug_shows_the_traceback(command_line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_QSGD_DEBUG", "1")
    with pytest.raises(ValueError, match="has no `lr`"):
        command_line.fit(
            "--optimizer=tests.integration.modules.RateLess", "--perturbation.strength=0.5"
        )


@pytest.fixture
def in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A command that is refused in the midst of its work: another holds the folder."""
    save_results(made_results({"base": [0.1, 0.2], "arm": [0.2, 0.3]}), tmp_path)
    command = ["report", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train.py", *command])
    with locked(tmp_path):
        yield command


def test_a_script_of_the_users_ends_with_the_message_of_the_command(
    in_use: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(PerturbationCLI):
        pass

    said = []
    for start in (Own, lambda: main(in_use)):
        with pytest.raises(SystemExit) as end:
            start()
        said.append((end.value.code, capsys.readouterr().err))
    assert said[0] == said[1]
    assert said[0][0] == 2
    assert re.match(r"error: .* in use", said[0][1])
    monkeypatch.setenv("LIGHTNING_QSGD_DEBUG", "1")
    with pytest.raises(RuntimeError, match="in use"):
        Own()


def test_who_gives_the_arguments_to_the_class_gets_the_exception(in_use: list[str]) -> None:
    with pytest.raises(RuntimeError, match="in use"):
        PerturbationCLI(args=in_use)


def test_an_error_of_the_users_own_code_keeps_its_traceback(command_line: Any) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug in the model"):
        command_line.fit(
            "--model=tests.integration.modules.Broken",
            *("--model.network=lightning_qsgd.nn.MLP", "--model.num_classes=10"),
        )


@pytest.mark.parametrize(
    ("typed", "meant"), [("fitt", "fit"), ("compar", "compare"), ("reprot", "report")]
)
def test_a_misspelt_command_suggests_the_right_one(
    typed: str, meant: str, command_line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(typed)
    assert caught.value.code == 2
    said = f"There is no command '{typed}'. Did you mean {meant}?"
    assert said in capsys.readouterr().err


COMPLETED = {
    "": "compare",
    "comp": "compare",
    "compare --dry": "--dry_run",
    "fit --trainer.max_ep": "--trainer.max_epochs",
}


@pytest.mark.parametrize(("typed", "offered"), COMPLETED.items())
def test_the_shell_completes_commands_and_options(typed: str, offered: str, tmp_path: Path) -> None:
    pytest.importorskip("argcomplete", reason="needs the extra completion")
    line, answer = f"lightning-qsgd {typed}", tmp_path / "offered"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    asked |= {"_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    command = [sys.executable, "-m", "lightning_qsgd"]
    subprocess.run(command, env={**os.environ, **asked}, capture_output=True, timeout=120)
    found = [word.rstrip("= ") for word in answer.read_text().split("\n")]
    assert offered in found
    assert "validate" not in found or not typed


def test_what_an_error_adds_to_its_message_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Idle(Executor):
        at_a_time = 1

        def run(self, fit: Any, jobs: Any, started: Any) -> Any:
            yield from ()

    def compare(arguments: list[str]) -> None:
        list(attempts_of(Idle(), lambda job: job, [Job("adamw", 0, {})], print))  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(commands.OWN["doctor"].__class__, "run", lambda self, given: compare(given))
    with pytest.raises(SystemExit) as end:
        main(["doctor"])
    assert end.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: Idle yielded no attempt at runs/adamw/seed0.")
    assert second == "Every run that had ended is stored. Mend that, and repeat the command."


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_no_traceback(
    number: int,
    command_line: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: str) -> None:
        error = OSError(number, os.strerror(number), "runs/a.json")
        error.add_note("More about it.")
        raise error

    monkeypatch.setattr(commands, "import_module", full)
    with pytest.raises(SystemExit) as caught:
        command_line.main("doctor")
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: Cannot write runs/a.json: {os.strerror(number)}. What had")
    assert printed.endswith("More about it.\n")
    monkeypatch.setenv("LIGHTNING_QSGD_DEBUG", "1")
    with pytest.raises(OSError, match=os.strerror(number)):
        command_line.main("doctor")


def test_another_error_of_the_system_keeps_its_traceback(
    command_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "a")

    monkeypatch.setattr(commands, "import_module", refused)
    with pytest.raises(PermissionError):
        command_line.main("doctor")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
def test_output_that_finds_no_room_ends_in_one_message() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "lightning_qsgd", "configs"],
            *(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: Cannot write a file, or what is shown here: No space")
    assert ended.stderr.count("\n") == 1

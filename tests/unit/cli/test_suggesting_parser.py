"""Misspelt names and the nearest known ones."""

import pytest

from lightning_qsgd.cli.suggesting_parser import concise, with_suggestion

KNOWN = ["trainer.max_epochs", "goal.target", "perturbation", "run.name"]
CIRCUIT = "Problem with given class_path 'lightning_qsgd.circuits.SuperpositionCircuit':\n  Option "


@pytest.mark.parametrize(
    ("message", "nearest"),
    [
        ("unrecognized arguments: --trainer.max_epohcs=3", "trainer.max_epochs"),
        ("unrecognized arguments: --perturbatoin.strength=3", "perturbation"),
        ("Subcommand 'fit' does not accept option 'goal.targte'", "goal.target"),
        ("Group 'goal' does not accept option 'targte'", "goal.target"),
        (f"{CIRCUIT}'num_qbits' is not accepted", "num_qubits"),
    ],
)
def test_nearest_name_is_suggested(message: str, nearest: str) -> None:
    import lightning_qsgd.circuits  # noqa: F401 - the parser has imported it by then

    assert with_suggestion(message, KNOWN) == f"{message}. Did you mean {nearest}?"


@pytest.mark.parametrize(
    "message",
    [
        "unrecognized arguments: --zzz=3",
        f"{CIRCUIT}'zzz' is not accepted",
        "Expected a <class 'float'>",
        "",
    ],
)
def test_message_without_a_near_name_stays_as_it_is(message: str) -> None:
    assert with_suggestion(message, KNOWN) == message


def test_message_without_noise_stays_as_it_is() -> None:
    message = "Parser key 'goal':\n  Expected a <class 'float'>. Got value: x"
    assert concise(message) == message


def test_message_of_noise_alone_is_kept() -> None:
    assert concise("Errors:") == "Errors:"

"""Misspelt names and the nearest known ones."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from lightning_qsgd.cli.suggesting_parser import EXTRAS, about_class_paths, concise, with_suggestion

KNOWN = ["trainer.max_epochs", "goal.target", "perturbation", "run.name"]
CIRCUIT = "Problem with given class_path 'lightning_qsgd.circuits.SuperpositionCircuit':\n  Option "

ARM = "Problem with given class_path 'lightning_qsgd.compare.planning.ArmPlan':\n  Option "


@pytest.mark.parametrize(
    ("message", "nearest"),
    [
        ("unrecognized arguments: --trainer.max_epohcs=3", "trainer.max_epochs"),
        ("unrecognized arguments: --perturbatoin.strength=3", "perturbation"),
        ("Subcommand 'fit' does not accept option 'goal.targte'", "goal.target"),
        ("Group 'goal' does not accept option 'targte'", "goal.target"),
        (f"{CIRCUIT}'num_qbits' is not accepted", "num_qubits"),
        (f"{ARM}'search_space.model.init_args.lr.low' is not accepted", "space"),
    ],
)
def test_nearest_name_is_suggested(message: str, nearest: str) -> None:
    import lightning_qsgd.circuits  # the parser has imported both by then
    import lightning_qsgd.compare.planning  # noqa: F401

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


def test_every_extra_is_known_with_what_it_brings() -> None:
    project = Path(__file__).parents[3] / "pyproject.toml"
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    brought = {
        extra: {
            word.split(">")[0].replace("-", "_") for word in needs if "lightning-qsgd" not in word
        }
        for extra, needs in extras.items()
    }
    assert {extra: set(modules) for extra, modules in EXTRAS.items()} | {"all": set()} == brought


def test_a_module_that_an_extra_brings_is_named_with_the_extra() -> None:
    remedy = " Install the extra `zoo`: pip install 'lightning-qsgd[zoo]'."
    assert about_class_paths("No module named 'pytorch_optimizer'") == remedy
    assert about_class_paths("No module named 'pytorch_optimizer.lion'") == remedy


def test_message_of_noise_alone_is_kept() -> None:
    assert concise("Errors:") == "Errors:"


RICH_FIRST = """
from typing import Optional, Union
import rich.console, rich.progress
Union[float, int], Optional[Union[float, int]]  # Python keeps this order for Lightning's, too
from lightning_qsgd.cli import PerturbationCLI
PerturbationCLI(args=[
    "fit", "--config=configs/experiments/digits.yaml", "--print_config",
    "--trainer.limit_val_batches=1", "--trainer.val_check_interval=1",
    "--trainer.limit_train_batches=1.0",
    "--trainer.callbacks=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.1",
    "--trainer.callbacks.swa_epoch_start=1",
])
"""


def test_one_batch_stays_one_batch_where_rich_is_imported_before_lightning():
    command = [sys.executable, "-c", RICH_FIRST]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    trainer = yaml.safe_load(printed)["trainer"]
    callback = trainer["callbacks"][0]["init_args"]
    whole = [trainer["limit_val_batches"], trainer["val_check_interval"]]
    whole.append(callback["swa_epoch_start"])
    assert [(type(value), value) for value in whole] == [(int, 1)] * 3, "not 1.0: all of them"
    assert isinstance(trainer["limit_train_batches"], float)

"""A misspelt word is answered before torch, Lightning and qiskit are imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_qsgd.cli import PerturbationCLI, circuit_command, compare_command
from lightning_qsgd.cli.commands import COMMANDS
from lightning_qsgd.cli.configs_command import shipped_configs
from lightning_qsgd.cli.first_look import refuse_misspelt

HEAVY = {"torch", "lightning", "qiskit", "qiskit_aer", "scipy", "sympy", "sklearn", "matplotlib"}
RUN = """
import json, sys
from lightning_qsgd.cli.main import main
try:
    main(json.loads(sys.argv[1]))
except SystemExit as end:
    print(json.dumps([end.code, sorted(name for name in sys.modules if "." not in name)]))
"""
FILES = {
    "key.yaml": "trainr: {max_epochs: 1}",
    "open.yaml": "trainer: {max_epochs: 1",
    "twice.yaml": "data: 1\ndata: 2",
    "list.yaml": "[1, 2]",
    "plan.yaml": "experiment: digits\nseds: 3",
}
MISSPELT = {
    "fti": r"no command 'fti'. Did you mean fit?",
    "fit --config digts": "There is no file digts, and no shipped config has that name. Did you",
    "fit --config digits --modle x": "unrecognized arguments: --modle. Did you mean model?",
    "fit --perturbatoin.strength=1": "Did you mean perturbation?",
    "fit --config key.yaml": "key.yaml: `fit` does not accept option 'trainr'. Did you mean trai",
    "fit -c=open.yaml": "Cannot read open.yaml as YAML: while parsing a flow mapping in open.yaml",
    "fit --config=twice.yaml": "`data` is given twice in one mapping, again in line 2",
    "fit --config list.yaml": "Expected list.yaml to hold options and their values",
    "compare --config plan.yaml": "does not accept option 'seds'. Did you mean seeds?",
    "compare --config demo --onyl x": "Did you mean only?",
    "circuit draw --bakend=x": "Did you mean backend?",
}


def started(arguments: list[str], folder: Path) -> tuple[int, set[str], str]:
    """Run the command in a process of its own; return status, modules and what it said."""
    command = [sys.executable, "-c", RUN, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    status, modules = json.loads(done.stdout.splitlines()[-1])
    return status, set(modules), " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(("typed", "answer"), MISSPELT.items())
def test_a_misspelt_word_is_answered_without_heavy_imports(typed, answer, tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)

    status, modules, said = started(typed.split(), tmp_path)

    assert status == 2
    assert answer in said
    assert not HEAVY & modules


@pytest.mark.parametrize("typed", ["--help", "--version"])
def test_help_and_version_need_no_heavy_imports(typed, tmp_path):
    status, modules, said = started([typed], tmp_path)

    assert status == 0
    assert "lightning-qsgd" in said
    assert not HEAVY & modules


class Found(Exception):  # noqa: N818 - carries the parsers out of a command line
    pass


class Parsers(PerturbationCLI):
    def parse_arguments(self, parser, args):
        raise Found(self._subcommand_parsers)


def roots(parser):
    """First parts of all options of a parser and of its subcommands."""
    options = [option for action in parser._actions for option in action.option_strings]
    found = {o.lstrip("-").split(".")[0].rstrip("+") for o in options if o.startswith("--")}
    children = getattr(parser, "_subcommands_action", None)
    return found.union(*map(roots, children.choices.values() if children else ()))


def test_what_is_known_beforehand_is_what_the_parsers_know():
    with pytest.raises(Found) as caught:
        Parsers(args=["fit"])
    parsers = {**caught.value.args[0]}
    parsers |= {"compare": compare_command._parser(), "circuit": circuit_command._parser()}

    known = {name: {*command.options} for name, command in COMMANDS.items() if command.options}

    assert known.keys() == parsers.keys()
    for name, options in known.items():
        new = options - roots(parsers[name])
        assert roots(parsers[name]) <= options
        assert new <= {"tasks", "weights_only"}, "known for suites, and to newer Lightnings, alone"


@pytest.mark.parametrize(("name", "path"), [*shipped_configs()])
def test_every_shipped_config_passes(name, path):
    command = "compare" if name.startswith(("compare/", "suites/")) else "fit"

    refuse_misspelt([command, "--config", str(path)])


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "--optim=torch.optim.SGD"],  # parsers complete options that are cut short
        ["fit", "--unheard_of=1"],  # nothing is near: the parser may know more
        ["fit", "--model.network=x", "--trainer.callbacks+=y", "--config", "{trainr: 1}", "--"],
        ["--modle", "fit"],
        ["report", "--modle"],
    ],
)
def test_what_is_no_clear_mistake_is_left_to_the_parser(arguments):
    refuse_misspelt(arguments)


@pytest.mark.parametrize("option", ["trainer.limit_val_batches", "trainer.limit_train_batches"])
def test_one_batch_stays_one_batch_and_does_not_become_all_of_them(option):
    command = [
        sys.executable,
        "-m",
        "lightning_qsgd",
        "fit",
        "--config",
        "digits",
        "--print_config",
    ]
    printed = subprocess.run(
        [*command, f"--{option}", "1"], capture_output=True, text=True, check=True
    ).stdout
    assert f"{option.split('.')[1]}: 1\n" in printed

"""A misspelt word is answered before torch, Lightning and qiskit are imported."""

import json
import subprocess
import sys
from contextlib import nullcontext
from inspect import isclass
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import callbacks, loggers, strategies

import lightning_qsgd
from lightning_qsgd import nn, training
from lightning_qsgd.cli import PerturbationCLI, circuit_command, compare_command
from lightning_qsgd.cli.commands import COMMANDS
from lightning_qsgd.cli.configs_command import shipped_configs
from lightning_qsgd.cli.first_look import arguments_of, refuse_misspelt
from lightning_qsgd.cli.main import main
from lightning_qsgd.cli.suggesting_parser import EXTRAS

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
    "empty.yaml": "",
    "plan.yaml": "experiment: digits\nseds: 3",
    "group.yaml": "trainer: {max_epohcs: 1}",
    "optimizer.yaml": "optimizer: {class_path: torch.optim.SGD, init_args: {momentun: 0.9}}",
    "callback.yaml": "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.EarlyStopping,"
    " init_args: {patiense: 3}}]}",
    "inside.yaml": "model: {class_path: lightning_qsgd.training.Classifier, init_args: {network: "
    "{class_path: lightning_qsgd.nn.MLP, init_args: {hiden: [3]}}}}",
    "strength.yaml": "perturbation: {strenght: 0.5}",
    "arms.yaml": "arms: {sine: {overlay: {perturbation: {class_path: lightning_qsgd.Perturbation, "
    "init_args: {strenght: 1}}}}}",
    "kind.yaml": "arms: {sine: {knd: control}}",
    "space.yaml": "arms: {sine: {search_space: {optimizer.init_args.lr: {low: 0.1, high: 1}}}}",
    "budget.yaml": "budget: {max_stepps: 3}",
    "class.yaml": "optimizer: {class_path: torch.optim.AdmW}",
    "short.yaml": "model: lightning_qsgd.training.Clasifier",
    "module.yaml": "trainer: {callbacks: {class_path: lightning.pytorch.calbacks.EarlyStopping}}",
    "tuned.yaml": "arms: {sine: {overlay: {optimizer: torch.optim.SDG}}}",
}
MISSPELT = {
    "fti": r"no command 'fti'. Did you mean fit?",
    "fit --config digts": "There is no file digts, and no shipped config has that name. Did you",
    "fit --config .": ". is a folder: give a file in it after `--config`.",
    "compare --config=..": ".. is a folder: give a file in it after `--config`.",
    "fit --config -": "There is no file -, and no shipped config has that name.",
    "fit --config digits --modle x": "unrecognized arguments: --modle. Did you mean model?",
    "fit --perturbatoin.strength=1": "Did you mean perturbation?",
    "fit --config key.yaml": "key.yaml: `fit` does not accept option 'trainr'. Did you mean trai",
    "fit -c=open.yaml": "Cannot read open.yaml as YAML: while parsing a flow mapping in open.yaml",
    "fit --config=twice.yaml": "`data` is given twice in one mapping, again in line 2",
    "fit --config list.yaml": "Expected list.yaml to hold options and their values",
    "compare --config plan.yaml": "does not accept option 'seds'. Did you mean seeds?",
    "compare --config demo --onyl x": "Did you mean only?",
    "circuit draw --bakend=x": "Did you mean backend?",
    "fit --trainer.max_epohcs 3": "--trainer.max_epohcs. Did you mean trainer.max_epochs?",
    "fit --goal.targte=1": "Did you mean goal.target?",
    "compare --budget.max_stepps 1": "Did you mean budget.max_steps?",
    "fit --config empty.yaml": "such as `seed_everything: 1`, got an empty file. Write a mapping.",
    "fit --config latin.yaml": "Cannot read latin.yaml: line 2 is not UTF-8 text. Save the file as",
    "fit --config group.yaml": "Group 'trainer' does not accept option 'max_epohcs'. Did you mean",
    "fit --config optimizer.yaml": "torch.optim.SGD does not accept option 'momentun'. Did you",
    "fit --config callback.yaml": "EarlyStopping does not accept option 'patiense'. Did you mean p",
    "fit --config inside.yaml": "nn.MLP does not accept option 'hiden'. Did you mean hidden?",
    "fit --config strength.yaml": "'strenght'. Did you mean perturbation.strength?",
    "compare --config arms.yaml": "arm `sine`: lightning_qsgd.Perturbation does not accept option",
    "compare --config kind.yaml": "Group 'arms.sine' does not accept option 'knd'. Did you mean",
    "compare --config space.yaml": "option 'search_space'. Did you mean arms.sine.space?",
    "compare --config budget.yaml": "Did you mean budget.max_steps?",
    "fit --config class.yaml": "module 'torch.optim' has no attribute 'AdmW'. Did you mean torch.o",
    "fit --config short.yaml": "Did you mean lightning_qsgd.training.Classifier?",
    "fit --config module.yaml": "No module named 'lightning.pytorch.calbacks'. Did you mean light",
    "compare --config tuned.yaml": "arm `sine`: module 'torch.optim' has no attribute 'SDG'. Did",
    "fit --optimizer=torch.optim.AdmW": "--optimizer: module 'torch.optim' has no attribute 'Adm",
    "fit --data.class_path lightning_qsgd.data.DigitDataModule": "n lightning_qsgd.data.Digits",
    "fit --data lightening_qsgd.data.X": "No module named 'lightening_qsgd'. Did you mean lightn",
    "fit --config digits --optimizer.lrr 1": "--optimizer.lrr. Did you mean optimizer.lr?",
    "fit --optimizer torch.optim.SGD --optimizer.init_args.momentun=1": "mean optimizer.momentum?",
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
    (tmp_path / "latin.yaml").write_bytes("data: 1\n# café".encode("latin-1"))

    status, modules, said = started(typed.split(), tmp_path)

    assert status == 2
    assert answer in said
    assert not HEAVY & modules


@pytest.mark.parametrize("typed", ["--help", "--version", "fit --help", "compare -h"])
def test_help_and_version_need_no_heavy_imports(typed, tmp_path):
    status, modules, said = started(typed.split(), tmp_path)

    assert status == 0
    assert "lightning-qsgd" in said
    assert not HEAVY & modules


def test_the_short_help_of_fit_says_what_every_option_of_the_parser_is(tmp_path):
    _, _, said = started(["fit", "--help"], tmp_path)

    for action in parser_of("fit")._actions:
        name = action.option_strings[-1].rstrip("+")
        assert f"{name} " in said or ".help" in name
    assert "--trainer.max_epochs Stop training once this number of epochs is reached." in said
    assert "--goal.loss Tag of the training loss, logged at every step." in said


def test_a_class_in_folders_without_init_files_is_looked_for(tmp_path, monkeypatch):
    folder = tmp_path / "plain_project" / "models"
    folder.mkdir(parents=True)
    (folder / "net.py").write_text("class Net:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name, answer in {
        "net.Net": nullcontext(),
        "net.Nets": pytest.raises(
            ValueError, match=r"Did you mean plain_project\.models\.net\.Net"
        ),
        "nett.Net": pytest.raises(ValueError, match=r"Did you mean plain_project\.models\.net\?"),
    }.items():
        (tmp_path / "fit.yaml").write_text(f"model: plain_project.models.{name}")
        with answer:
            refuse_misspelt(["fit", "--config", str(tmp_path / "fit.yaml")])
    assert "plain_project" not in sys.modules


def test_help_of_everything_is_the_parsers(capsys):
    with pytest.raises(SystemExit) as end:
        main(["fit", "--help", "all"])

    said = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    assert "--trainer.max_epochs MAX_EPOCHS" in said
    assert "known subclasses: lightning.pytorch.accelerators.CPUAccelerator" in said


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


def parser_of(subcommand):
    with pytest.raises(Found) as caught:
        Parsers(args=[subcommand])
    (parser,) = caught.value.args[0].values()
    return parser


def test_what_is_known_beforehand_is_what_the_parsers_know():
    parsers = {name: parser_of(name) for name in ("fit", "validate", "test", "predict")}
    parsers |= {"compare": compare_command._parser(), "circuit": circuit_command._parser()}

    known = {name: {*command.options} for name, command in COMMANDS.items() if command.options}

    assert known.keys() == parsers.keys()
    for name, options in known.items():
        new = options - roots(parsers[name])
        assert roots(parsers[name]) <= options
        assert new <= {"tasks", "weights_only"}, "known for suites, and to newer Lightnings, alone"


SOURCES = (lightning_qsgd, nn, training, torch.optim, torch.optim.lr_scheduler)


@pytest.mark.parametrize("module", [*SOURCES, pl.trainer, callbacks, loggers, strategies])
def test_what_the_source_says_of_a_class_is_what_the_parser_takes(module):
    for name in getattr(module, "__all__", dir(module)):
        kind = getattr(module, name)
        read = arguments_of(f"{module.__name__}.{name}") if isclass(kind) else None
        if read is not None:
            taken = ArgumentParser().add_class_arguments(kind, "it", fail_untyped=False)
            assert {*taken} <= {f"it.{argument}" for argument in read}


@pytest.mark.parametrize(
    "path",
    [
        *(group for command in COMMANDS.values() for group in command.groups.values() if group),
        *("torch.optim.AdamW", "torch.optim.lr_scheduler.OneCycleLR"),
        *("lightning_qsgd.nn.MLP", "lightning_qsgd.SpectralInjection"),
        "lightning.pytorch.callbacks.EarlyStopping",
    ],
)
def test_the_classes_that_are_named_most_are_read(path):
    assert arguments_of(path)


@pytest.mark.parametrize(
    "source",
    [
        "class Mine:\n    def __init__(self, width, **more): ...",
        "class Mine(dict): ...",
        "class Mine(metaclass=Made):\n    def __init__(self, width): ...",
        "class Mine:\n    def __new__(cls, width, height): ...\n    def __init__(self, width): ...",
        "@changed\nclass Mine:\n    def __init__(self, width): ...",
        "class Mine:\n    @changed\n    def __init__(self, width): ...",
        "class Mine:\n    def __init__(self, width): ...\nMine = changed(Mine)",
        "class Mine:\n    def __init__(self, width): ...\nfrom elsewhere import *",
        "try:\n    from a import Mine\nexcept ImportError:\n    from b import Mine",
        "def Mine(width): ...",
        "from mine import Mine",
        "this is no Python",
    ],
)
def test_a_class_that_cannot_be_told_from_its_source_is_left_to_the_parser(
    source, tmp_path, monkeypatch
):
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.yaml").write_text("model: {class_path: mine.Mine, init_args: {widht: 1}}")

    assert arguments_of("mine.Mine") is None
    refuse_misspelt(["fit", "--config", str(tmp_path / "mine.yaml")])


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        ("class Model: ...", True),
        ("class Model: ...\nfrom elsewhere import *", False),
        ("class Model: ...\ndef __getattr__(name): ...", False),
        ("class Model: ...\nglobals()['Modle'] = Model", False),
        ("class Model: ...\nsetattr(__import__('mine'), 'Modle', Model)", False),
        ("class Model: ...\nimport sys\nsys.modules[__name__].Modle = Model", False),
        ("class Model: ...\ndef make():\n    global Modle\n    Modle = Model\nmake()", False),
        ("class Model: ...\nModle = Model", False),
        ("class Model: ...\nfrom elsewhere import Other as Modle", False),
        ("class Model:\n    class Modle: ...", True),
    ],
)
def test_a_class_path_is_refused_only_where_the_whole_module_can_be_read(
    source, refused, tmp_path, monkeypatch
):
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)

    with (
        pytest.raises(ValueError, match=r"Did you mean mine.Model\?") if refused else nullcontext()
    ):
        refuse_misspelt(["fit", "--model", "mine.Modle"])


def test_a_module_that_an_extra_brings_is_named_with_it_at_once(monkeypatch):
    monkeypatch.setitem(EXTRAS, "zoo", ("pytorch_optimiser",))
    with pytest.raises(ValueError, match=r"pip install 'lightning-qsgd\[zoo\]'"):
        refuse_misspelt(["fit", "--optimizer", "pytorch_optimiser.Lion"])


def test_a_class_of_the_users_is_read_and_what_it_takes_as_a_dict_is_not(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "Other = dict[str, int]\n"
        "class Base:\n    def __init__(self, width: int, more: dict[str, int], other: Other): ...\n"
        "class Mine(Base): ..."
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "mine.yaml"
    config.write_text(
        "model: {class_path: mine.Mine, init_args: {more: {class_path: mine.Mine, init_args: "
        "{widht: 1}}}}"
    )

    refuse_misspelt(["fit", "--config", str(config)])
    config.write_text(config.read_text().replace("more: {", "other: {"))
    refuse_misspelt(["fit", "--config", str(config)])
    config.write_text("model: {class_path: mine.Mine, init_args: {widht: 1}}")
    with pytest.raises(ValueError, match=r"mine.Mine does not accept option 'widht'.*mean width"):
        refuse_misspelt(["fit", "--config", str(config)])


@pytest.mark.parametrize(("name", "path"), [*shipped_configs()])
def test_every_shipped_config_passes(name, path):
    command = "compare" if name.startswith(("compare/", "suites/")) else "fit"

    refuse_misspelt([command, "--config", str(path)])


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "--optim=torch.optim.SGD"],  # parsers complete options that are cut short
        ["fit", "--unheard_of=1"],  # nothing is near: the parser may know more
        ["fit", "--trainer.unheard_of=1", "--trainer.max_ep=1", "--trainer.logger.sav_dir=x"],
        ["fit", "--model.widht=1", "--optimizer.l=1", "--baseline.class_path=x", "--run.help"],
        ["fit", "--model.network=x", "--trainer.callbacks+=y", "--config", "{trainr: 1}", "--"],
        ["fit", "--optimizer=torch.optim.SGD", "--optimizer=Adam", "--optimizer.lrr=1"],
        ["fit", "--optimizer", "SDG", "--model", "unheard.Of", "--data", "torch.unheard.Of"],
        ["fit", "--model", "torch.nn.Lienar", "--data=a.yaml"],  # torch.nn takes names with a `*`
        ["--modle", "fit"],
        ["report", "--modle"],
    ],
)
def test_what_is_no_clear_mistake_is_left_to_the_parser(arguments):
    refuse_misspelt(arguments)

"""`import lightning_qsgd` imports nothing heavy, and every public name is there all the same."""

import ast
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lightning_qsgd
import lightning_qsgd.cli


def defined(package):
    """Names and modules that a type checker is told."""
    tree = ast.parse(Path(package.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


def output_of(code):
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.parametrize("package", [lightning_qsgd, lightning_qsgd.cli], ids=lambda p: p.__name__)
def test_every_name_is_what_a_type_checker_takes_it_for(package):
    homes = defined(package)

    assert homes.keys() == set(package.__all__)
    for name, module in homes.items():
        assert getattr(package, name) is getattr(import_module(module), name)
    assert {*homes} <= {*dir(package)}


def test_the_import_of_the_package_imports_nothing_heavy():
    code = "import lightning_qsgd, lightning_qsgd.cli, sys; print(*sys.modules)"

    assert not {"torch", "lightning", "qiskit", "numpy"} & {*output_of(code).split()}


def test_a_star_import_brings_every_name():
    names = {}

    exec("from lightning_qsgd import *", names)

    assert {*lightning_qsgd.__all__} <= names.keys()


def test_rooms_and_pickles_are_found_where_nothing_is_imported_yet():
    pickled = pickle.dumps(lightning_qsgd.Strength(0.25))
    code = f"import lightning_qsgd as q, pickle; print(pickle.loads({pickled!r}).value)"

    found = output_of(f"{code}; print(q.nn.MLP.__name__, q.training.Goal is q.Goal)")

    assert found.split() == ["0.25", "MLP", "True"]


@pytest.mark.parametrize("name", ["Perturbatoin", "_private", "__wrapped__"])
def test_a_name_that_is_not_there_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"'lightning_qsgd' has no attribute '{name}'"):
        getattr(lightning_qsgd, name)

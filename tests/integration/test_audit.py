"""The audit of dependencies counts what it looked up, and fails where that was nothing."""

import json
import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "audit"


@pytest.fixture
def audit(monkeypatch):
    loader = SourceFileLoader("audit", str(SCRIPT))
    module = module_from_spec(spec_from_loader("audit", loader))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader.exec_module(module)
    return module


def answer(monkeypatch, dependencies):
    text = dependencies if isinstance(dependencies, str) else json.dumps(dependencies)
    done = subprocess.CompletedProcess([], 0, stdout=text, stderr="no connection")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)


def entries(audit, **fields):
    names = [line.split("==")[0] for line in audit.PINS.read_text().splitlines() if "==" in line]
    return {"dependencies": [{"name": name, "version": "1", **fields} for name in names]}


def test_an_audit_that_looked_up_nothing_fails(audit, monkeypatch, capsys):
    answer(monkeypatch, entries(audit, skip_reason="not found"))

    assert audit.main() == 2
    assert "this was no audit" in capsys.readouterr().err


def test_an_audit_without_an_answer_fails(audit, monkeypatch, capsys):
    answer(monkeypatch, "")

    assert audit.main() == 2
    assert "no connection" in capsys.readouterr().err


def test_a_weak_dependency_fails_and_is_named(audit, monkeypatch, capsys):
    answer(monkeypatch, entries(audit, vulns=[{"id": "PYSEC-1"}]))

    assert audit.main() == 1
    assert "torch 1 ['PYSEC-1']" in capsys.readouterr().out


def test_an_audit_that_finds_nothing_weak_passes(audit, monkeypatch):
    answer(monkeypatch, entries(audit, vulns=[]))

    assert audit.main() == 0

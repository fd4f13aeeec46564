"""The command `doctor`: versions, devices, extras and costs of this machine."""

import os
import re
import sys
from importlib.metadata import version

import pytest

from lightning_qsgd.backends.forecast import StepForecast
from lightning_qsgd.cli import doctor_command
from lightning_qsgd.cli.main import main
from lightning_qsgd.compare.executors import LocalExecutor
from lightning_qsgd.compare.results.results import provenance_of


def said(capsys):
    main(["doctor"])
    return " ".join(capsys.readouterr().out.split())


def test_what_is_installed_is_named_with_its_version(capsys):
    printed = said(capsys)

    for name in ("torch", "lightning", "qiskit-machine-learning", "lightning-qsgd"):
        assert f"{name} {version(name)} " in printed
    assert re.search(r"Devices: CPU, \d+ cores, 1 threads of torch", printed)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_cores_that_this_process_may_not_use_do_not_count(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3})

    assert "Devices: CPU, 2 cores" in said(capsys)
    assert ", 2 cores, " in provenance_of("", "").machine
    assert LocalExecutor(tmp_path).at_a_time == 2
    assert LocalExecutor(tmp_path, 5).at_a_time == 5


def test_what_is_not_installed_comes_with_what_brings_it(capsys, monkeypatch):
    monkeypatch.setattr(doctor_command, "PACKAGES", ("no-such-package",))
    monkeypatch.setattr(doctor_command, "EXTRAS", {"plot": ("json", "no_such_module"), "llm": ()})

    printed = said(capsys)

    assert "no-such-package not installed" in printed
    assert "`plot`: lacks no_such_module: pip install 'lightning-qsgd[plot]'" in printed
    assert "Extra `llm`: installed" in printed


@pytest.mark.parametrize("backend", ["SineBackend", "CompiledBackend"])
def test_a_step_of_each_backend_has_a_cost(capsys, backend):
    found = re.search(rf"circuits of a step in {backend}: ([\d.,]+) (us|ms|s) here", said(capsys))

    assert found is not None
    assert float(found[1].replace(",", "")) > 0


def test_a_time_of_microseconds_is_not_shown_as_nothing(capsys, monkeypatch):
    fast = StepForecast(circuits=27, seconds=4.1e-6, slowest=5e-6, measured=27)
    monkeypatch.setattr(sys.modules[StepForecast.__module__], "forecast_step", lambda *_: fast)

    assert "The 27 circuits of a step in SineBackend: 4.1 us here" in said(capsys)

"""Several devices: `fit` trains on them and reports, `compare` says that its runs take one each."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.accelerators import CPUAccelerator

from tests.strangers import in_jobs
from tests.strangers.test_in_jobs import of, run
from tests.strangers.test_strangers import ROOT, command, plan

__all__ = ["command"]
SAID = "Expected every run of a comparison to train on one device"


@pytest.mark.parametrize(
    "trainer",
    [
        {"devices": 2, "strategy": "ddp"},
        {"devices": "2"},
        {"num_nodes": 2},
        {"devices": 1, "strategy": "ddp_spawn"},  # one process, and another than the job's
        {"devices": 2, "strategy": {"class_path": "lightning.pytorch.strategies.DDPStrategy"}},
    ],
)
def test_a_comparison_on_several_devices_is_refused_before_any_run(
    trainer: dict[str, Any], command: Any
) -> None:
    printed = command("compare", "--config", plan(of(in_jobs.Plain, **trainer)), status=2)
    assert SAID in printed
    assert "Write `trainer: {devices: 1, num_nodes: 1, strategy: auto}`" in printed
    assert "first steps" not in printed
    assert not Path("out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine could tell")
def test_devices_that_are_elsewhere_are_counted_as_written(command: Any) -> None:
    config = of(in_jobs.Plain, devices=[0, 1], accelerator="gpu")
    assert SAID in command("compare", "--config", plan(config), status=2)


def test_as_many_devices_as_there_are_may_be_too_many(command: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(CPUAccelerator, "auto_device_count", staticmethod(lambda: 2))
    printed = command("compare", "--config", plan(of(in_jobs.Plain, devices="auto")), status=2)
    assert f"{SAID}, in the process of its job, got `trainer.devices` for 2" in printed


def test_a_suite_on_several_devices_is_refused_before_any_run(command: Any) -> None:
    task = {"experiment": of(in_jobs.Plain, devices=2), "budget": {"max_steps": 2}}
    arms = {"base": {"kind": "baseline"}, "sine": {"overlay": {"perturbation": {}}}}
    suite = {"tasks": {"one": task}, "arms": arms, "folder": "out"}
    Path("suite.yaml").write_text(yaml.safe_dump(suite))
    assert SAID in command("compare", "--config", "suite.yaml", status=2)
    assert not Path("out").exists()


def test_a_job_refuses_what_its_machine_has_too_much_of(tmp_path: Path) -> None:
    (failure,) = run(tmp_path, of(in_jobs.Plain, devices=2, strategy="ddp"))
    assert SAID in failure


def test_a_strategy_for_several_devices_may_have_one(command: Any) -> None:
    config = of(in_jobs.Plain, devices=1, strategy="ddp")
    assert "FAILED" not in command("compare", "--config", plan(config))


@pytest.mark.parametrize("strategy", ["ddp", "ddp_fork"])
def test_a_fit_on_two_devices_ends_with_its_outcome(strategy: str, tmp_path: Path) -> None:
    config = {**of(in_jobs.Plain, devices=2, strategy=strategy), "perturbation": {"strength": 0.5}}
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    asked = ("fit", "--config", "fit.yaml", "--baseline", "own")
    ended = subprocess.run(
        [sys.executable, "-m", "lightning_qsgd", *asked],
        cwd=tmp_path,
        env={**_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "One seed, val_nll" in ended.stdout
    assert ended.stdout.count("No claim") == 1
    assert len(list(tmp_path.rglob("record.json"))) == 2


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PL_", "MASTER_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

"""The page "write your own": its examples work from a file of the user's, named in YAML."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_qsgd.compare.executors import choose_executor
from lightning_qsgd.compare.running import Running
from lightning_qsgd.tracking import tags
from tests.compare_jobs import made_job, quick_fit
from tests.event_files import read_scalars

PAGE = Path(__file__).parents[2] / "docs" / "own_parts.md"
EXAMPLES = dict(re.findall(r"```python\n# (\w+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))

ONE_QUBIT = {
    "class_path": "lightning_qsgd.CompiledBackend",
    "init_args": {
        "circuit": {
            "class_path": "lightning_qsgd.SuperpositionCircuit",
            "init_args": {"num_qubits": 1, "reps": 1},
        }
    },
}
CONFIGS: dict[str, dict[str, Any]] = {
    "injection": {"injection": "my_parts.SignInjection"},
    "memory": {"injection": "my_parts.AveragedInjection"},
    "coordinates": {
        "coordinates": {"class_path": "my_parts.EveryOther", "init_args": {"stride": 3}}
    },
    "control": {
        "injection": {
            "class_path": "lightning_qsgd.UpdateInjection",
            "init_args": {"control": "my_parts.Flipped"},
        }
    },
    "decay": {
        "strength": {
            "class_path": "lightning_qsgd.Strength",
            "init_args": {
                "value": 0.5,
                "decay": {"class_path": "my_parts.Halving", "init_args": {"period": 2}},
            },
        }
    },
    "backend": {"backend": "my_parts.CosineBackend"},
    "keys": {"backend": "my_parts.NoisyBackend"},
    "feature": {
        "features": "my_parts.StepSize",
        "backend": ONE_QUBIT,
        "coordinates": "lightning_qsgd.AllEntries",
        "injection": "lightning_qsgd.RenormalisedInjection",
    },
}


@pytest.fixture
def my_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All examples of the page in one file of the user's."""
    (tmp_path / "my_parts.py").write_text("\n".join(EXAMPLES.values()))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)


def test_every_axis_has_an_example_of_at_most_25_lines() -> None:
    assert EXAMPLES.keys() == {*CONFIGS, "executor"}
    assert max(len(code.strip().splitlines()) for code in EXAMPLES.values()) <= 25


def trained(command_line: Any, name: str, arm: str, **perturbation: Any) -> Any:
    config = Path(f"{arm}.yaml")
    entry = {"perturbation": {**CONFIGS[name], **perturbation}, "run": {"arm": arm}}
    config.write_text(yaml.safe_dump(entry))
    command_line.fit("--config", str(config))
    folder = command_line.run_folder(arm)
    saved = torch.load(next(folder.glob("checkpoints/*.ckpt")), weights_only=True)
    return read_scalars(folder), torch.cat([v.flatten() for v in saved["state_dict"].values()])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.usefixtures("my_parts")
def test_a_part_from_a_file_of_the_user_trains_from_yaml(command_line: Any, name: str) -> None:
    scalars, weights = trained(command_line, name, "own")
    _, without = trained(command_line, name, "off", strength=0.0)
    assert scalars[tags.RELATIVE_SIZE].steps.tolist() == [0, 1, 2, 3]
    assert (scalars[tags.RELATIVE_SIZE].values > 0).all()
    assert not torch.equal(weights, without)


@pytest.mark.usefixtures("my_parts")
def test_an_injection_of_the_user_can_be_controlled_and_learned(command_line: Any) -> None:
    control = {"control": "lightning_qsgd.GaussianControl"}
    injection = {"class_path": "my_parts.SignInjection", "init_args": control}
    scalars, _ = trained(command_line, "injection", "controlled", injection=injection)
    assert (scalars[tags.RELATIVE_SIZE].values > 0).all()
    scalars, _ = trained(command_line, "injection", "learned", learning={"strength_rate": 0.1})
    assert scalars["perturbation/strength_factor"].values[-1] != 1.0


@pytest.mark.usefixtures("my_parts")
def test_an_executor_of_the_user_makes_the_runs_of_a_comparison(tmp_path: Path) -> None:
    jobs = [made_job("a", 0), made_job("a", 1, does="raise")]
    started: list[Any] = []
    executor = choose_executor(Running(executor="my_parts.PoolExecutor"), tmp_path)
    ended = {one.job.seed: one for one in executor.run(quick_fit, jobs, started.append)}
    assert started == jobs
    assert ended[0].run.final == quick_fit(jobs[0]).final
    assert "no luck with 1" in ended[1].traceback

"""Wrong configs of `fit` and `compare`: refused with status 2, before anything is made."""

import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_qsgd.cli.main import main

MODEL = "tests.strangers.projects.Classifier"
DATA = "tests.strangers.projects.Points"
NUMBERS = {
    "negative": -1,
    "endless": float("inf"),
    "no number": float("nan"),
    "a word": "many",
    "a list": [1, 2],
    "a mapping": {"a": 1},
}
ODD_NAMES = {
    "long": "x" * 300,
    "with NUL": "a\0b",
    "with a line break": "a\nb",
    "with a slash": "a/b",
    "parent": "..",
    "empty": "",
    "with a space at its end": "a ",
}
HUGE = 10**12
SECONDS = 60
"""After which a command counts as one that hangs."""


def at(path: str, value: Any) -> dict[str, Any]:
    """Nest a value under a dotted path."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = dict(one)
    for key, value in other.items():
        nested = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = merged(both[key], value) if nested else value
    return both


FIT: dict[str, Any] = {
    "model": MODEL,
    "data": DATA,
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    },
    "goal": {"loss": "train_loss", "metric": "val_acc"},
    "baseline": "adamw",
    "perturbation": {"strength": 0.5},
}
PLAN: dict[str, Any] = {
    "experiment": "experiment.yaml",
    "budget": {"max_epochs": 1},
    "seeds": 2,
    "arms": {
        "base": {"kind": "baseline"},
        "sine": {"overlay": {"perturbation": {"strength": 0.5}}},
    },
}
SAMPLER = "perturbation.backend.init_args"
BACKEND = at("perturbation.backend.class_path", "lightning_qsgd.SamplerBackend")


def wrong_fits() -> dict[str, dict[str, Any]]:  # noqa: C901 - a list of cases
    """Changes of a fit's config, none of which can be meant."""
    cases: dict[str, dict[str, Any]] = {}
    numbers = {
        "perturbation.strength": NUMBERS,
        "perturbation.seed": NUMBERS | {"a fraction": 1.5},
        "baseline.lr": NUMBERS,
        "baseline.weight_decay": NUMBERS,
        "goal.target": {k: NUMBERS[k] for k in ("endless", "no number", "a word", "a list")},
        "seed_everything": {
            "negative": -1,
            "a word": "many",
            "huge": 5_000_000_000,
            "a fraction": 0.5,
            "a list": [1],
        },
        "trainer.max_epochs": {k: NUMBERS[k] for k in ("a word", "a list", "a mapping")},
    }
    for path, values in numbers.items():
        for kind, value in values.items():
            change = at(path, value)
            if path.startswith("baseline"):
                cases[f"{path} {kind}"] = {**change}
            else:
                cases[f"{path} {kind}"] = change
    for part in ("experiment", "arm", "name"):
        for kind, name in ODD_NAMES.items():
            cases[f"run.{part} {kind}"] = at(f"run.{part}", name)
    for kind, root in {"with NUL": "a\0b", "long": "x" * 5000, "a file": "file"}.items():
        cases[f"run.root {kind}"] = at("run.root", root)
    for group in ("perturbation", "goal", "run", "trainer"):
        for kind, value in {
            "a word": "word",
            "a number": 5,
            "a list": [1],
            "a truth": True,
        }.items():
            cases[f"{group} {kind}"] = {group: value}
        cases[f"{group} unknown key"] = at(f"{group}.nonsense", 1)
    cases["baseline a word"] = {"baseline": "sgd"}
    cases["baseline unknown key"] = at("baseline.nonsense", 1)
    cases["unknown group"] = {"perturbatoin": {"strength": 1}}
    for path in ("model", "data", "optimizer", "lr_scheduler", "perturbation.backend"):
        for kind, value in {
            "nowhere": "nowhere.Thing",
            "misspelt": "lightning_qsgd.Nothing",
            "no class": "math.pi",
            "of another kind": "torch.nn.Linear",
            "a number": 5,
        }.items():
            cases[f"{path} {kind}"] = at(path, value)
    cases["model unknown option"] = at("model", {"class_path": MODEL, "init_args": {"wide": 3}})
    cases["model option of another type"] = at(
        "model", {"class_path": MODEL, "init_args": {"width": "wide"}}
    )
    cases["model that cannot be built"] = at(
        "model", {"class_path": MODEL, "init_args": {"width": -3}}
    )
    for name, values in {
        "num_qubits": [0, -1, 40, 1_000_000, "four"],
        "reps": [0, -1, 1_000_000, "one"],
        "entanglement": ["ring", 3],
    }.items():
        for value in values:
            change = at(
                f"{SAMPLER}.circuit",
                {"class_path": "lightning_qsgd.SuperpositionCircuit", "init_args": {name: value}},
            )
            cases[f"circuit {name} {value}"] = merged(BACKEND, change)
    for value in (0, -1, HUGE, "four"):
        sine = {"class_path": "lightning_qsgd.SineBackend", "init_args": {"num_qubits": value}}
        cases[f"sine num_qubits {value}"] = at("perturbation.backend", sine)
    for value in (0, -5, "many"):
        cases[f"shots {value}"] = merged(
            BACKEND,
            at(
                f"{SAMPLER}.sampling",
                {"class_path": "lightning_qsgd.ShotSampling", "init_args": {"shots": value}},
            ),
        )
    for value in (0, -1, "all"):
        cases[f"count {value}"] = at(
            "perturbation.coordinates",
            {"class_path": "lightning_qsgd.RandomEntries", "init_args": {"count": value}},
        )
    for name, value in {
        "accelerator": "gpus",
        "precision": "17-true",
        "devices": -3,
        "max_steps": -7,
        "gradient_clip_val": "big",
        "callbacks": [{"class_path": "nowhere.Callback"}],
        "logger": "nowhere.Logger",
        "limit_train_batches": -1,
        "accumulate_grad_batches": 0,
        "check_val_every_n_epoch": "never",
        "strategy": "magic",
    }.items():
        cases[f"trainer.{name} {value}"[:60]] = at(f"trainer.{name}", value)
    for name, arguments in {
        "lr negative": {"lr": -1.0},
        "lr a word": {"lr": "fast"},
        "unknown option": {"lr": 0.1, "speed": 3},
        "betas out of range": {"lr": 0.1, "betas": [2.0, 0.9]},
    }.items():
        cases[f"optimizer {name}"] = at(
            "optimizer", {"class_path": "torch.optim.Adam", "init_args": arguments}
        )
    return cases


def wrong_plans() -> dict[str, dict[str, Any]]:  # noqa: C901 - a list of cases
    """Changes of a comparison's config, none of which can be meant."""
    cases: dict[str, dict[str, Any]] = {}
    for kind, value in {
        "none": 0,
        "negative": -3,
        "huge": 5_000_000_000,
        "a word": "many",
        "a fraction": 1.5,
        "a list of words": ["a"],
        "twice": [1, 1],
        "too large": [2**32],
        "an empty list": [],
    }.items():
        cases[f"seeds {kind}"] = {"seeds": value}
        cases[f"tuning.seeds {kind}"] = {
            "tuning": {"seeds": value},
            "arms": {"base": {"kind": "baseline", "hyperparameters": "tuned"}},
        }
        cases[f"goal.target_seeds {kind}"] = {
            "goal": {"target": "from_baseline", "target_seeds": value}
        }
    for name in ("max_steps", "max_epochs", "seconds"):
        for kind, value in {**NUMBERS, "none": 0}.items():
            cases[f"budget.{name} {kind}"] = {"budget": {"max_epochs": None, name: value}}
    cases["no budget"] = {"budget": {"max_epochs": None}}
    for kind, value in {"a word": "many", "none": 0, "negative": -1, "huge": 10**12}.items():
        cases[f"processes {kind}"] = {"processes": value}
        if kind != "huge":
            cases[f"tuning.trials {kind}"] = {"tuning": {"trials": value}}
    for kind, name in ODD_NAMES.items():
        cases[f"arm {kind}"] = {"arms": {name: {"overlay": {"perturbation": {"strength": 1.0}}}}}
    for kind, overlay in {
        "a missing file": "nowhere.yaml",
        "an unknown group": {"perturbatoin": {}},
        "a wrong value": {"perturbation": {"strength": -1}},
        "the seed": {"seed_everything": 3},
        "the budget": {"trainer": {"max_epochs": 9}},
        "a number": 5,
        "nothing": {},
    }.items():
        cases[f"overlay of {kind}"] = {"arms": {"odd": {"overlay": overlay}}}
    for key, value in {
        "kind": "contestant",
        "hyperparameters": "guessed",
        "control_of": ["nobody"],
        "nonsense": 1,
    }.items():
        cases[f"arm {key}"] = {"arms": {"odd": {"overlay": {"perturbation": {}}, key: value}}}
    for key, value in {
        "experiment": "nowhere.yaml",
        "executor": "slurm",
        "unpaired": "maybe",
        "changed": "no",
        "arms": [],
        "folder": "file",
        "nonsense": 1,
        "address": "auto",
        "goal": {"metric": 5},
    }.items():
        cases[f"plan {key}"] = {key: value}
    for kind, name in {"with NUL": "a\0b", "long": "x" * 5000}.items():
        cases[f"folder {kind}"] = {"folder": name}
    return cases


FITS, PLANS = wrong_fits(), wrong_plans()


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Any:
    """Run the command; it must exit with status 2 in words, and leave nothing behind."""
    monkeypatch.setattr(sys, "argv", ["lightning-qsgd"])
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")

    def too_late(*_: Any) -> None:
        raise AssertionError(f"not refused within {SECONDS} s")

    signal.signal(signal.SIGALRM, too_late)

    def run(*arguments: str) -> str:
        before = sorted(path.name for path in tmp_path.rglob("*"))
        capfd.readouterr()
        signal.alarm(SECONDS)
        with pytest.raises(SystemExit) as caught:
            main([*arguments])
        signal.alarm(0)
        said = capfd.readouterr()
        words = " ".join(said.err.split())
        assert caught.value.code == 2, words
        assert "Traceback" not in said.out + said.err
        assert "error: " in words
        assert len(words) < 4000
        assert sorted(path.name for path in tmp_path.rglob("*")) == before
        return words

    return run


@pytest.mark.parametrize("change", FITS.values(), ids=FITS)
def test_wrong_fit_is_refused(change: dict[str, Any], refused: Any) -> None:
    config = {key: value for key, value in FIT.items() if not isinstance(change.get(key), str)}
    if "baseline" in change:
        config.pop("baseline", None)
    Path("fit.yaml").write_text(yaml.safe_dump(merged(config, change)))
    refused("fit", "--config", "fit.yaml")


@pytest.mark.parametrize("change", PLANS.values(), ids=PLANS)
def test_wrong_plan_is_refused(change: dict[str, Any], refused: Any) -> None:
    plain = {key: FIT[key] for key in ("model", "data", "trainer", "goal")}
    Path("experiment.yaml").write_text(yaml.safe_dump(plain))
    Path("plan.yaml").write_text(yaml.safe_dump(merged(PLAN, change)))
    refused("compare", "--config", "plan.yaml")


def test_a_comparison_by_a_metric_of_unknown_direction_is_refused(refused: Any) -> None:
    plain = {key: FIT[key] for key in ("model", "data", "trainer")}
    Path("experiment.yaml").write_text(yaml.safe_dump({**plain, "goal": {"metric": "energy"}}))
    Path("plan.yaml").write_text(yaml.safe_dump(PLAN))
    said = (
        "Expected `goal.higher_is_better` beside `goal.metric: energy`: the experiment's says not"
    )
    assert said in refused("compare", "--config", "plan.yaml")
    tasks = {"one": {key: PLAN[key] for key in ("experiment", "budget")}}
    suite = {**{key: PLAN[key] for key in ("seeds", "arms")}, "tasks": tasks}
    Path("suite.yaml").write_text(yaml.safe_dump(suite))
    assert said in refused("compare", "--config", "suite.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "goal: {metric: a, metric: b}\n",
        "goal: {metric: a}\ntrainer: {max_epochs: 1}\ngoal: {metric: b}\n",
        "perturbation:\n  strength: 0.1\n  strength: 0.2\n",
    ],
)
def test_a_key_that_is_given_twice_is_refused(text: str, refused: Any) -> None:
    Path("twice.yaml").write_text(text)
    words = refused("fit", f"--model={MODEL}", "--config", "twice.yaml")
    assert re.search(r"`(goal|metric|strength)` is given twice.*line \d", words)


@pytest.mark.parametrize("text", ["goal: [", "\t- a", "a: b: c", "\0", "- 1\n- 2\n"])
def test_a_file_that_is_no_config_is_refused(text: str, refused: Any) -> None:
    Path("broken.yaml").write_text(text)
    refused("fit", f"--model={MODEL}", "--config", "broken.yaml")


def test_there_are_as_many_wrong_configs_as_were_tried_by_hand() -> None:
    assert len(FITS) + len(PLANS) >= 230

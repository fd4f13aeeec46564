"""The shipped configurations of language models, through the command."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("transformers", reason="needs the extra llm")

from benchmarks.llm_step import BARE, PERTURBED
from benchmarks.llm_step import main as measure_step
from lightning_qsgd.cli import PerturbationCLI
from lightning_qsgd.cli.main import main
from lightning_qsgd.llm import hub, problems
from lightning_qsgd.tracking import tags
from tests.event_files import read_scalars
from tests.llm_cases import CHAT_TEMPLATE, PROBLEMS, TINY, tokenizer

CONFIGS = Path(__file__).parents[2] / "configs"
EXPERIMENT = str(CONFIGS / "experiments" / "gsm8k_tiny.yaml")
PATH = f"--data.init_args.path={PROBLEMS}"
SMALL = (
    *(PATH, "--data.init_args.held_out.size=6", "--data.init_args.batch_size=1"),
    "--trainer.val_check_interval=2",
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "llm_cache"))


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """A config that says where the data is, and makes little of it."""
    file = tmp_path / "where.yaml"
    data = {"path": str(PROBLEMS), "held_out": {"size": 6}, "batch_size": 2}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 1024}
    model = {"model": {"init_args": {"sizes": sizes}}}
    changes = {"data": {"init_args": data}, "model": {"init_args": model}}
    changes |= {"trainer": {"val_check_interval": 2}}  # an epoch has 3 batches
    file.write_text(yaml.safe_dump(changes))
    return file


@pytest.mark.parametrize("arm", ["compiled_0.1", "compiled_0.5", "relative_0.5"])
def test_tiny_experiment_runs_with_every_arm_of_the_paper(arm: str, command_line: Any) -> None:
    overlay = str(CONFIGS / "arms" / f"{arm}.yaml")
    command_line.fit(*SMALL, "--config", overlay, config="gsm8k_tiny")
    folder = command_line.run_folder(arm, experiment="gsm8k_tiny")
    scalars = read_scalars(folder)
    assert scalars["train/loss"].steps.tolist() == [0, 1, 2, 3]
    # The first step of the warm-up has rate 0, and nothing to perturb.
    assert (scalars[tags.RELATIVE_SIZE].values > 0).sum() >= 2


def test_optimizer_of_the_command_line_is_scheduled(command_line: Any) -> None:
    arguments = command_line.arguments(*SMALL, config="gsm8k_tiny")
    cli = PerturbationCLI(args=[*arguments, "--optimizer=SGD", "--optimizer.lr=0.5"])
    (config,) = cli.trainer.strategy.lr_scheduler_configs
    assert config.interval == "step"
    assert type(config.scheduler.optimizer).__name__ == "SGD"
    assert config.scheduler.base_lrs == [0.5]
    assert config.scheduler.last_epoch == cli.trainer.global_step


def test_schedule_of_the_command_line_is_refused_beside_the_models(command_line: Any) -> None:
    arguments = command_line.arguments(
        *SMALL, "--lr_scheduler=StepLR", "--lr_scheduler.step_size=1", config="gsm8k_tiny"
    )
    with pytest.raises(ValueError, match=r"Expected one schedule of the learning rate"):
        PerturbationCLI(args=arguments)


def test_table_3_is_configured_to_the_letter() -> None:
    config = yaml.safe_load((CONFIGS / "experiments" / "gsm8k_llama.yaml").read_text())
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    name = "meta-llama/Llama-3.2-1B-Instruct"
    assert model["model"]["init_args"]["name"] == name
    assert data["tokenizer"]["init_args"]["name"] == name
    assert data["layout"]["init_args"]["context"] == 2048
    assert data["batch_size"] == 1
    assert "path" not in data
    optimizer = {"lr": 2e-5, "weight_decay": 0.01}
    assert config["optimizer"] == {"class_path": "torch.optim.AdamW", "init_args": optimizer}
    assert model["schedule"] == {"warmup_steps": 500}
    trainer = config["trainer"]
    assert (trainer["precision"], trainer["gradient_clip_val"]) == ("16-mixed", 1.0)
    assert trainer["max_epochs"] == 1
    for strength in (0.1, 0.5):
        arm = yaml.safe_load((CONFIGS / "arms" / f"compiled_{strength}.yaml").read_text())
        assert arm["perturbation"]["strength"] == strength


def test_fine_tuning_runs_on_a_model_and_a_chat_template_from_a_folder(
    command_line: Any, tmp_path: Path
) -> None:
    own = tokenizer()
    own.chat_template = CHAT_TEMPLATE
    own.save_pretrained(tmp_path / "model")
    TINY.build().save_pretrained(tmp_path / "model")
    folder = f"init_args.name={tmp_path / 'model'}"
    command_line.fit(
        *SMALL,
        f"--model.init_args.model.{folder}",
        f"--data.init_args.tokenizer.{folder}",
        "--data.init_args.layout.init_args.context=300",
        "--model.init_args.schedule.warmup_steps=1",
        "--model.init_args.generation.max_new_tokens=4",
        "--trainer.precision=bf16-mixed",  # a CPU has no float16 to mix
        "--trainer.accelerator=cpu",
        "--config",
        str(CONFIGS / "arms" / "compiled_0.5.yaml"),
        config="gsm8k_llama",
    )
    scalars = read_scalars(command_line.run_folder("compiled_0.5", experiment="gsm8k_llama"))
    assert {"train/loss", "train/loss_epoch", "val/loss", "val/exact_match"} <= set(scalars)


def test_without_the_hub_and_a_path_the_command_says_how_to_get_the_data(
    command_line: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    monkeypatch.setattr(problems.download_problems, "__defaults__", ("nobody/none",))
    arguments = command_line.arguments("--data.init_args.path=null", config="gsm8k_tiny")
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "error: Cannot load nobody/none without `path`: the hub does not answer" in error
    assert "grade_school_math/data" in error


def test_folder_without_the_data_is_an_error_of_one_line(
    command_line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(command_line.arguments(config="gsm8k_tiny"))
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "error: Cannot read the problems in data/gsm8k: there is no data/gsm8k in" in error


def test_runs_of_a_comparison_are_pairs(command_line: Any, where: Path, tmp_path: Path) -> None:
    plan = {
        "experiment": [EXPERIMENT],
        "budget": {"max_steps": 2},
        "seeds": 1,
        "arms": {
            "adamw": {"kind": "baseline"},
            "quantum": {"overlay": str(CONFIGS / "arms" / "compiled_0.5.yaml")},
            "strength_0": {
                "overlay": str(CONFIGS / "arms" / "strength_0.yaml"),
                "kind": "control",
                "must_equal_baseline": True,
            },
        },
    }
    file = tmp_path / "compare.yaml"
    file.write_text(yaml.safe_dump(plan))
    command_line.main(
        *("compare", "--config", str(file), f"--experiment+={where}"),
        *("--folder", str(tmp_path / "results"), "--processes", "2"),
    )
    assert (tmp_path / "results" / "report.md").exists()
    with (tmp_path / "results" / "results.csv").open() as table:
        assert [row["status"] for row in csv.DictReader(table)] == ["done"] * 3


def test_benchmark_of_a_step_runs_small(tmp_path: Path) -> None:
    output = tmp_path / "llm_step.json"
    sizes = {"hidden": 16, "layers": 1, "heads": 2, "kv-heads": 1, "ff": 32, "vocab": 64}
    arguments = [f"--{name}={value}" for name, value in {**sizes, "context": 8}.items()]
    measure_step([*arguments, "--steps=2", "--device=cpu", f"--output={output}"])
    results = json.loads(output.read_text())["results"]
    assert set(results) == {BARE, *PERTURBED}
    assert all(own["step_ms"] > own["optimizer_ms"] > 0 for own in results.values())
    assert results[BARE]["step_ms_ratio"] == 1.0

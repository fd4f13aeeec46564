"""The command `fit`: run folders, arms, overrides, saved configs, and the other subcommands."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_qsgd.tracking import tags
from lightning_qsgd.training.recorded_run import load_run
from tests.event_files import read_scalars

pytestmark = [
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to"),
]
CONFIGS = Path(__file__).parents[2] / "configs"
ARMS = sorted(path.stem for path in CONFIGS.glob("arms/*.yaml"))
TEXT = Path(__file__).parents[1] / "texts" / "harrow_point.txt"
EXPERIMENTS = sorted(
    path.stem
    for path in CONFIGS.glob("experiments/*.yaml")
    if not path.stem.startswith("gsm8k")  # test_llm_command.py runs these
)
ATTENTION = {"amplitude_attention", "quantum_attention", "trigonometric_attention"}
MUON = {"muon", "muon_no_embedding", "muon_tied"}
UNPERTURBED = {"plain", "sam", "strength_0", *ATTENTION, *MUON}
PERTURBED_ONCE = {"nudge"}


def arm(name: str) -> tuple[str, str]:
    return "--config", str(CONFIGS / "arms" / f"{name}.yaml")


def state(checkpoint: Path) -> dict[str, Any]:
    return dict(torch.load(checkpoint, weights_only=True)["state_dict"])


def same(one: Path, other: Path) -> bool:
    first, second = state(one), state(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.filterwarnings("ignore::lightning_qsgd.optimizers.DominantPerturbationWarning")
@pytest.mark.parametrize("name", ARMS)  # annealed noise is larger than the steps here
def test_every_arm_runs_and_logs_its_perturbation(name: str, command_line: Any) -> None:
    experiment = "sequences" if name in ATTENTION else "digits"
    printed = command_line.fit(*arm(name), config=experiment)
    folder = command_line.run_folder(name, experiment=experiment)
    assert str(folder) in printed.replace(" ", "")
    scalars = read_scalars(folder)
    assert scalars["train/loss"].steps.tolist() == [0, 1, 2, 3]
    if name in UNPERTURBED:
        assert tags.RELATIVE_SIZE not in scalars
    else:
        steps = [0] if name in PERTURBED_ONCE else [0, 1, 2, 3]
        assert scalars[tags.RELATIVE_SIZE].steps.tolist() == steps
        assert (scalars[tags.RELATIVE_SIZE].values > 0).any()
    record = load_run(folder / "record.json")
    assert record.curve("train/loss").steps == [1.0, 2.0, 3.0, 4.0]
    saved = torch.load(next(folder.glob("checkpoints/*.ckpt")), weights_only=True)
    expected = 0 if name in UNPERTURBED else 1 if name in PERTURBED_ONCE else 4
    (optimizer,) = saved["optimizer_states"]
    assert optimizer.get("quantum_perturbation", {"applied": 0})["applied"] == expected


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs(name: str, command_line: Any) -> None:
    # The config names its text relative to the project, and the test runs in a folder of its own.
    text = ["--data.init_args.path", str(TEXT)] if name.startswith("charlm") else []
    command_line.fit(*text, config=name)
    optimizer = "adam" if name in {"sequences", "quantum_attention"} else "adamw"
    folder = command_line.run_folder(optimizer, experiment=name)
    assert (folder / "config.yaml").exists()


def test_arguments_override_the_config(command_line: Any) -> None:
    cli = command_line.open(
        *arm("sine_0.5"), "--perturbation.strength=0.25", "--optimizer.init_args.lr=0.5"
    )
    (optimizer,) = cli.trainer.optimizers or [cli.trainer.strategy.optimizers[0]]
    assert optimizer.param_groups[0]["lr"] == 0.5
    saved = yaml.safe_load((cli.folder / "config.yaml").read_text())
    assert saved["perturbation"]["strength"] == 0.25
    assert saved["optimizer"]["init_args"]["lr"] == 0.5


def test_perturbation_given_on_the_command_line_alone(command_line: Any) -> None:
    cli = command_line.open(
        "--perturbation.backend=lightning_qsgd.SamplerBackend",
        "--perturbation.backend.circuit.num_qubits=2",
        "--perturbation.coordinates=lightning_qsgd.RandomEntries",
        "--perturbation.strength=0.1",
    )
    assert cli.folder.parent.name == "adamw_perturbed"
    scalars = read_scalars(cli.folder)
    assert (scalars[tags.CIRCUITS].values == 6).all()  # one block in each tensor of the MLP


def test_print_config_shows_every_group_and_trains_nothing(
    command_line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.fit(*arm("quantum_0.5"), "--print_config")
    assert caught.value.code == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["perturbation"]["backend"]["init_args"]["circuit"]["init_args"]["num_qubits"] == 4
    assert {"model", "data", "trainer", "optimizer", "goal", "run", "baseline"} <= shown.keys()
    assert not command_line.runs.exists()


def test_run_from_the_saved_config_gives_the_same_weights(command_line: Any) -> None:
    command_line.fit(*arm("quantum_shots"))
    saved = command_line.run_folder("quantum_shots") / "config.yaml"
    command_line.main("fit", "--config", str(saved))
    again = command_line.checkpoint("quantum_shots", "seed0_2")
    assert same(command_line.checkpoint("quantum_shots"), again)


def test_equal_runs_are_equal_and_seeds_differ(command_line: Any) -> None:
    for seed in (0, 0, 1):
        command_line.fit(*arm("sine_0.5"), f"--seed_everything={seed}")
    first = command_line.checkpoint("sine_0.5")
    assert same(first, command_line.checkpoint("sine_0.5", "seed0_2"))
    assert not same(first, command_line.checkpoint("sine_0.5", "seed1"))


def test_resumed_run_equals_the_uninterrupted_one(command_line: Any) -> None:
    options = (*arm("quantum_shots"), "--model.network.dropout=0.3")
    command_line.fit(*options, "--trainer.max_epochs=2", "--run.name=whole")
    command_line.fit(*options, "--run.name=part")
    command_line.fit(
        *options,
        "--trainer.max_epochs=2",
        "--run.name=rest",
        f"--ckpt_path={command_line.checkpoint('quantum_shots', 'part')}",
    )
    runs = [command_line.run_folder("quantum_shots", name) for name in ("whole", "rest")]
    whole, rest = (load_run(run / "record.json") for run in runs)
    assert rest.curve("train/loss").values == whole.curve("train/loss").values
    assert rest.curve("train/loss").steps == whole.curve("train/loss").steps
    assert len(rest.curve("val/accuracy").values) == 2
    assert same(*(command_line.checkpoint("quantum_shots", name) for name in ("whole", "rest")))


def test_resuming_at_the_end_says_that_no_step_was_taken(command_line: Any) -> None:
    command_line.fit(*arm("sine_0.5"))
    checkpoint = command_line.checkpoint("sine_0.5")
    said = command_line.fit(*arm("sine_0.5"), f"--ckpt_path={checkpoint}", "--baseline={}")
    assert "No step was taken: at step 4 this training has reached its end already" in said
    assert "No verdict" not in said


@pytest.mark.parametrize("subcommand", ["validate", "test", "predict"])
def test_other_subcommands_take_the_checkpoint_and_write_no_run(
    subcommand: str, command_line: Any
) -> None:
    command_line.fit(*arm("sine_0.5"))
    before = sorted(command_line.runs.rglob("*"))
    config = command_line.run_folder("sine_0.5") / "config.yaml"
    printed = command_line.main(
        subcommand,
        *("--config", str(CONFIGS / "experiments" / "digits.yaml")),
        *("--trainer.limit_val_batches=2", "--trainer.limit_test_batches=2"),
        *("--trainer.limit_predict_batches=2", "--trainer.enable_progress_bar=false"),
        *("--trainer.logger=false", "--run.root", str(command_line.runs)),
        *("--ckpt_path", str(command_line.checkpoint("sine_0.5"))),
    )
    assert config.exists()
    assert sorted(command_line.runs.rglob("*")) == before
    if subcommand != "predict":
        assert f"{subcommand[:3]}" in printed


def test_run_name_in_use_is_refused_with_a_remedy(command_line: Any) -> None:
    command_line.fit("--run.name=mine")
    before = sorted(command_line.runs.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        command_line.fit("--run.name=mine")
    assert caught.value.code == 2
    assert sorted(command_line.runs.rglob("*")) == before


def test_message_of_a_run_name_in_use_names_the_folder(
    command_line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command_line.run_folder("adamw", "mine").mkdir(parents=True)
    message = command_line.refuse("--run.name=mine")
    assert "mine is in use" in message
    assert "Choose another `--run.name`" in message


def test_fast_dev_run_claims_no_folder(command_line: Any, tmp_path: Path) -> None:
    command_line.fit(*arm("sine_0.5"), "--trainer.fast_dev_run=true", "--baseline={}")
    assert not command_line.runs.exists()


def test_a_logger_of_the_users_own_is_kept(command_line: Any, tmp_path: Path) -> None:
    logger = json.dumps({"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path)}})
    cli = command_line.open(*arm("sine_0.5"), f"--trainer.logger={logger}")
    assert type(cli.trainer.logger).__name__ == "CSVLogger"
    assert (cli.folder / "record.json").is_file()
    assert not list(cli.folder.rglob("events*"))


def test_logging_can_be_switched_off(
    command_line: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = command_line.open(
        *arm("sine_0.5"), "--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}"
    )
    assert (cli.folder / "record.json").is_file()
    assert cli.trainer.loggers == []
    assert cli.trainer.global_step == 4
    printed = capsys.readouterr().out
    assert f"Record: {cli.folder}" in printed
    assert "event files" not in printed
    assert "tensorboard" not in printed


def test_brackets_and_colons_in_a_path_are_shown_as_they_are(command_line: Any) -> None:
    command_line.runs = command_line.runs / "[/x]:smile:"
    printed = command_line.fit(*arm("sine_0.5"), "--baseline={}")
    assert f"Record and event files: {command_line.run_folder('sine_0.5')}" in printed


def test_a_strange_callback_of_the_config_is_kept(command_line: Any) -> None:
    cli = command_line.open(
        *arm("sine_0.5"), "--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateMonitor"
    )
    names = [type(callback).__name__ for callback in cli.trainer.callbacks]
    assert names.count("PerturbationCallback") == names.count("LearningRateMonitor") == 1
    assert "PerturbationMonitor" not in names


def test_validating_twice_in_one_folder_works_and_leaves_no_config(
    command_line: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command_line.fit(*arm("sine_0.5"))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        printed = command_line.main(
            "validate",
            *("--config", str(CONFIGS / "experiments" / "digits.yaml")),
            *("--trainer.limit_val_batches=2", "--trainer.enable_progress_bar=false"),
            *("--trainer.logger=false",),
            *("--ckpt_path", str(command_line.checkpoint("sine_0.5"))),
        )
        assert "val/accuracy" in printed
    assert not (tmp_path / "config.yaml").exists()


def test_a_refused_network_leaves_no_empty_run_folder(command_line: Any) -> None:
    message = command_line.refuse("--model.network.dropout=2.0")
    assert "Expected `dropout` to be in [0, 1), got 2.0" in message
    assert not list(command_line.runs.rglob("seed*"))


def hyperparameters_of(folder: Path) -> dict[str, Any]:
    """Return the run's line of the HParams table."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    written = EventAccumulator(str(folder)).Reload().summary_metadata
    content = written["_hparams_/session_start_info"].plugin_data.content
    row = HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in row.items()}


ELSEWHERE = {
    "callback": (
        "--trainer.callbacks+=lightning_qsgd.PerturbationCallback",
        "--trainer.callbacks.perturbation={strength: 0.25}",
    ),
    "module": (
        "--model=tests.integration.modules.PerturbedClassifier",
        *("--model.network=lightning_qsgd.nn.MLP", "--model.num_classes=10"),
        "--model.perturbation={strength: 0.25}",
    ),
    "optimizer": (
        "--optimizer=lightning_qsgd.SuperpositionalAdam",
        "--optimizer.strength=0.25",
    ),
}


@pytest.mark.parametrize("place", ELSEWHERE)
def test_a_run_is_named_and_told_as_perturbed_wherever_that_is_asked_for(
    place: str, command_line: Any
) -> None:
    cli = command_line.open(*ELSEWHERE[place])
    name = "superpositionaladam" if place == "optimizer" else "adamw_perturbed"
    row = hyperparameters_of(cli.folder)
    assert (cli.folder.parent.name, row["arm"], row["perturbation/strength"]) == (name, name, 0.25)


def test_a_run_that_is_not_perturbed_has_strength_zero(command_line: Any) -> None:
    row = hyperparameters_of(command_line.open().folder)
    assert (row["arm"], row["perturbation/strength"]) == ("adamw", 0.0)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_a_bare_trainer_fits_without_loggers_and_measures_the_seconds(command_line: Any) -> None:
    bare = ("--trainer.barebones=true", "--trainer.log_every_n_steps=0")
    printed = command_line.fit(*arm("sine_0.5"), *bare, "--baseline=own", "--goal.metric=val/acc")
    for name in ("sine_0.5", "own"):
        folder = command_line.run_folder(name)
        assert sorted(p.name for p in folder.iterdir()) == ["config.yaml", "record.json"]
        assert load_run(folder / "record.json").curve("train/loss").steps == [1.0, 2.0, 3.0, 4.0]
    assert "seconds of training" in printed

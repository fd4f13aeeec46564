"""The AdamW baseline: trained first, reused, never perturbed, and without influence on the arm."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_qsgd.tracking import tags
from lightning_qsgd.training.recorded_run import load_run, save_run
from tests.event_files import read_scalars
from tests.integration.test_cli_fit import arm, same

BASELINE = ("--baseline", "{}")
MIXIN = "--model=tests.integration.modules.PerturbedClassifier"
NETWORK = ("--model.network=lightning_qsgd.nn.MLP", "--model.num_classes=10")
CALLBACK = "--trainer.callbacks+=lightning_qsgd.training.PerturbationCallback"


def test_baseline_is_trained_first_and_then_reused(command_line: Any) -> None:
    first = command_line.fit(*arm("sine_0.5"), *BASELINE)
    assert "Training the AdamW baseline first" in first
    second = command_line.fit(*arm("relative_0.5"), *BASELINE)
    assert f"Reusing the AdamW baseline in {command_line.run_folder('adamw')}" in second
    assert [path.name for path in command_line.run_folder("adamw").parent.iterdir()] == ["seed0"]
    one, two = (command_line.run_folder(name) for name in ("sine_0.5", "relative_0.5"))
    assert (one / "record.json").exists()
    assert (two / "record.json").exists()


@pytest.mark.parametrize(
    "change",
    [
        ("--seed_everything=1",),
        ("--model.network.dropout=0.1",),
        ("--baseline.weight_decay=0.1",),
        ("--baseline.reuse=false",),
    ],
    ids=lambda change: change[0].lstrip("-").split("=")[0],
)
def test_baseline_of_another_configuration_is_not_reused(
    change: tuple[str, ...], command_line: Any
) -> None:
    command_line.fit(*arm("sine_0.5"), *BASELINE)
    printed = command_line.fit(*arm("sine_0.5"), *BASELINE, *change)
    assert "Training the AdamW baseline first" in printed
    assert len(list(command_line.run_folder("adamw").parent.iterdir())) == 2


@pytest.mark.parametrize(
    "change",
    [
        ("--trainer.log_every_n_steps=2",),
        ("--perturbation.strength=0.1",),
        ("--run.name=other",),
        ("--trainer.enable_model_summary=true",),
    ],
    ids=lambda change: change[0].lstrip("-").split("=")[0],
)
def test_baseline_is_reused_when_only_display_or_arm_differ(
    change: tuple[str, ...], command_line: Any
) -> None:
    command_line.fit(*arm("sine_0.5"), *BASELINE)
    assert "Reusing" in command_line.fit(*arm("sine_0.5"), *BASELINE, *change)


def test_a_damaged_record_is_passed_over(command_line: Any) -> None:
    command_line.fit(*arm("sine_0.5"), *BASELINE)
    (command_line.run_folder("adamw") / "record.json").write_text('{"format": 1')
    assert "Training the AdamW" in command_line.fit(*arm("sine_0.5"), *BASELINE)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_run_that_was_resumed_with_other_settings_is_no_baseline(command_line: Any) -> None:
    command_line.fit("--run.arm=adamw")
    checkpoint = command_line.checkpoint("adamw")
    changed = ("--trainer.max_epochs=5", "--optimizer.init_args.lr=0.5")
    command_line.fit("--run.arm=adamw", *changed, f"--ckpt_path={checkpoint}")
    files = sorted(command_line.run_folder("adamw").parent.glob("*/record.json"))
    first, resumed = map(load_run, files)
    assert resumed.curve("train/loss").steps[-1] > first.curve("train/loss").steps[-1]
    assert first.fingerprint
    assert not resumed.fingerprint


def test_a_baseline_that_began_with_another_batch_is_told_of(command_line: Any) -> None:
    command_line.fit(*arm("sine_0.5"), *BASELINE)
    folders = [command_line.run_folder(name) for name in ("adamw", "sine_0.5")]
    stored, ours = (load_run(folder / "record.json") for folder in folders)
    assert stored.checks["first_batch"] == ours.checks["first_batch"]
    stored.checks["first_batch"] = "of the data as they were"
    save_run(stored, folders[0] / "record.json")
    with pytest.warns(UserWarning, match=r"first batch.*no pair.*--baseline.reuse false"):
        command_line.fit(*arm("sine_0.5"), *BASELINE)


@pytest.mark.parametrize("name", ["quantum_shots", "equation_1"])
def test_arm_is_the_same_with_and_without_its_baseline(name: str, command_line: Any) -> None:
    dropout = "--model.network.dropout=0.3"
    command_line.fit(*arm(name), dropout, "--run.name=alone")
    command_line.fit(*arm(name), dropout, "--run.name=trained", *BASELINE)
    command_line.fit(*arm(name), dropout, "--run.name=reused", *BASELINE)
    alone, trained, reused = (
        command_line.checkpoint(name, run) for run in ("alone", "trained", "reused")
    )
    assert same(alone, trained)
    assert same(alone, reused)


def test_gap_is_logged_at_every_step_and_starts_at_zero(command_line: Any) -> None:
    command_line.fit(*arm("relative_0.5"), *BASELINE)
    scalars = read_scalars(command_line.run_folder("relative_0.5"))
    gap = scalars[tags.gap_tag("train/loss")]
    assert gap.steps.tolist() == scalars["train/loss"].steps.tolist() == [0, 1, 2, 3]
    assert gap.values[0] == 0.0
    assert gap.values[-1] != 0.0
    assert tags.SPEEDUP not in scalars  # neither reached the target
    assert tags.gap_tag("train/loss") not in read_scalars(command_line.run_folder("adamw"))


def test_strength_zero_equals_the_baseline_and_the_verdict_says_so(command_line: Any) -> None:
    dropout = "--model.network.dropout=0.3"
    printed = command_line.fit(*arm("strength_0"), *BASELINE, dropout)
    assert same(command_line.checkpoint("strength_0"), command_line.checkpoint("adamw"))
    assert "No effect: strength_0 has the loss of AdamW at every step, to the last bit." in printed


def test_verdict_claims_nothing_from_one_seed(command_line: Any) -> None:
    printed = command_line.fit(*arm("relative_0.5"), *BASELINE)
    assert "No claim: relative_0.5 ended" in printed
    assert "one seed cannot tell an effect from chance" in printed


def test_without_a_baseline_the_verdict_says_how_to_get_one(command_line: Any) -> None:
    assert "add `--baseline '{}'`" in command_line.fit(*arm("sine_0.5"))


def test_a_target_that_was_not_reached_is_shown_as_never(command_line: Any) -> None:
    printed = command_line.fit(*arm("sine_0.5"), *BASELINE, "--goal.target=0.99")
    assert "steps to 0.99 │ never │ never │ -" in printed
    assert "seconds to 0.99 │ never │ never │ -" in printed
    summary = read_scalars(command_line.run_folder("sine_0.5"))
    assert summary[tags.STEPS_TO_TARGET].values[-1] == float("inf")


def counters(checkpoint: Path) -> dict[str, int]:
    saved = torch.load(checkpoint, weights_only=True)
    return dict(saved["optimizer_states"][0].get("quantum_perturbation", {"applied": 0}))


@pytest.mark.parametrize(
    "carrier", [(MIXIN, *NETWORK), (CALLBACK,)], ids=["mixin model", "callback of the trainer"]
)
def test_baseline_is_plain_adamw_even_if_the_config_perturbs_elsewhere(
    carrier: tuple[str, ...], command_line: Any
) -> None:
    command_line.fit(*BASELINE, "--run.arm=arm", *carrier)
    command_line.fit("--run.arm=plain")
    assert counters(command_line.checkpoint("arm"))["applied"] == 4
    assert counters(command_line.checkpoint("adamw"))["applied"] == 0
    assert same(command_line.checkpoint("adamw"), command_line.checkpoint("plain"))
    assert not same(command_line.checkpoint("arm"), command_line.checkpoint("plain"))


OWN_WAYS = [
    ("WrapsItself", "returned", ""),
    ("WrapsItself", "by hand", ""),
    ("WrapsItself", "inside SAM", "not inside SAM"),
    ("WrappedByTheMixin", "", ""),
]


@pytest.mark.parametrize(("kind", "way", "bare"), OWN_WAYS)
def test_own_baseline_of_a_module_that_perturbs_itself_takes_bare_steps(
    kind: str, way: str, bare: str, command_line: Any
) -> None:
    made = (f"--model=tests.integration.modules.{kind}", *NETWORK[:1], "--optimizer=null")
    command_line.fit(*made, f"--model.way={way}", "--baseline=own", "--run.arm=arm")
    module = ("--model=tests.integration.modules.WrapsItself", *made[1:])
    command_line.fit(*module, f"--model.way={bare}", "--run.arm=bare")
    assert same(command_line.checkpoint("own"), command_line.checkpoint("bare"))
    assert not same(command_line.checkpoint("arm"), command_line.checkpoint("bare"))


def test_own_baseline_of_a_perturbed_optimizer_takes_the_steps_of_its_base(
    command_line: Any,
) -> None:
    wrapped = "--optimizer=lightning_qsgd.ConfiguredPerturbedOptimizer"
    command_line.fit(wrapped, "--baseline=own", "--run.arm=arm")
    command_line.fit("--optimizer=torch.optim.AdamW", "--run.arm=bare")
    assert counters(command_line.checkpoint("arm"))["applied"] == 4
    assert counters(command_line.checkpoint("own"))["applied"] == 0
    assert same(command_line.checkpoint("own"), command_line.checkpoint("bare"))


def test_baseline_takes_its_own_learning_rate_when_given(command_line: Any) -> None:
    command_line.fit(*arm("sine_0.5"), "--baseline.lr=0.05", "--baseline.weight_decay=0.0")
    command_line.fit(
        "--optimizer.init_args.lr=0.05",
        "--optimizer.init_args.weight_decay=0.0",
        "--run.arm=same",
    )
    assert same(command_line.checkpoint("adamw"), command_line.checkpoint("same"))


def test_record_of_the_baseline_is_paired_with_the_arms(command_line: Any) -> None:
    command_line.fit(*arm("sine_0.5"), *BASELINE)
    records = [load_run(command_line.run_folder(n) / "record.json") for n in ("adamw", "sine_0.5")]
    assert records[0].first_weights == records[1].first_weights
    assert records[0].curve("train/loss").steps == records[1].curve("train/loss").steps
    assert records[0].fingerprint != records[1].fingerprint


def test_a_scheduler_of_the_config_serves_both(command_line: Any) -> None:
    scheduler = ("--lr_scheduler=StepLR", "--lr_scheduler.step_size=1")
    command_line.fit(*arm("sine_0.5"), *BASELINE, *scheduler)
    for name in ("adamw", "sine_0.5"):
        saved = torch.load(command_line.checkpoint(name), weights_only=True)
        assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-4)

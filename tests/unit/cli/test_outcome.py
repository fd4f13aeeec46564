"""What is said of a finished pair of runs."""

import sys
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console

from lightning_qsgd.cli.commands import plain_console
from lightning_qsgd.cli.outcome import (
    Outcome,
    next_command,
    outcome_table,
    tensorboard_command,
    verdict,
    where_to_look,
)
from lightning_qsgd.compare import Arm, FailedRun, Provenance
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import RecordedRun
from tests.comparison_cases import around, made_results


def run(losses: list[float], accuracy: float = 0.5) -> RecordedRun:
    made = RecordedRun()
    for step, loss in enumerate(losses, start=1):
        made.curve("train/loss").append(step, step / 2, float(step), loss)
    made.curve("val/accuracy").append(len(losses), 1.0, float(len(losses)), accuracy)
    return made


def outcome(**changes: Any) -> Outcome:
    plain = {"run": run([2.0, 1.0]), "baseline": run([2.0, 1.5]), "goal": Goal(target=0.9)}
    return Outcome(**{"arm": "mine", **plain, **changes})


def shown(made: Outcome) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(outcome_table(made))
    return " ".join(captured.get().split())


def test_equal_curves_are_called_no_effect() -> None:
    said = verdict(outcome(run=run([2.0, 1.5]), relative_size=0.0))
    assert said.startswith("No effect: mine has the loss of AdamW at every")


def test_a_baseline_of_the_arms_own_optimizer_is_not_called_adamw() -> None:
    same = outcome(baseline=replace(run([2.0, 1.0]), arm="own"))
    other = outcome(baseline=replace(run([2.0, 1.5]), arm="own"))
    assert "has the loss of its own optimizer without perturbation" in verdict(same)
    assert "from its own optimizer without perturbation in val/acc" in verdict(other)
    assert "AdamW" not in verdict(same) + verdict(other)
    assert "own" in shown(other)
    assert "adamw" not in shown(other)


@pytest.mark.parametrize("accuracy", [0.4, 0.6])
def test_neither_sign_is_claimed_from_one_seed(accuracy: float) -> None:
    said = verdict(outcome(run=run([2.0, 1.0], accuracy), relative_size=0.5))
    assert said.startswith(f"No claim: mine ended {accuracy - 0.5:+.4f} from AdamW")
    assert "one seed cannot tell" in said
    assert "was 5.0e-01" not in said


def stopped(values: dict[int, float]) -> RecordedRun:
    made = RecordedRun()
    for step, value in values.items():
        made.curve("train/loss").append(step, step / 10, float(step), value + 1.0)
        made.curve("val/accuracy").append(step, step / 10, float(step), value)
    return made


BASELINE = {10: 0.1, 20: 0.3, 30: 0.5, 40: 0.7}


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ({10: 0.2, 20: 0.4}, "mine ended -0.3000 from AdamW in val/accuracy (at steps 20 and 40),"),
        ({20: 0.0, 40: 0.5, 60: 0.8}, "+0.1000 from AdamW in val/accuracy (at steps 60 and 40),"),
        ({50: 0.8}, "mine ended +0.1000 from AdamW in val/accuracy (at steps 50 and 40),"),
        ({20: 0.4, 40: 0.6}, "mine ended -0.1000 from AdamW in val/accuracy, but"),
    ],
)
def test_runs_that_stop_at_different_steps_are_told_apart_by_their_own_ends(arm, said) -> None:
    made = outcome(run=stopped(arm), baseline=stopped(BASELINE))
    assert said in verdict(made)
    difference = said.split(" from ")[0].split()[-1].rstrip("0")
    assert f"{difference} │" in shown(made).split("final val/accuracy")[1].split("mean loss")[0]


def test_of_a_metric_of_unknown_direction_no_best_value_is_shown() -> None:
    runs = {name: outcome().__dict__[name] for name in ("run", "baseline")}
    for number, made in enumerate(runs.values()):
        made.curve("val/energy").append(2, 1.0, 2.0, 0.5 + number)
    goal = Goal(metric="val/energy", target=0.5)
    found = outcome(**runs, goal=goal)
    assert "ended -1.0000 from AdamW in val/energy" in verdict(found)
    assert "final val/energy" in shown(found)
    assert not {"best", "to"} & set(
        shown(found).split("val/energy", 1)[1].split("Seconds")[0].split()
    )
    assert "best val/energy" in shown(replace(found, goal=replace(goal, higher_is_better=False)))


def test_an_invisible_perturbation_is_not_credited_with_the_difference() -> None:
    assert "1.0e-05 of the base step" in verdict(outcome(relative_size=1e-5))


def test_an_arm_that_is_not_perturbed_has_no_size() -> None:
    assert "The perturbation was" not in verdict(outcome(relative_size=nan))


def test_without_a_baseline_the_remedy_is_named() -> None:
    assert "add `--baseline '{}'`" in verdict(outcome(baseline=None))


def test_a_metric_that_was_never_logged_has_no_verdict() -> None:
    said = verdict(outcome(goal=Goal(metric="val/f1")))
    assert said.startswith("No verdict: 'val/f1' was not recorded for adamw and mine. Set `goal")
    assert "nan" not in said


def test_a_metric_that_is_not_a_number_has_no_verdict() -> None:
    said = verdict(outcome(run=run([2.0, 1.0], nan)))
    assert "No verdict: the runs ended with 'val/accuracy' of adamw 0.5 and mine nan" in said
    assert "Did one diverge?" in said


@pytest.mark.parametrize("name", ["runs/[x]", "runs/[/x]", "runs/:smile:", "runs/[bold]"])
def test_what_a_user_has_named_is_shown_as_it_is(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = TensorBoardLogger(tmp_path / name, "", "seed0")
    console = plain_console()
    console.print(outcome_table(outcome(arm=name, goal=Goal(metric=name))))
    for line in where_to_look(tmp_path / name / "seed0", [logger], Goal()):
        console.print(line, soft_wrap=True)
    printed = capsys.readouterr().out
    assert f"One seed, {name}" in printed
    assert f"Record and event files: {tmp_path / name / 'seed0'}" in printed


def test_only_event_files_that_exist_are_announced(tmp_path: Path) -> None:
    folder = tmp_path / "digits" / "mine" / "seed0"
    assert where_to_look(folder, [], Goal()) == [f"Record: {folder}"]
    assert where_to_look(folder, [CSVLogger(tmp_path)], Goal()) == [f"Record: {folder}"]
    own = where_to_look(folder, [TensorBoardLogger(folder.parent, "", "seed0")], Goal())
    assert own[0] == f"Record and event files: {folder}"
    assert own[1].endswith(f"tensorboard --logdir {tmp_path / 'digits'}")
    other = where_to_look(folder, [TensorBoardLogger(tmp_path, "there", "0")], Goal())
    assert other[:2] == [f"Record: {folder}", f"Event files: {tmp_path / 'there' / '0'}"]
    assert other[2].endswith(f"tensorboard --logdir {tmp_path / 'there' / '0'}")


def test_table_shows_never_for_a_target_out_of_reach() -> None:
    text = shown(outcome())
    assert "steps to 0.9 │ never │ never │ -" in text
    assert "best val/accuracy │ 0.5 │ 0.5 │ +0" in text


def test_table_of_one_arm_has_no_difference() -> None:
    text = shown(outcome(baseline=None))
    assert "difference" not in text
    assert "adamw" not in text


def test_table_of_a_run_without_validation_shows_a_dash() -> None:
    bare = RecordedRun()
    bare.curve("train/loss").append(1.0, 1.0, 1.0, 2.0)
    assert "best val/accuracy │ -" in shown(outcome(run=bare, baseline=None))


COMPARE = "lightning-qsgd compare --config demo"


@pytest.mark.parametrize(
    ("command", "seeds", "raised", "untuned", "following"),
    [
        (COMPARE, 12, "", "", f"{COMPARE} --arm torch.optim.NAdam"),
        (COMPARE, 3, "", "", f"{COMPARE} --seeds 9"),
        (f"{COMPARE} --seeds 3", 3, "", "", f"{COMPARE} --seeds 9"),
        (f"{COMPARE} --seeds=3 --skip 'a b'", 3, "", "", f"{COMPARE} --skip 'a b' --seeds 9"),
        (
            f"{COMPARE} --seeds '[0, 1, 4]' --alpha 0.05",
            3,
            "",
            "",
            f"{COMPARE} --alpha 0.05 --seeds 9",
        ),
        (COMPARE, 12, "arm", "", COMPARE),
        (COMPARE, 12, "", "arm", f"{COMPARE} --skip arm"),
        (f"{COMPARE} --skip a b", 12, "", "arm", f"{COMPARE} --skip arm a b"),
        (COMPARE, 12, "other", "arm", COMPARE),
        (COMPARE, 12, "", "arm other", ""),
        (f"{COMPARE} --arm torch.optim.NAdam", 12, "", "", ""),
        ("compare(...)", 12, "", "", ""),
    ],
)
def test_the_command_to_type_next_fits_what_came_out(command, seeds, raised, untuned, following):
    values = {name: around(0.8, k)[:seeds] for k, name in enumerate(("base", "arm", "other"))}
    failures = [FailedRun(arm, 2, "boom") for arm in raised.split()]
    for one in failures:
        values[one.arm][one.seed] = None
    values |= {arm: [] for arm in untuned.split()}
    more = {"failures": tuple(failures), "untuned": dict.fromkeys(untuned.split(), "diverged")}

    made = made_results(values, provenance=Provenance(command=command), **more)

    assert next_command(made) == following


def test_a_control_whose_search_found_nothing_is_not_to_be_left_out():
    values = {name: around(0.8, k) for k, name in enumerate(("base", "arm", "other"))}
    values["control"] = []
    arms = (Arm("base", "baseline"), Arm("arm", controls=("control",)), Arm("other"))
    made = made_results(
        values,
        (*arms, Arm("control", "control")),
        provenance=Provenance(command=COMPARE),
        untuned={"control": "diverged"},
    )

    assert next_command(made) == ""


def test_the_tensorboard_that_is_named_is_that_of_this_python(tmp_path, monkeypatch):
    for place in ("mine", "other"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "tensorboard").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "mine" / "python"))

    assert tensorboard_command(Path("runs")) == "mine/tensorboard --logdir runs"
    (tmp_path / "mine" / "tensorboard").unlink()
    assert tensorboard_command(Path("runs")) == "other/tensorboard --logdir runs"
    assert tensorboard_command(Path("my runs")) == "other/tensorboard --logdir 'my runs'"

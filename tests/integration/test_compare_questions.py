"""What `compare` refuses when it reads the experiment and its arms, before any run."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_qsgd.cli import PerturbationCLI
from lightning_qsgd.cli.arm_configs import read_question
from lightning_qsgd.cli.compare_command import _understood
from lightning_qsgd.cli.recipe import Recipe
from lightning_qsgd.compare.planning import ArmPlan, Budget, Plan, Range, Search
from lightning_qsgd.compare.planning.question import Question

EXPERIMENT = str(Path(__file__).parents[2] / "configs" / "experiments" / "digits.yaml")
ADAMW = {"optimizer": {"class_path": "torch.optim.AdamW"}}
NADAM = {"optimizer": {"class_path": "torch.optim.NAdam"}}
SINE = {"perturbation": {"strength": 0.5}}


def read(arms: dict[str, ArmPlan], *lines: dict[str, Any], space: Any = None) -> Question:
    tuning = None if space is None else Search({**Search().space, **space})
    return read_question(
        Plan([EXPERIMENT, *lines], arms, Budget(max_steps=1), tuning=tuning), Path()
    )


@pytest.mark.parametrize("place", ["the experiment", "the arm 'nadam'"])
def test_a_comparison_does_not_go_on_from_a_checkpoint(place: str) -> None:
    lines = {"ckpt_path": "trained.ckpt"}
    in_arm = "arm" in place
    overlay = [NADAM, lines] if in_arm else NADAM
    arms = {"adamw": ArmPlan(kind="baseline"), "nadam": ArmPlan(overlay)}
    with pytest.raises(ValueError, match=rf"no `ckpt_path` in {place}, got 'trained.ckpt'.* Leave"):
        read(arms, *([] if in_arm else [lines]))


def understood(folder: Path, quoted: str, *more: str) -> Question:
    arms = {"adamw": {"kind": "baseline"}, "nadam": {"overlay": NADAM}, "sine": {"overlay": SINE}}
    published = {"source": "a paper", "figures": {quoted: {"gain": "+1"}}}
    plan = {"experiment": EXPERIMENT, "budget": {"max_steps": 1}, "arms": arms}
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump({**plan, "published": published}))
    question: Question = _understood(["--config", str(file), *more], Recipe(PerturbationCLI))[-1]
    return question


@pytest.mark.parametrize(("choice", "left"), [("--skip", []), ("--only", ["nadam"])])
def test_figures_of_an_arm_that_is_left_out_go_with_it(
    choice: str, left: list[str], tmp_path: Path
) -> None:
    assert list(understood(tmp_path, "nadam", choice, "nadam").published.figures) == left


def test_figures_of_no_arm_are_refused_whatever_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        understood(tmp_path, "nadma", "--skip", "nadam")
    assert "got 'nadma': nothing measured would stand beside it. Did you mean 'nadam'?" in " ".join(
        capsys.readouterr().err.split()
    )


def searched(**own: Any) -> Question:
    span = Range(1, 6, "linear", "trainer.accumulate_grad_batches", **own)
    arms = {
        "adamw": ArmPlan(ADAMW, kind="baseline", hyperparameters="tuned"),
        "nadam": ArmPlan(NADAM, hyperparameters="of_baseline"),
    }
    return read(arms, space={"together": span})


def test_a_range_of_numbers_that_the_class_does_not_take_is_refused() -> None:
    message = r"(?s)'adamw' to take .* \{'trainer.accumulate_grad_batches': 3.5\}.*Write `integer"
    with pytest.raises(ValueError, match=message):
        searched()


def test_a_range_of_whole_numbers_is_taken_by_a_class_that_takes_nothing_else() -> None:
    assert searched(integer=True).space_of("nadam")["together"].integer


def test_a_perturbed_arm_goes_around_the_optimizer_of_the_baseline() -> None:
    arms = {"nadam": ArmPlan(NADAM, kind="baseline"), "sine": ArmPlan(SINE)}
    with pytest.raises(ValueError, match=r"'sine' to go around torch\.optim\.NAdam.*`\[my_exp"):
        read(arms)
    faster = {"optimizer": {"init_args": {"lr": 0.1}}}  # names no optimizer
    with pytest.raises(ValueError, match="'sine' to go around"):
        read({**arms, "sine": ArmPlan([faster, SINE])})
    read(arms, NADAM)
    read({**arms, "sine": ArmPlan([ADAMW, SINE])})
    read({**arms, "sine": ArmPlan([{"optimizer": "torch.optim.AdamW"}, SINE])})
    read({**arms, "sine": ArmPlan(SINE, kind="reference")})


def test_an_arm_at_the_values_of_the_baseline_has_its_optimizer() -> None:
    loss = {"model": {"init_args": {"num_classes": 11}}}
    arms = {"nadam": ArmPlan(NADAM, kind="baseline", hyperparameters="tuned")}
    with pytest.raises(ValueError, match="'loss' to go around"):
        read({**arms, "loss": ArmPlan(loss, hyperparameters="of_baseline")}, space={})

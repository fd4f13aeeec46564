"""What `compare` refuses when it reads the experiment and its arms, before any run."""

from pathlib import Path
from typing import Any

import pytest

from lightning_qsgd.cli.arm_configs import read_question
from lightning_qsgd.compare.planning import ArmPlan, Budget, Plan, Range, Search
from lightning_qsgd.compare.planning.question import Question

EXPERIMENT = str(Path(__file__).parents[2] / "configs" / "experiments" / "digits.yaml")
ADAMW = {"optimizer": {"class_path": "torch.optim.AdamW"}}
NADAM = {"optimizer": {"class_path": "torch.optim.NAdam"}}


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

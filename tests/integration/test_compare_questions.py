"""What `compare` refuses when it reads the experiment and its arms, before any run."""

from pathlib import Path
from typing import Any

import pytest

from lightning_qsgd.cli.arm_configs import read_question
from lightning_qsgd.compare.planning import ArmPlan, Budget, Plan
from lightning_qsgd.compare.planning.question import Question

EXPERIMENT = str(Path(__file__).parents[2] / "configs" / "experiments" / "digits.yaml")
NADAM = {"optimizer": {"class_path": "torch.optim.NAdam"}}


def read(arms: dict[str, ArmPlan], *lines: dict[str, Any]) -> Question:
    return read_question(Plan([EXPERIMENT, *lines], arms, Budget(max_steps=1)), Path())


@pytest.mark.parametrize("place", ["the experiment", "the arm 'nadam'"])
def test_a_comparison_does_not_go_on_from_a_checkpoint(place: str) -> None:
    lines = {"ckpt_path": "trained.ckpt"}
    in_arm = "arm" in place
    overlay = [NADAM, lines] if in_arm else NADAM
    arms = {"adamw": ArmPlan(kind="baseline"), "nadam": ArmPlan(overlay)}
    with pytest.raises(ValueError, match=rf"no `ckpt_path` in {place}, got 'trained.ckpt'.* Leave"):
        read(arms, *([] if in_arm else [lines]))

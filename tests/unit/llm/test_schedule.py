"""The learning rate: transformers' own schedule, attached whatever the optimizer."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lightning_qsgd.llm import LinearSchedule
from lightning_qsgd.llm.schedule import linear_factor


def trainer(total: float = 10, configs: Any = ()) -> Any:
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.5)
    strategy = SimpleNamespace(optimizers=[optimizer], lr_scheduler_configs=list(configs))
    return SimpleNamespace(strategy=strategy, estimated_stepping_batches=total)


@pytest.mark.parametrize(("warmup", "total"), [(0, 10), (3, 10), (10, 10), (12, 10), (0, 1)])
def test_factor_is_that_of_transformers(warmup: int, total: int) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra llm")
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
    theirs = transformers.get_linear_schedule_with_warmup(optimizer, warmup, total)
    for step in range(total + 2):
        assert linear_factor(step, warmup, total) == optimizer.param_groups[0]["lr"]
        optimizer.step()
        theirs.step()


def test_schedule_moves_the_learning_rate_of_any_optimizer() -> None:
    own = trainer(4)
    LinearSchedule(2).attach(own)
    (config,) = own.strategy.lr_scheduler_configs
    (optimizer,) = own.strategy.optimizers
    assert config.interval == "step"
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        config.scheduler.step()
    assert rates == [0.0, 0.25, 0.5, 0.25]


def test_second_schedule_is_refused() -> None:
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.5)
    other = SimpleNamespace(scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 1))
    with pytest.raises(ValueError, match=r"one schedule .*and StepLR: the two would multiply"):
        LinearSchedule().attach(trainer(configs=[other]))


def test_training_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training of known length, got no end"):
        LinearSchedule().attach(trainer(float("inf")))


def test_negative_warmup_is_refused() -> None:
    with pytest.raises(ValueError, match="`warmup_steps` to be at least 0, got -1"):
        LinearSchedule(-1)

"""Lightning's ModelParallelStrategy on two processes: as one process, and as if uninterrupted."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integration.ddp_worker import BATCHES, PROCESSES
from tests.integration.processes import run_processes
from tests.integration.sharded_training_worker import CASES, EPOCHS, train, work


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of all cases on each rank; one pair of processes runs them all."""
    return run_processes(work, PROCESSES, tmp_path_factory.mktemp("sharded_training"))


@pytest.mark.parametrize("name", CASES)
def test_a_sharded_training_agrees_with_one_process(
    name: str, ranks: list[dict[str, Any]], tmp_path: Path
) -> None:
    (first, own), (second, _) = (results[name][0] for results in ranks)
    assert all(torch.equal(first[key], second[key]) for key in first)
    alone, own_alone = train(CASES[name], tmp_path)
    torch.testing.assert_close(first, alone, rtol=0, atol=1e-6)
    assert own["applied"] == own_alone["applied"] == EPOCHS * BATCHES


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_sharded_training_is_as_if_uninterrupted(
    name: str, ranks: list[dict[str, Any]]
) -> None:
    for results in ranks:
        (uninterrupted, own), (resumed, own_resumed) = results[name]
        assert all(torch.equal(uninterrupted[key], resumed[key]) for key in uninterrupted)
        torch.testing.assert_close(own, own_resumed, rtol=0, atol=0)

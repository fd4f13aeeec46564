"""Two processes on gloo: replicas stay equal, and equal to one process on the same batches."""

from typing import Any

import pytest
import torch

from lightning_qsgd.tracking import tags
from tests.integration import join_worker
from tests.integration.ddp_worker import BATCHES, CASES, PROCESSES, record, train, work
from tests.integration.processes import run_processes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of all cases on each rank; one pair of processes runs them all."""
    return run_processes(work, PROCESSES, tmp_path_factory.mktemp("ddp"))


@pytest.mark.parametrize("name", CASES)
def test_replicas_are_equal_and_agree_with_one_process(
    name: str, ranks: list[dict[str, Any]]
) -> None:
    (first, applied), (second, _) = (results[name] for results in ranks)
    assert torch.equal(first, second)
    alone, applied_alone = train(CASES[name])
    torch.testing.assert_close(first, alone, rtol=0, atol=1e-6)
    assert applied == applied_alone == [3 if CASES[name].settings else 8]
    assert (alone - train(CASES[name], perturbed=False)[0]).abs().max() > 1e-4


def test_the_record_of_two_processes_is_that_of_one_on_all_batches(
    ranks: list[dict[str, Any]],
) -> None:
    first, second = (dict(results["record"]) for results in ranks)
    alone = record()
    assert first == second
    assert first["steps"] == [float(step) for step in range(1, BATCHES + 1)]
    assert first["values"] == pytest.approx(alone["values"], abs=1e-6)
    # Of one process's own batches, the gap would be the noise of the other half.
    assert first["gaps"] == pytest.approx([0.0] * BATCHES, abs=1e-6)
    area = first[tags.AREA_UNDER_LOSS_CURVE]
    assert area == pytest.approx(alone[tags.AREA_UNDER_LOSS_CURVE], abs=1e-6)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank has after epochs of uneven inputs under DDP's own join()."""
    return run_processes(join_worker.work, PROCESSES, tmp_path_factory.mktemp("join"))


@pytest.mark.parametrize("name", join_worker.CASES)
def test_replicas_are_equal_after_uneven_inputs_with_the_call_of_the_docs(
    name: str, joined: list[dict[str, Any]]
) -> None:
    first, second = (results[name, True] for results in joined)
    assert first["steps"] == second["steps"] == 3 * max(join_worker.BATCHES)
    assert torch.equal(first["within"], second["within"])
    assert torch.equal(first["moments"], second["moments"])


@pytest.mark.parametrize("name", join_worker.CASES)
def test_replicas_drift_apart_after_uneven_inputs_without_it(
    name: str, joined: list[dict[str, Any]]
) -> None:
    first, second = (results[name, False] for results in joined)
    assert not torch.equal(first["within"], second["within"])

"""Entries of tensors that four processes share, cut in every way, and what faults do to them."""

from typing import Any

import pytest
import torch

from tests.integration.processes import run_processes
from tests.integration.sharded_entries_worker import PROCESSES, work


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What came out on each rank; one launch runs all scenarios."""
    return run_processes(work, PROCESSES, tmp_path_factory.mktemp("sharded_entries"))


def test_entries_of_cut_tensors_are_those_of_the_whole(ranks: list[dict[str, Any]]) -> None:
    """Bit for bit: any dimensions, even or not, twice the same; repeated, summed, plain between."""
    assert [results["entries_of_random_tensors"] for results in ranks] == [[]] * PROCESSES


def test_a_gradient_that_one_process_lacks_counts_as_zero(ranks: list[dict[str, Any]]) -> None:
    for results in ranks:
        together, reference = results["a_gradient_that_one_process_lacks"]
        assert torch.equal(together, reference)
        assert together[0] < 0.1 - 0.1 < together[9]  # rank 0 has moved by more than lr * g


def test_a_step_without_any_gradient_moves_nothing(ranks: list[dict[str, Any]]) -> None:
    for results in ranks:
        assert torch.equal(*results["no_gradient_at_all"])


def test_a_failure_on_one_process_stops_all_before_a_parameter_moves(
    ranks: list[dict[str, Any]],
) -> None:
    outcomes = [results["a_failure_on_one_process"] for results in ranks]
    assert [outcome["moved"] for outcome in outcomes] == [False] * PROCESSES
    own = outcomes.pop(1)["said"]
    assert own.startswith("ConnectionError")
    for outcome in outcomes:
        assert "RuntimeError: The circuits failed on another process" in outcome["said"]
        assert "No parameter was changed; repair the backend there." in outcome["said"]


def test_a_skip_on_one_process_skips_the_step_on_all(ranks: list[dict[str, Any]]) -> None:
    for results in ranks:
        outcome = results["a_skip_on_one_process"]
        assert (outcome["skipped"], outcome["applied"]) == (1, 0)
        torch.testing.assert_close(outcome["step"], torch.full((10,), 0.1))

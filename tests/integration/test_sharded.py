"""Sharded parameters are perturbed as one process perturbs whole ones: FSDP2, TP, HSDP, both."""

from typing import Any

import pytest
import torch

from tests.integration.processes import run_processes
from tests.integration.sharded_worker import CASES, WithUnused, train, work

EVERY_CASE = [(processes, name) for processes, cases in CASES.items() for name in cases]
Results = dict[int, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Results of all cases on each rank; one launch for each number of processes."""
    return {
        processes: run_processes(work, processes, tmp_path_factory.mktemp("sharded"))
        for processes in CASES
    }


@pytest.mark.parametrize(("processes", "name"), EVERY_CASE)
def test_shards_are_perturbed_as_the_whole_is(processes: int, name: str, results: Results) -> None:
    case = CASES[processes][name]
    first, *others = (ranks[name] for ranks in results[processes])
    alone, bare = train(case, alone=True), train(case, alone=True, perturbed=False)
    for other in others:
        assert all(torch.equal(other["weights"][k], v) for k, v in first["weights"].items())
    if case.network is not WithUnused:  # those of several processes count unused tensors as touched
        torch.testing.assert_close(first, alone, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(first["weights"], alone["weights"], rtol=0, atol=1e-6)
    moved = [(alone["weights"][k] - bare["weights"][k]).abs().max() for k in bare["weights"]]
    assert max(moved) > 1e-3

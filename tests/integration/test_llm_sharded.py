"""A language model sharded over two processes is trained, and perturbed, as one process does."""

from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra llm")

from tests.integration.llm_sharded_worker import CASES, PROCESSES, train, work
from tests.integration.processes import run_processes

# peft 0.21 asks transformers 5.24 by a name that it warns about.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of all cases on each rank; one pair of processes runs them all."""
    return run_processes(work, PROCESSES, tmp_path_factory.mktemp("llm_sharded"))


@pytest.mark.parametrize("name", CASES)
def test_sharded_training_equals_that_of_one_process(
    name: str, ranks: list[dict[str, Any]]
) -> None:
    first, second = (results[name] for results in ranks)
    alone = train(CASES[name])
    assert first["shards"] == second["shards"] == len(alone["weights"])
    assert alone["shards"] == 0
    for tensor, whole in alone["weights"].items():
        assert torch.equal(first["weights"][tensor], second["weights"][tensor])
        torch.testing.assert_close(first["weights"][tensor], whole, rtol=0, atol=1e-6)


def test_cases_differ_from_each_other() -> None:
    trained = {name: train(CASES[name])["weights"] for name in ("plain", "perturbed", "relative")}
    for name in ("perturbed", "relative"):
        moved = [(trained[name][k] - w).abs().max() for k, w in trained["plain"].items()]
        assert max(moved) > 1e-4

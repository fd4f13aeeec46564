"""Two processes on gloo: replicas stay equal, and equal to one process on the same batches."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing import spawn

from tests.integration.ddp_worker import CASES, PROCESSES, train, work

SECONDS = 150


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of all cases on each rank; one pair of processes runs them all."""
    folder = tmp_path_factory.mktemp("ddp")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = spawn(work, args=(port, Path(folder)), nprocs=PROCESSES, join=False)
    deadline = time.monotonic() + SECONDS
    try:
        while not processes.join(timeout=5):
            assert time.monotonic() < deadline, f"two processes took longer than {SECONDS} s"
    finally:
        for process in processes.processes:
            if process.is_alive():
                process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


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

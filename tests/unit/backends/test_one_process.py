"""One process evaluates for all: two of them over gloo."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from qiskit.primitives import StatevectorSampler

from lightning_qsgd.backends import (
    GivenSampling,
    SamplerBackend,
    ShotSampling,
    SkipOnFailure,
    SkippedStep,
)
from lightning_qsgd.backends.network_call import evaluate_once
from lightning_qsgd.circuits import SuperpositionCircuit


class Unpicklable(Exception):  # noqa: N818 - no failure of ours
    """An exception that cannot be sent as it is."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def observe(rank: int) -> dict[str, Any]:
    """What one process sees."""
    seen: dict[str, Any] = {"first": evaluate_once(lambda: rank)}
    circuit = SuperpositionCircuit(2, reps=1)
    values = torch.tensor([[0.3, -0.2]] * 4, dtype=torch.float64)
    unseeded = SamplerBackend(circuit, None, GivenSampling(StatevectorSampler(default_shots=30)))
    weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    readout = unseeded.readout(values, None, weights)
    readout.sum().backward()
    seen["readout"], seen["gradient"] = readout.tolist(), weights.grad.tolist()  # type: ignore[union-attr]
    keyed = SamplerBackend(circuit, None, ShotSampling(30))
    seen["keyed"] = keyed.readout(values, np.arange(4, dtype=np.uint64)).tolist()

    def fail(failure: Exception) -> Any:
        if rank == 0:
            raise failure
        raise AssertionError("this process was not to evaluate anything")

    for failure in (ValueError("bad"), Unpicklable("two", "words")):
        try:
            evaluate_once(lambda failure=failure: fail(failure))
        except Exception as caught:
            seen[type(failure).__name__] = str(caught)
    try:
        evaluate_once(lambda: SkipOnFailure(4).run(lambda: fail(ValueError("bad"))))
    except SkippedStep as caught:
        seen["skipped"] = (caught.reason, caught.limit)
    return seen


def work(rank: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", OMP_NUM_THREADS="1")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(observe(rank), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_processes_see_the_results_and_failures_of_the_first(tmp_path: Path) -> None:
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["first"] == second["first"] == 0
    for name in ("readout", "gradient", "keyed", "skipped", "ValueError"):
        assert first[name] == second[name]
    assert first["skipped"] == ("ValueError: bad", 4)
    assert first["Unpicklable"] == "two words"
    assert second["Unpicklable"] == "Unpicklable: two words"


def test_single_process_evaluates_by_itself() -> None:
    assert evaluate_once(lambda: 3) == 3

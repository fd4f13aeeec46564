"""What each of four processes does to entries of tensors that are cut at random, and in faults."""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from lightning_qsgd.backends import SkippedStep
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.optimizers.entries import GeneralEntries
from lightning_qsgd.optimizers.rows import flat_gradient
from lightning_qsgd.optimizers.touched import indexed_entries
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.perturbations.step import Row
from tests.integration.processes import join_gloo
from tests.integration.sharded_worker import whole
from tests.learning_cases import Entangled

PROCESSES = 4
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.complex64)
TRIALS = 60


def entries_of_random_tensors(mesh: DeviceMesh) -> list[str]:
    """Read and write entries, whole and cut; return where the two differ."""
    return [f"trial {seed}" for seed in range(TRIALS) if not _agree(seed, mesh)]


def _agree(seed: int, mesh: DeviceMesh) -> bool:
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    cut_rows, whole_rows = [], []
    for position in range(3):
        shape = [draw.randint(1, 5) for _ in range(draw.randint(0, 3))]
        dtype = draw.choice(DTYPES)
        theta, gradient = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
        numel = theta.numel() * (2 if theta.is_complex() else 1)
        start, stop = sorted(draw.sample(range(numel + 1), 2))
        scattered = torch.randperm(numel, generator=generator)[start:stop]
        chosen = draw.choice([slice(start, stop), slice(0, stop), scattered])
        cut = theta.clone() if draw.random() < 0.2 else _cut(theta, mesh, draw)
        for rows, own in ((cut_rows, cut), (whole_rows, theta.clone())):
            parameter = torch.nn.Parameter(own)
            is_cut = isinstance(own, DTensor)
            parameter.grad = _cut(gradient, mesh, draw, True) if is_cut else gradient.clone()
            rows.append(Row(parameter, position // 2, str(position), chosen))
    return _same_after_writing(cut_rows, whole_rows)


def _cut(tensor: Tensor, mesh: DeviceMesh, draw: random.Random, sums: bool = False) -> DTensor:
    """Distribute along each mesh dimension at random; as sums of parts, if that is allowed."""
    kinds = [Replicate(), *map(Shard, range(tensor.dim()))]
    if sums and draw.random() < 0.3:
        first = not any(mesh.get_coordinate() or ())
        part = tensor.clone() if first else torch.zeros_like(tensor)
        return DTensor.from_local(part, mesh, [Partial(), Partial()])
    return distribute_tensor(tensor.clone(), mesh, [draw.choice(kinds), draw.choice(kinds)])


def _same_after_writing(cut_rows: list[Row], whole_rows: list[Row]) -> bool:
    cut, reference = indexed_entries(cut_rows), GeneralEntries(whole_rows)
    read = [(e.read_parameters(), e.read_gradients()) for e in (cut, reference)]
    same = all(torch.equal(left, right) for left, right in zip(*read, strict=True))
    for entries in (cut, reference):
        entries.add_to_parameters(read[1][1], -0.25)
        entries.write_gradients(read[1][0] * 3)
    return same and all(
        torch.equal(whole(mine.parameter), other.parameter)
        and torch.equal(flat_gradient(mine.parameter), flat_gradient(other.parameter))
        for mine, other in zip(cut_rows, whole_rows, strict=True)
    )


def a_gradient_that_one_process_lacks(mesh: DeviceMesh) -> list[Tensor]:
    """Step with it; return what comes out, and what a gradient of zero there gives."""
    cut, reference = _theta(mesh), torch.nn.Parameter(whole(_theta(mesh)))
    cut.grad = None if dist.get_rank() == 1 else torch.ones_like(cut)
    zeros = torch.zeros(3) if dist.get_rank() == 1 else torch.ones(len(cut.to_local()))
    reference.grad = DTensor.from_local(
        zeros[: len(cut.to_local())], mesh, cut.placements, shape=cut.shape, stride=(1,)
    ).full_tensor()
    for theta in (cut, reference):
        PerturbedOptimizer(torch.optim.SGD([theta], lr=0.1)).step()
    return [whole(cut), reference.detach()]


def no_gradient_at_all(mesh: DeviceMesh) -> list[Tensor]:
    """Step without; return what was there before and after."""
    theta = _theta(mesh)
    before = whole(theta)
    PerturbedOptimizer(torch.optim.SGD([theta], lr=0.1)).step()
    return [before, whole(theta)]


def _theta(mesh: DeviceMesh) -> Any:
    theta = torch.linspace(0.1, 0.9, 10)
    return torch.nn.Parameter(distribute_tensor(theta, mesh, [Shard(0), Shard(0)]))


@dataclass(frozen=True)
class FailsOnOne(Entangled):
    """A backend that fails on one process alone."""

    make: Callable[[], Exception] = ConnectionError

    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        if dist.get_rank() == 1:
            raise self.make()
        return super().readout(inputs, keys, weights)


def _skip() -> Exception:
    return SkippedStep("the device is in maintenance", 5)


def a_failure_on_one_process(mesh: DeviceMesh) -> dict[str, Any]:
    """Step with a failing backend; return what was raised, and whether a parameter moved."""
    theta = _theta(mesh)
    before = whole(theta)
    theta.grad = torch.ones_like(theta)
    optimizer = PerturbedOptimizer(torch.optim.SGD([theta], lr=0.1), Perturbation(FailsOnOne()))
    try:
        optimizer.step()
    except Exception as raised:
        said = f"{type(raised).__name__}: {raised}"
    return {"said": said, "moved": not torch.equal(before, whole(theta))}


def a_skip_on_one_process(mesh: DeviceMesh) -> dict[str, Any]:
    """Step with a backend that asks for a skip; return the counters, and what the step did."""
    theta = _theta(mesh)
    before = whole(theta)
    theta.grad = torch.ones_like(theta)
    perturbation = Perturbation(FailsOnOne(make=_skip))
    optimizer = PerturbedOptimizer(torch.optim.SGD([theta], lr=0.1), perturbation)
    optimizer.step()
    own = optimizer.own_state
    return {
        "skipped": own.skipped,
        "applied": own.applied,
        "step": before - whole(theta),
    }


SCENARIOS = (
    entries_of_random_tensors,
    a_gradient_that_one_process_lacks,
    no_gradient_at_all,
    a_failure_on_one_process,
    a_skip_on_one_process,
)


def work(rank: int, processes: int, port: int, folder: Path) -> None:
    """Run all scenarios on this rank and save what came out."""
    logging.disable(logging.ERROR)
    join_gloo(rank, processes, port)
    mesh = init_device_mesh("cpu", (2, 2))
    results = {scenario.__name__: scenario(mesh) for scenario in SCENARIOS}
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()

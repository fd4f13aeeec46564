"""What each of two processes does in the test of DDP's own join(): it gets its share of batches."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation, RandomEntries, Strength
from lightning_qsgd.perturbations.strength import CosineDecay
from tests.integration.processes import join_gloo

BATCHES = (3, 5)
"""Batches of each rank in an epoch."""

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "distributed.md"
SGD = torch.optim.SGD
CASES: dict[str, tuple[Perturbation, Any]] = {
    "random entries": (Perturbation(coordinates=RandomEntries(count=5)), SGD),
    "decaying strength": (Perturbation(strength=Strength(0.5, decay=CosineDecay(20))), SGD),
    "moments, no perturbation": (Perturbation(strength=0.0), torch.optim.Adam),
}


def equalize_of_the_docs() -> Any:
    """Return the function that the page tells to call."""
    (block,) = re.findall(r"```python\n(import io\n.*?)```", PAGE.read_text(), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(block, namespace)
    return namespace["equalize"]


def train(name: str, rank: int, equalized: bool) -> dict[str, Any]:
    """Train three epochs; return weights within the last one, and the optimizer's state."""
    perturbation, base = CASES[name]
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    parallel = DistributedDataParallel(network)
    optimizer = PerturbedOptimizer(base(parallel.parameters(), lr=0.01), perturbation)
    within = torch.empty(0)
    for epoch in range(3):
        with parallel.join():
            for number in range(BATCHES[rank]):
                generator = torch.Generator().manual_seed(100 * epoch + 10 * number + rank)
                optimizer.zero_grad()
                parallel(torch.randn(4, 6, generator=generator)).square().mean().backward()
                optimizer.step()
                if number == min(BATCHES) - 1:
                    within = torch.cat([p.detach().flatten() for p in network.parameters()])
        if equalized:
            equalize_of_the_docs()(optimizer)
    kept = [v for state in optimizer.state.values() for v in state.values() if v is not None]
    return {
        "within": within,
        "steps": optimizer.own_state.steps,
        "moments": torch.cat([tensor.flatten() for tensor in kept] or [torch.empty(0)]),
    }


def work(rank: int, processes: int, port: int, folder: Path) -> None:
    """Run all cases on this rank, with the call of the docs and without, and save what came out."""
    join_gloo(rank, processes, port)
    results = {(name, call): train(name, rank, call) for name in CASES for call in (False, True)}
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()

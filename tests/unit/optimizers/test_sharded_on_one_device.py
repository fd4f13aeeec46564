"""A mesh of one process shards without cutting: FSDP2 there must be the plain optimizer."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard

from lightning_qsgd.backends import CompiledBackend
from lightning_qsgd.circuits import SignalProcessingCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    GradientInjection,
    HiddenMatrices,
    LargestGradient,
    Perturbation,
    RelativeInjection,
    SpectralInjection,
)
from tests.devices import CUDA

KINDS = {
    "update": Perturbation(CompiledBackend()),
    "all entries": Perturbation(CompiledBackend(), AllEntries(), injection=RelativeInjection()),
    "gradient": Perturbation(injection=GradientInjection()),
    "largest gradient": Perturbation(coordinates=LargestGradient()),
    "spectrum": Perturbation(
        SignalProcessingCircuit(), HiddenMatrices(()), injection=SpectralInjection()
    ),
}


@pytest.fixture
def process_group(request: pytest.FixtureRequest) -> Iterator[str]:
    """One process on gloo or NCCL; yields the device."""
    device = request.param
    backend = "nccl" if device == "cuda" else "gloo"
    timeout = timedelta(seconds=30)
    store = dist.HashStore()
    dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)
    yield device
    dist.destroy_process_group()


def train(perturbation: Perturbation, device: str, shard: Any) -> list[torch.Tensor]:
    torch.manual_seed(7)
    network = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).to(device)
    shard(network)
    optimizer = PerturbedOptimizer(torch.optim.AdamW(network.parameters(), 1e-2), perturbation)
    optimizer.measure_every = optimizer.measure_model_every = 1
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.ones(4, 5, device=device)).square().sum().backward()
        optimizer.step()
    assert optimizer.report is not None
    sizes = torch.tensor([optimizer.report.relative_size, optimizer.report.cosine])
    whole = [getattr(p.detach(), "full_tensor", p.detach)() for p in network.parameters()]
    return [*(parameter.cpu() for parameter in whole), sizes]


@pytest.mark.parametrize("process_group", ["cpu", CUDA], indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_one_process_shards_without_a_difference(process_group: str, kind: str) -> None:
    sharded = train(KINDS[kind], process_group, fully_shard)
    plain = train(KINDS[kind], process_group, lambda network: None)
    torch.testing.assert_close(sharded, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("process_group", [CUDA], indirect=True)
@pytest.mark.parametrize("kind", ["update", "gradient"])
def test_parameters_offloaded_to_the_cpu_are_summed_on_the_device(
    process_group: str, kind: str
) -> None:
    def offload(network: nn.Module) -> None:
        network.cpu()
        fully_shard(network, offload_policy=CPUOffloadPolicy())

    offloaded = train(KINDS[kind], process_group, offload)
    plain = train(KINDS[kind], process_group, lambda network: None)
    torch.testing.assert_close(offloaded, plain, rtol=0, atol=1e-5)

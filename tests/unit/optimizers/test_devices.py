"""The same run on every device that this machine has."""

import pytest
import torch
from torch import nn

from lightning_qsgd.backends import Backend, SamplerBackend, SineBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    Coordinates,
    FirstOfEachTensor,
    LargestGradient,
    Perturbation,
    RandomEntries,
)

DEVICES = [
    pytest.param("cpu"),
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    ),
    pytest.param(
        "mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs MPS")
    ),
]


def trained(device: str, perturbation: Perturbation) -> torch.Tensor:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    x, y = torch.randn(16, 3).to(device), torch.randn(16, 2).to(device)
    network.to(device)
    optimizer = PerturbedOptimizer(torch.optim.SGD(network.parameters(), lr=0.1), perturbation)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(x), y).backward()
        optimizer.step()
    assert optimizer.own_state.steps == 3
    return torch.cat([parameter.detach().cpu().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "coordinates",
    [FirstOfEachTensor(), AllEntries(), RandomEntries(), LargestGradient()],
    ids=lambda coordinates: type(coordinates).__name__,
)
@pytest.mark.parametrize(
    "backend",
    [SineBackend(), SamplerBackend(SuperpositionCircuit(2), sampling=50)],
    ids=lambda backend: type(backend).__name__,
)
def test_a_run_on_any_device_equals_the_run_on_the_cpu(
    device: str, coordinates: Coordinates, backend: Backend
) -> None:
    perturbation = Perturbation(backend, coordinates, strength=0.5)
    expected = trained("cpu", perturbation)
    assert (expected - trained("cpu", Perturbation(strength=0.0))).abs().max() > 1e-4
    torch.testing.assert_close(trained(device, perturbation), expected, rtol=1e-4, atol=1e-5)

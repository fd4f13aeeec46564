"""A compiled circuit as a perturbation, on every device that this machine has."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_qsgd.backends import Backend, CompiledBackend, SamplerBackend, SineBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    FirstOfEachTensor,
    GradientInjection,
    Learning,
    Perturbation,
    RelativeInjection,
    UpdateInjection,
)
from tests.devices import each_device, each_device_with_float64, only_cuda

CIRCUIT = SuperpositionCircuit(3, reps=2)


def close(found: Tensor, expected: Tensor) -> None:
    """Equal to the precision that was asked for: sums on a GPU come in another order."""
    tolerance = 1e-11 if found.dtype == torch.float64 else 2e-5
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=tolerance)


@each_device
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_readout_stays_on_the_device_and_has_the_numbers_of_the_cpu(
    dtype: torch.dtype, device: str
) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    backend = CompiledBackend(CIRCUIT, weight_seed=1)
    values = torch.rand(50, 3).to(dtype)
    for weights in (None, torch.rand(12)):
        readout = backend.readout(values.to(device), weights=weights)
        assert (readout.device.type, readout.dtype) == (device, dtype)
        exact = backend.readout(values.double(), weights=weights)
        tolerance = 5e-3 if dtype == torch.bfloat16 else 1e-5  # it rounds to 8 bits once
        torch.testing.assert_close(readout.cpu().double(), exact, rtol=0, atol=tolerance)
    reference = SamplerBackend(CIRCUIT, weight_seed=1).readout(values[:3].to(device))
    assert (reference.device.type, reference.dtype) == (device, dtype)


def trained(device: str, dtype: torch.dtype, perturbation: Perturbation, **base: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
    x, y = (torch.randn(16, size, generator=generator) for size in (3, 2))
    x, y = x.to(device, dtype), y.to(device, dtype)
    network.to(device)
    adam = torch.optim.AdamW(network.parameters(), lr=0.05, **base)
    optimizer = PerturbedOptimizer(adam, perturbation)
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(x), y).backward()
        optimizer.step()
    assert optimizer.own_state.steps == 4
    return torch.cat([parameter.detach().cpu().flatten() for parameter in network.parameters()])


@each_device_with_float64
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("coordinates", [FirstOfEachTensor(), AllEntries()], ids=["first", "all"])
@pytest.mark.parametrize(
    "injection",
    [UpdateInjection(step_size=0.3), GradientInjection(), RelativeInjection()],
    ids=["update", "gradient", "relative"],
)
def test_a_run_on_any_device_equals_the_run_on_the_cpu(
    injection: Any, coordinates: Any, dtype: torch.dtype, device: str
) -> None:
    backend = CompiledBackend(CIRCUIT, weight_seed=1)
    perturbation = Perturbation(backend, coordinates, injection=injection, strength=0.5)
    expected = trained("cpu", dtype, perturbation)
    assert (expected - trained("cpu", dtype, Perturbation(strength=0.0))).abs().max() > 1e-4
    close(trained(device, dtype, perturbation), expected)


@each_device_with_float64
def test_learned_weights_and_strength_are_those_of_the_cpu(device: str) -> None:
    perturbation = Perturbation(
        CompiledBackend(CIRCUIT, weight_seed=1),
        AllEntries(),
        injection=RelativeInjection(),
        learning=Learning(strength_rate=0.05, weights_rate=0.1),
    )
    expected = trained("cpu", torch.float64, perturbation)
    close(trained(device, torch.float64, perturbation), expected)


@only_cuda
@pytest.mark.parametrize(
    "base", [{"fused": True}, {"foreach": True}, {"capturable": True}], ids=str
)
@pytest.mark.parametrize("backend", [CompiledBackend(CIRCUIT, weight_seed=1), SineBackend(3)])
def test_kinds_of_the_base_that_a_gpu_offers(
    backend: Backend, base: dict[str, Any], device: str
) -> None:
    perturbation = Perturbation(backend, AllEntries(), injection=UpdateInjection(step_size=0.3))
    expected = trained("cpu", torch.float32, perturbation)
    close(trained(device, torch.float32, perturbation, **base), expected)


@only_cuda
def test_every_entry_of_a_large_model_in_one_step(device: str) -> None:
    weight = nn.Parameter(torch.rand(1000, 1000, device=device))
    optimizer = PerturbedOptimizer(
        torch.optim.SGD([weight], lr=1e-3), Perturbation(CompiledBackend(), AllEntries())
    )
    before = weight.detach().clone()
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    moved = (weight.detach() - before + 1e-3).abs() > 1e-6  # by more than the base alone
    assert moved.float().mean() > 0.9
    assert optimizer.report is not None
    assert optimizer.report.circuits == 250_000

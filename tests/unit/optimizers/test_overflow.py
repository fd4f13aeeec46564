"""Nothing that is added is ever non-finite where the bare optimizer stays finite."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    Coordinates,
    FirstOfEachTensor,
    GaussianControl,
    GradientInjection,
    Injection,
    NoiseInjection,
    NudgeInjection,
    PermutedControl,
    Perturbation,
    RandomSignControl,
    RelativeInjection,
    RescaledStepControl,
    UpdateInjection,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

CONTROLS = [
    None,
    GaussianControl(),
    RandomSignControl(),
    PermutedControl(),
    RescaledStepControl(),
]
INJECTIONS: list[Injection] = [
    *(UpdateInjection(control=control) for control in CONTROLS),
    *(RelativeInjection(control=control) for control in CONTROLS),
    *(GradientInjection(control=control) for control in CONTROLS),
    *(NoiseInjection(eta=eta) for eta in (0.01, 1e30, 1e76, 1e300)),
    *(NudgeInjection(size=size) for size in (1e-6, 1e5, 1e38, 1e300)),
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.complex64]
BASES: dict[str, Any] = {
    "large SGD": lambda p: torch.optim.SGD(p, lr=1.0),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-3),
}
SIZES = [0.0, 1e-40, 1.0, 1e4, 5e4, 1e19, 1e24, 1e30, 1e38]


def parameters(dtype: torch.dtype, theta: float, size: float) -> list[Tensor]:
    shapes: tuple[tuple[int, ...], ...] = ((4,), (3, 2))
    made = []
    for shape in shapes:
        generator = torch.Generator().manual_seed(len(shape))
        value, gradient = (torch.rand(shape, generator=generator) * 2 - 1 for _ in range(2))
        value, gradient = (value.double() * theta).to(dtype), (gradient.double() * size).to(dtype)
        parameter = nn.Parameter(value)
        parameter.grad = gradient
        made.append(parameter)
    return made


def finite_after(base: str, wrap: Any, *case: Any) -> list[Tensor]:
    held = parameters(*case)
    optimizer = wrap(BASES[base](held))
    optimizer.step()
    return [torch.isfinite(torch.view_as_real(p) if p.is_complex() else p) for p in held]


def spoiled(injection: Injection, strength: float, coordinates: Coordinates) -> list[Any]:
    """List the cases in which a perturbed entry is not finite and the bare one is."""
    parts: dict[str, Any] = {"coordinates": coordinates, "strength": strength}
    perturbation = Perturbation(injection=injection, **parts)
    found = []
    for base, dtype, theta, size in product(BASES, DTYPES, (0.5,), SIZES):
        case = (dtype, theta, size)
        bare = finite_after(base, lambda o: o, *case)
        perturbed = finite_after(base, lambda o: PerturbedOptimizer(o, perturbation), *case)
        if any(bool((a & ~b).any()) for a, b in zip(bare, perturbed, strict=True)):
            found.append((base, *case))
    return found


@pytest.mark.parametrize("injection", INJECTIONS, ids=repr)
def test_what_is_added_stays_finite_where_the_bare_optimizer_does(injection: Injection) -> None:
    assert spoiled(injection, 0.5, FirstOfEachTensor()) == []


@pytest.mark.parametrize("strength", [1e6, 1e30, 1e300])
@pytest.mark.parametrize("injection", INJECTIONS[:15:4])
def test_a_huge_strength_adds_nothing_rather_than_infinity(
    injection: Injection, strength: float
) -> None:
    assert spoiled(injection, strength, AllEntries()) == []

"""The base's step without decoupled weight decay, beside the same base without any decay."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import AllEntries, Injection, Perturbation, TouchedStep

LR, DECAY = 0.01, 0.1


@dataclass(frozen=True)
class Watching(Injection):
    """Notes the base's step without weight decay, and adds nothing."""

    seen: list[Tensor] = field(default_factory=list)

    needs_base_step = True

    @override
    def coefficients(self, step: TouchedStep) -> Tensor:
        self.seen.append(step.without_decay().clone())
        return torch.zeros_like(step.theta)


def made(name: str, weight_decay: float, **options: Any) -> tuple[nn.Parameter, Any, Watching]:
    home: Any = torch.optim
    if not hasattr(torch.optim, name):
        home = pytest.importorskip("pytorch_optimizer")
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(6, 8, generator=generator, dtype=torch.float64))
    base = getattr(home, name)([weight], lr=LR, weight_decay=weight_decay, **options)
    watching = Watching()
    perturbation = Perturbation(coordinates=AllEntries(), injection=watching)
    return weight, PerturbedOptimizer(base, perturbation), watching


CASES: list[tuple[str, dict[str, Any]]] = [
    ("AdamW", {}),
    ("Adam", {"decoupled_weight_decay": True}),
    ("Muon", {}),
    ("Lion", {}),
    ("Lion", {"fixed_decay": True}),
    ("AdEMAMix", {"weight_decouple": True}),
    ("AdEMAMix", {"weight_decouple": True, "fixed_decay": True}),
    ("Adan", {"weight_decouple": True}),
    ("ADOPT", {"weight_decouple": True}),
    ("MARS", {}),
    ("Prodigy", {}),
]


@pytest.mark.filterwarnings("ignore::lightning_qsgd.optimizers.InvisiblePerturbationWarning")
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value))
def test_decay_that_a_base_does_to_the_weights_is_no_part_of_its_step(
    name: str, options: dict[str, Any]
) -> None:
    weight, optimizer, seen = made(name, DECAY, **options)
    twin, other, expected = made(name, 0.0, **options)
    for step in range(4):
        twin.data.copy_(weight.data)
        generator = torch.Generator().manual_seed(100 + step)
        weight.grad = torch.randn(6, 8, generator=generator, dtype=torch.float64)
        twin.grad = weight.grad.clone()
        optimizer.step()
        other.step()
    assert not torch.equal(weight, twin)
    for own, bare in zip(seen.seen, expected.seen, strict=True):
        torch.testing.assert_close(own, bare, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["Adan", "AdEMAMix", "Lion"])
def test_decay_that_enters_the_gradient_is_part_of_the_step(name: str) -> None:
    weight, optimizer, seen = made(name, DECAY, weight_decouple=False)
    before = weight.detach().clone()
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    torch.testing.assert_close(
        seen.seen[0].view_as(weight), weight.detach() - before, rtol=0, atol=0
    )


@pytest.mark.parametrize("name", ["Lion", "AdEMAMix", "Adan"])
def test_strength_zero_is_the_base_with_its_decay_to_the_last_bit(name: str) -> None:
    home = pytest.importorskip("pytorch_optimizer")
    ends = []
    for strength in (None, 0.0):
        weight = nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
        base = getattr(home, name)([weight], lr=LR, weight_decay=DECAY, weight_decouple=True)
        perturbation = Perturbation(injection=Watching(), strength=strength or 0.0)
        optimizer = base if strength is None else PerturbedOptimizer(base, perturbation)
        for step in range(3):
            weight.grad = torch.full_like(weight, 0.1 * (step + 1))
            optimizer.step()
        ends.append(weight.detach())
    assert torch.equal(*ends)

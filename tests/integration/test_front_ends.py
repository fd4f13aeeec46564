"""Every way in gives the same weights, bit for bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    GradientInjection,
    Perturbation,
    RelativeInjection,
)
from lightning_qsgd.training import PerturbationCallback, PerturbationMixin
from tests.integration.modules import (
    RANDOM,
    VISIBLE,
    Finished,
    Perturbed,
    fit,
    loader,
    make_network,
    sgd,
    weights,
)

PERTURBATIONS = {
    "closed form": VISIBLE,
    "exact circuit": Perturbation(SamplerBackend(SuperpositionCircuit(2)), AllEntries()),
    "shots": Perturbation(
        SamplerBackend(SuperpositionCircuit(2), sampling=16), AllEntries(), seed=5
    ),
    "random entries": RANDOM,
    "gradient": Perturbation(coordinates=AllEntries(), injection=GradientInjection()),
    "relative": Perturbation(coordinates=AllEntries(), injection=RelativeInjection()),
}


class Own(PerturbationMixin, LightningModule):
    """A module that is written with the mixin from the start."""

    def __init__(self, perturbation: Perturbation) -> None:
        super().__init__(perturbation=perturbation)
        self.network = make_network()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return sgd(self.parameters())


class Grandchild(Perturbed):
    """Overrides what the mixin has wrapped in its parent, and calls it."""

    def configure_optimizers(self) -> Any:
        return [super().configure_optimizers()]


class Returning(Finished):
    """Wraps its optimizer by itself."""

    def __init__(self, perturbation: Perturbation) -> None:
        super().__init__(lambda parameters: PerturbedOptimizer(sgd(parameters), perturbation))


def plain_torch(perturbation: Perturbation) -> Tensor:
    network = make_network()
    optimizer = PerturbedOptimizer(sgd(network.parameters()), perturbation)
    for x, y in loader():
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    return weights(network)


def fabric(perturbation: Perturbation) -> Tensor:
    lightning = Fabric(accelerator="cpu", devices=1)
    network = make_network()
    bare = PerturbedOptimizer(sgd(network.parameters()), perturbation)
    wrapped, optimizer = lightning.setup(network, bare)
    for x, y in lightning.setup_dataloaders(loader()):
        optimizer.zero_grad()
        lightning.backward(nn.functional.cross_entropy(wrapped(x), y))
        optimizer.step()
    return weights(network)


FRONT_ENDS: dict[str, Callable[[Perturbation], Tensor]] = {
    "mixin over an own module": lambda p: fit(Own(p)),
    "mixin over a finished module": lambda p: fit(Perturbed(perturbation=p)),
    "grandchild": lambda p: fit(Grandchild(perturbation=p)),
    "callback": lambda p: fit(Finished(), PerturbationCallback(p)),
    "mixin and callback": lambda p: fit(Perturbed(perturbation=p), PerturbationCallback(p)),
    "optimizer in configure_optimizers": lambda p: fit(Returning(p)),
    "optimizer and callback": lambda p: fit(Returning(p), PerturbationCallback(p)),
    "Fabric": fabric,
}


@pytest.mark.parametrize("perturbation", PERTURBATIONS.values(), ids=PERTURBATIONS)
@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_front_end_equals_a_plain_torch_loop_bit_for_bit(
    front_end: Callable[[Perturbation], Tensor], perturbation: Perturbation
) -> None:
    trained = front_end(perturbation)
    assert torch.equal(trained, plain_torch(perturbation))
    assert (trained - fit(Finished())).abs().max() > 1e-4


@pytest.mark.parametrize("module", [Own, Perturbed, Grandchild])
def test_mixin_wraps_what_each_class_configures_without_a_trainer(module: Any) -> None:
    configured = module(perturbation=VISIBLE).configure_optimizers()
    (optimizer,) = configured if isinstance(configured, list) else [configured]
    assert isinstance(optimizer, PerturbedOptimizer)
    assert optimizer.perturbation is VISIBLE
    assert type(optimizer.base) is torch.optim.SGD


def test_runs_with_another_seed_draw_other_shots() -> None:
    backend = SamplerBackend(SuperpositionCircuit(2), sampling=16)
    first, second = (plain_torch(Perturbation(backend, AllEntries(), seed=s)) for s in (0, 1))
    assert not torch.equal(first, second)

"""Every legal return value of `configure_optimizers`, under every front end."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.optim import lr_scheduler as schedulers

from lightning_qsgd.training import PerturbationCallback
from tests.integration.modules import BATCHES, VISIBLE, Finished, Perturbed, Probe, fit, sgd

Shape = Callable[[Any], Any]


class Named(NamedTuple):
    optimizers: list[Any]
    schedulers: list[Any]


def halving(optimizer: Any) -> Any:
    return schedulers.StepLR(optimizer, step_size=1, gamma=0.5)


def plateau(optimizer: Any) -> dict[str, Any]:
    scheduler = schedulers.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=10.0)
    return {"scheduler": scheduler, "monitor": "train/loss", "interval": "step"}


def every_step(scheduler: Callable[[Any], Any]) -> Shape:
    def shape(module: Any) -> Any:
        optimizer = sgd(module.parameters())
        entry = {"scheduler": scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": entry}

    return shape


def with_scheduler(arrange: Callable[[Any, Any], Any]) -> Shape:
    def shape(module: Any) -> Any:
        optimizer = sgd(module.parameters())
        return arrange(optimizer, halving(optimizer))

    return shape


def with_plateau(module: Any) -> Any:
    optimizer = sgd(module.parameters())
    return {"optimizer": optimizer, "lr_scheduler": plateau(optimizer)}


SINGLE: dict[str, Shape] = {
    "optimizer": lambda m: sgd(m.parameters()),
    "list": lambda m: [sgd(m.parameters())],
    "tuple": lambda m: (sgd(m.parameters()),),
    "two lists": with_scheduler(lambda o, s: ([o], [s])),
    "two lists, scheduler dict": with_scheduler(lambda o, s: ([o], [{"scheduler": s}])),
    "two lists, no scheduler": lambda m: ([sgd(m.parameters())], []),
    "two lists, named": with_scheduler(lambda o, s: Named([o], [s])),
    "dict": lambda m: {"optimizer": sgd(m.parameters())},
    "dict with scheduler": with_scheduler(lambda o, s: {"optimizer": o, "lr_scheduler": s}),
    "dict with scheduler dict": with_scheduler(
        lambda o, s: {"optimizer": o, "lr_scheduler": {"scheduler": s, "frequency": 1}}
    ),
    "tuple of one dict": with_scheduler(lambda o, s: ({"optimizer": o, "lr_scheduler": s},)),
    "plateau": with_plateau,
    "one cycle": every_step(lambda o: schedulers.OneCycleLR(o, max_lr=0.2, total_steps=20)),
    "sequential": every_step(
        lambda o: schedulers.SequentialLR(
            o, [schedulers.ConstantLR(o, 0.5), schedulers.ExponentialLR(o, 0.9)], milestones=[3]
        )
    ),
    "chained": every_step(
        lambda o: schedulers.ChainedScheduler(
            [schedulers.ConstantLR(o, 0.5), schedulers.ExponentialLR(o, 0.9)], optimizer=o
        )
    ),
}


def two(module: Any) -> tuple[Any, Any]:
    first, second = module.network[0], module.network[3]
    return sgd(first.parameters()), sgd(second.parameters())


def two_dicts(module: Any) -> Any:
    one, other = two(module)
    return ({"optimizer": one, "lr_scheduler": halving(one)}, {"optimizer": other})


def two_with_schedulers(module: Any) -> Any:
    one, other = two(module)
    return [one, other], [halving(one), {"scheduler": halving(other), "name": "second"}]


SEVERAL: dict[str, Shape] = {
    "list of two": lambda m: list(two(m)),
    "tuple of two": two,
    "tuple of two dicts": two_dicts,
    "two lists of two": two_with_schedulers,
}


class Automatic(Finished):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def configure_optimizers(self) -> Any:
        return self.shape(self)


class Manual(Automatic):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers = self.optimizers(use_pl_optimizer=True)
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


class AutomaticPerturbed(Perturbed, Automatic):
    pass


class ManualPerturbed(Perturbed, Manual):
    pass


def run(base: type[Any], shape: Shape, front_end: str) -> tuple[Tensor, Probe]:
    """Train `base` perturbed by the front end, or bare for "none"."""
    probe, callbacks, kwargs = Probe(), [], {}
    if front_end in ("callback", "both"):
        callbacks.append(PerturbationCallback(VISIBLE))
    if front_end in ("mixin", "both"):
        base = {Automatic: AutomaticPerturbed, Manual: ManualPerturbed}[base]
        kwargs = {"perturbation": VISIBLE}
    return fit(base(shape=shape, **kwargs), *callbacks, probe), probe


def check(base: type[Any], shape: Shape, front_end: str) -> None:
    trained, probe = run(base, shape, front_end)
    bare, bare_probe = run(base, shape, "none")
    assert probe.applied == [BATCHES] * len(probe.optimizers)
    assert [type(optimizer.base) for optimizer in probe.optimizers] == [
        type(optimizer) for optimizer in bare_probe.optimizers
    ]
    assert all(any(s is o for o in probe.optimizers) for s in probe.scheduled)
    assert len(probe.scheduled) == len(bare_probe.scheduled)
    assert probe.lrs == bare_probe.lrs
    assert (trained - bare).abs().max() > 1e-3


@pytest.mark.parametrize("front_end", ["mixin", "callback", "both"])
@pytest.mark.parametrize("shape", SINGLE.values(), ids=SINGLE)
def test_single_optimizer_is_wrapped_once_and_its_scheduler_follows(
    shape: Shape, front_end: str
) -> None:
    check(Automatic, shape, front_end)


@pytest.mark.filterwarnings("ignore:The lr scheduler dict contains the key")
@pytest.mark.parametrize("front_end", ["mixin", "callback", "both"])
@pytest.mark.parametrize("shape", (SINGLE | SEVERAL).values(), ids=SINGLE | SEVERAL)
def test_manual_optimization_perturbs_each_optimizer_once(shape: Shape, front_end: str) -> None:
    check(Manual, shape, front_end)


def test_schedule_of_every_step_changes_the_learning_rate() -> None:
    _, probe = run(Automatic, SINGLE["sequential"], "mixin")
    assert len(set(probe.lrs)) > 3


@pytest.mark.filterwarnings("ignore:.*returned `None`, this fit will run with no optimizer")
@pytest.mark.parametrize("front_end", ["mixin", "callback"])
def test_no_optimizer_is_left_alone(front_end: str) -> None:
    trained, probe = run(Automatic, lambda module: None, front_end)
    assert torch.equal(trained, run(Automatic, lambda module: None, "none")[0])
    assert probe.applied == [0]


def test_an_optimizer_that_occurs_twice_is_wrapped_once() -> None:
    module = AutomaticPerturbed(shape=lambda m: [sgd(m.parameters())] * 2, perturbation=VISIBLE)
    first, second = module.configure_optimizers()
    assert first is second


def test_what_is_no_optimizer_stays_for_lightning_to_judge() -> None:
    module = AutomaticPerturbed(shape=lambda m: {"monitor": "x", "optimizer": None})
    assert module.configure_optimizers() == {"monitor": "x", "optimizer": None}


def test_a_module_that_uses_the_name_of_the_perturbation_is_refused() -> None:
    class Adversarial(AutomaticPerturbed):
        def __init__(self) -> None:
            super().__init__(shape=lambda m: sgd(m.parameters()))
            self.perturbation = 0.1

    with pytest.raises(
        TypeError, match=r"attribute `perturbation` of Adversarial .*got 0\.1.*name"
    ):
        Adversarial().configure_optimizers()

"""A perturbation ends with its fit: nothing is perturbed twice, and nothing later by accident."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch.optim import Optimizer

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training import PerturbationCallback
from tests.integration.modules import (
    BATCHES,
    VISIBLE,
    Finished,
    Perturbed,
    Probe,
    fit,
    is_wrapped,
    loader,
    make_network,
    make_trainer,
    sgd,
    weights,
)

OTHER = Perturbation(strength=0.1)


class Keeping(Finished):
    """Builds its optimizer once, as LightningCLI's patch does, with a scheduler."""

    def __init__(self) -> None:
        super().__init__()
        self.optimizer = sgd(self.network.parameters())
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, gamma=0.5)

    def configure_optimizers(self) -> Any:
        return [self.optimizer], [self.scheduler]

    def rewind(self) -> Optimizer:
        """Start again from the initial weights and an empty optimizer state."""
        self.network.load_state_dict(make_network().state_dict())
        self.optimizer.state.clear()
        return self.optimizer


class Failing(Callback):
    """Raises in the middle of training."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.global_step == 3:
            raise self.error


def unperturbed() -> torch.Tensor:
    return fit(Keeping())


def fit_again_without(module: Keeping) -> tuple[torch.Tensor, Probe]:
    module.rewind()
    for group in module.optimizer.param_groups:
        group["lr"] = 0.1
    probe = Probe()
    return fit(module, probe), probe


@pytest.mark.parametrize("perturbation", [VISIBLE, None])
def test_mixin_and_callback_with_equal_perturbations_perturb_once(
    perturbation: Perturbation | None,
) -> None:
    probe = Probe()
    both = fit(Perturbed(perturbation=perturbation), PerturbationCallback(perturbation), probe)
    assert probe.applied == [BATCHES]
    assert torch.equal(both, fit(Perturbed(perturbation=perturbation)))


def test_mixin_brings_no_second_callback() -> None:
    given = PerturbationCallback(VISIBLE)
    trainer = make_trainer(given)
    trainer.fit(Perturbed(perturbation=VISIBLE), loader())
    assert [c for c in trainer.callbacks if isinstance(c, PerturbationCallback)] == [given]


def test_mixin_brings_a_callback_with_its_own_perturbation() -> None:
    trainer = make_trainer()
    trainer.fit(Perturbed(perturbation=OTHER), loader())
    (brought,) = [c for c in trainer.callbacks if isinstance(c, PerturbationCallback)]
    assert brought.perturbation is OTHER


def test_a_module_keeps_the_callbacks_that_it_configures_itself() -> None:
    class WithProbe(Perturbed):
        def configure_callbacks(self) -> Probe:
            self.probe = Probe()
            return self.probe

    module = WithProbe(perturbation=VISIBLE)
    fit(module)
    assert module.probe.applied == [BATCHES]


@pytest.mark.parametrize(
    ("module", "callbacks"),
    [
        (lambda: Perturbed(perturbation=VISIBLE), [OTHER]),
        (lambda: Finished(lambda ps: PerturbedOptimizer(sgd(ps), VISIBLE)), [OTHER]),
    ],
    ids=["mixin and callback", "optimizer and callback"],
)
def test_conflicting_perturbations_are_refused_before_training(
    module: Any, callbacks: list[Perturbation]
) -> None:
    built = module()
    before = weights(built)
    with pytest.raises(ValueError, match=r"perturbed already by .*Configure it in one place"):
        fit(built, *map(PerturbationCallback, callbacks))
    assert torch.equal(weights(built), before)


def test_lightning_refuses_two_callbacks_in_one_trainer() -> None:
    with pytest.raises(RuntimeError, match="more than one stateful callback of type"):
        make_trainer(PerturbationCallback(VISIBLE), PerturbationCallback(OTHER))


def test_second_fit_of_the_same_trainer_perturbs_once_per_step() -> None:
    module, probe = Finished(), Probe()
    trainer = make_trainer(PerturbationCallback(VISIBLE), probe)
    trainer.fit(module, loader())
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, loader())
    assert trainer.global_step == 2 * BATCHES
    assert probe.applied == [BATCHES]
    assert not is_wrapped(probe.optimizers[0].base)


def test_callback_of_one_trainer_serves_another() -> None:
    callback, modules = PerturbationCallback(VISIBLE), [Finished(), Finished()]
    first, second = (fit(module, callback) for module in modules)
    assert torch.equal(first, second)


def test_later_fit_without_the_callback_is_not_perturbed() -> None:
    module = Keeping()
    trainer = make_trainer(PerturbationCallback(VISIBLE))
    trainer.fit(module, loader())
    perturbed = weights(module)
    assert trainer.optimizers == [module.optimizer]
    assert module.scheduler.optimizer is module.optimizer
    again, probe = fit_again_without(module)
    assert probe.optimizers == [module.optimizer]
    assert probe.optimizers[0] is module.optimizer
    assert probe.scheduled[0] is module.optimizer
    assert torch.equal(again, unperturbed())
    assert (again - perturbed).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("error", "seen"),
    [(ZeroDivisionError("a bug"), ZeroDivisionError), (KeyboardInterrupt(), BaseException)],
    ids=["exception", "Ctrl-C"],
)
def test_fit_after_a_broken_one_is_not_perturbed(
    error: BaseException, seen: type[BaseException]
) -> None:
    module, callback = Keeping(), PerturbationCallback(VISIBLE)
    trainer = make_trainer(callback, Failing(error))
    with pytest.raises((seen, SystemExit)):
        trainer.fit(module, loader())
    assert callback.optimizers[0].own_state.applied == 3
    assert trainer.strategy.optimizers in ([], [module.optimizer])
    again, probe = fit_again_without(module)
    assert probe.applied == [0]
    assert probe.optimizers[0] is module.optimizer
    assert torch.equal(again, unperturbed())


def test_fit_after_one_that_broke_before_training_is_not_perturbed() -> None:
    class Early(Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            raise ZeroDivisionError("a bug")

    module = Keeping()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        fit(module, PerturbationCallback(VISIBLE), Early())
    again, probe = fit_again_without(module)
    assert probe.applied == [0]
    assert torch.equal(again, unperturbed())


def test_same_callback_perturbs_again_after_a_broken_fit() -> None:
    module, callback = Keeping(), PerturbationCallback(VISIBLE)
    with pytest.raises(ZeroDivisionError):
        fit(module, callback, Failing(ZeroDivisionError("a bug")))
    again = Keeping()
    assert torch.equal(fit(again, callback), fit(Keeping(), PerturbationCallback(VISIBLE)))
    assert callback.optimizers[0].own_state.applied == BATCHES

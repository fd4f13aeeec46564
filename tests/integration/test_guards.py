"""An unperturbed run that looks perturbed is the worst outcome: each way to one raises."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import nn

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import AllEntries, FirstOfModel, Learning, Perturbation
from lightning_qsgd.training import PerturbationCallback, PerturbationMixin
from tests.integration.modules import (
    VISIBLE,
    Finished,
    Perturbed,
    RateLess,
    fit,
    is_wrapped,
    loader,
    make_trainer,
    sgd,
    weights,
)
from tests.learning_cases import TurnedSine


class Replacing(Callback):
    """Puts bare optimizers back, as a careless callback might."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        trainer.strategy.optimizers = [
            optimizer.base if is_wrapped(optimizer) else optimizer
            for optimizer in trainer.strategy.optimizers
        ]


def test_callback_raises_when_the_optimizers_were_replaced() -> None:
    with pytest.raises(RuntimeError, match=r"no perturbed optimizer was stepped.*wrap the optim"):
        fit(Finished(), PerturbationCallback(VISIBLE), Replacing())


def test_mixin_raises_when_the_optimizers_were_replaced_and_nothing_moves() -> None:
    module = Perturbed(perturbation=VISIBLE)
    before = weights(module)
    with pytest.raises(RuntimeError, match="its LightningSGD is not wrapped: something replaced"):
        fit(module, Replacing())
    assert torch.equal(weights(module), before)


def test_mixin_refuses_to_step_a_bare_optimizer() -> None:
    module = Perturbed(perturbation=VISIBLE)
    with pytest.raises(RuntimeError, match=r"its SGD is not wrapped.*Remove that, or wrap"):
        module.optimizer_step(0, 0, sgd(module.parameters()), lambda: None)


def test_callback_raises_when_no_perturbed_tensor_had_a_gradient() -> None:
    class Unused(Finished):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.ones(8))

        def configure_optimizers(self) -> Any:
            return sgd([self.unused, *self.network.parameters()])

    first_only = Perturbation(coordinates=FirstOfModel())
    with pytest.raises(RuntimeError, match=r"due at 8 steps and was never applied.*Choose other"):
        fit(Unused(), PerturbationCallback(first_only))


def test_a_partly_frozen_model_is_perturbed_where_it_trains() -> None:
    module = Finished()
    module.network[0].requires_grad_(False)
    frozen = module.network[0].weight.clone()
    callback = PerturbationCallback(VISIBLE)
    fit(module, callback)
    assert torch.equal(module.network[0].weight, frozen)
    assert callback.optimizers[0].own_state.applied == 8


def test_a_strength_that_was_learned_to_be_zero_is_no_reason_to_raise() -> None:
    class HeldBack(Finished):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return sum(parameter.sum() for parameter in self.parameters())

    # The readout is -0.99 and more where |theta| < 0.005: less of it is better at every step.
    perturbation = Perturbation(TurnedSine(start=-1.57), AllEntries(), learning=Learning(0.3))
    callback = PerturbationCallback(perturbation)
    module = HeldBack(lambda parameters: torch.optim.SGD(parameters, lr=1e-6))
    for parameter in module.parameters():
        parameter.data.mul_(1e-3)
    fit(module, callback)
    state = callback.optimizers[0].own_state
    assert (state.due, state.applied) == (8, 4)  # factors 1, 0.7, 0.4, 0.1, 0
    assert state.learned is not None
    assert state.learned.factor == 0.0


def test_strength_zero_is_no_reason_to_raise() -> None:
    callback = PerturbationCallback(Perturbation(strength=0.0))
    fit(Finished(), callback)
    state = callback.optimizers[0].own_state
    assert (state.steps, state.due, state.applied) == (8, 0, 0)


@pytest.mark.parametrize("name", ["FSDPStrategy", "DeepSpeedStrategy"])
@pytest.mark.parametrize("module", [Finished, lambda: Perturbed(perturbation=VISIBLE)])
def test_strategies_that_flatten_parameters_are_refused(module: Any, name: str) -> None:
    strategy = type(name, (SingleDeviceStrategy,), {})(device=torch.device("cpu"))
    trainer = make_trainer(PerturbationCallback(VISIBLE), strategy=strategy)
    with pytest.raises(TypeError, match=rf"Cannot perturb under {name}.*Use DDPStrategy"):
        trainer.fit(module(), loader())


def test_a_subclass_of_a_flattening_strategy_is_refused_as_well() -> None:
    parent = type("FSDPStrategy", (SingleDeviceStrategy,), {})
    strategy = type("TunedStrategy", (parent,), {})(device=torch.device("cpu"))
    trainer = make_trainer(PerturbationCallback(VISIBLE), strategy=strategy)
    with pytest.raises(TypeError, match="Cannot perturb under FSDPStrategy"):
        trainer.fit(Finished(), loader())


def test_an_optimizer_without_learning_rate_is_refused_before_training() -> None:
    module = Finished(RateLess)
    before = weights(module)
    with pytest.raises(ValueError, match=r"group 0 has no `lr`.*Give UpdateInjection"):
        fit(module, PerturbationCallback(VISIBLE))
    assert torch.equal(weights(module), before)


def test_a_damaged_counter_in_a_checkpoint_is_refused(tmp_path: Any) -> None:
    trainer = make_trainer(PerturbationCallback(VISIBLE))
    trainer.fit(Finished(), loader())
    trainer.save_checkpoint(tmp_path / "good.ckpt")
    saved = torch.load(tmp_path / "good.ckpt", weights_only=True)
    (key,) = (key for key in saved["callbacks"] if "Perturbation" in key)
    saved["callbacks"][key]["optimizers"] = [{"steps": -1, "due": 0, "applied": 0}]
    torch.save(saved, tmp_path / "bad.ckpt")
    again = make_trainer(PerturbationCallback(VISIBLE), max_epochs=2)
    with pytest.raises(ValueError, match=r"`steps` is -1 instead of .*load an earlier one"):
        again.fit(Finished(), loader(), ckpt_path=tmp_path / "bad.ckpt")


class Anew(Finished):
    """Makes its optimizers anew in each epoch, to forget their momentum."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch:
            self.trainer.strategy.setup_optimizers(self.trainer)


class PerturbedAnew(PerturbationMixin, Anew):
    pass


def wrapped_sgd(parameters: Any) -> Any:
    return PerturbedOptimizer(sgd(parameters), VISIBLE)


def test_optimizers_that_are_made_anew_and_perturbed_alike_are_watched() -> None:
    for make in (
        lambda: (PerturbedAnew(perturbation=VISIBLE), []),
        lambda: (Anew(wrapped_sgd), [PerturbationCallback(VISIBLE)]),
    ):
        module, callbacks = make()
        trainer = make_trainer(*callbacks, max_epochs=3)
        trainer.fit(module, loader())
        (callback,) = (c for c in trainer.callbacks if isinstance(c, PerturbationCallback))
        assert callback.optimizers == trainer.strategy.optimizers
        state = callback.optimizers[0].own_state
        assert (state.steps, state.applied) == (8, 8)  # of the last epoch


def test_optimizers_that_are_made_anew_and_bare_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"no perturbed optimizer was stepped.*wrap the optim"):
        fit(Anew(), PerturbationCallback(VISIBLE), max_epochs=2)


def test_optimizers_that_are_made_anew_with_another_perturbation_are_refused() -> None:
    made = iter([VISIBLE, Perturbation(strength=0.1)])
    module = Anew(lambda parameters: PerturbedOptimizer(sgd(parameters), next(made)))
    with pytest.raises(ValueError, match=r"is perturbed already by .* was asked for as well"):
        fit(module, PerturbationCallback(VISIBLE), max_epochs=2)


class Renormalising(LightningModule):
    """Its embedding moves in the forward pass; the first epoch only accumulates gradients."""

    def __init__(self, max_norm: float | None) -> None:
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.table = nn.Embedding(4, 3, max_norm=max_norm)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        if self.current_epoch and batch_idx == 0:
            self.optimizers().step()  # type: ignore[union-attr]
        if not self.current_epoch and self.table.max_norm is None and batch_idx == 3:
            self.table.weight.data.mul_(0.9)
        self.manual_backward(self.table(torch.arange(4)).sum())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_an_embedding_that_renormalises_in_its_forward_pass_is_no_motion_past_the_wrapper() -> None:
    callback = PerturbationCallback(VISIBLE)
    fit(Renormalising(0.5), callback, max_epochs=2)
    assert callback.optimizers[0].own_state.applied == 1
    with pytest.raises(RuntimeError, match="moved in this epoch without a step"):
        fit(Renormalising(None), PerturbationCallback(VISIBLE), max_epochs=2)


class SwitchingOff(Callback):
    """Sets another perturbation on a callback, or on the module, in the second epoch."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch:
            self.target.perturbation = Perturbation(strength=0.0)


def test_a_perturbation_is_not_replaced_during_a_fit_but_between_fits() -> None:
    callback = PerturbationCallback(VISIBLE)
    with pytest.raises(RuntimeError, match=r"Cannot replace the perturbation during a fit.*Streng"):
        fit(Finished(), callback, SwitchingOff(callback), max_epochs=2)
    module = Perturbed(perturbation=VISIBLE)
    with pytest.raises(RuntimeError, match=r"Cannot replace the perturbation during a fit.*Streng"):
        fit(module, SwitchingOff(module), max_epochs=3)
    callback.perturbation = Perturbation(strength=0.0)
    bare = fit(Finished(), max_epochs=2)
    assert torch.equal(fit(Finished(), callback, max_epochs=2), bare)

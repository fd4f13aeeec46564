"""An unperturbed run that looks perturbed is the worst outcome: each way to one raises."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import nn

from lightning_qsgd.perturbations import AllEntries, FirstOfModel, Learning, Perturbation
from lightning_qsgd.training import PerturbationCallback
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

"""What moves parameters past the wrapper raises; what moves nothing, or is not ours, does not."""

import warnings
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from torch.optim import SGD

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training import (
    OptimizerModesCallback,
    PerturbationCallback,
    PerturbationMixin,
)
from tests.integration.modules import (
    VISIBLE,
    Finished,
    Perturbed,
    Probe,
    fit,
    loader,
    make_trainer,
    sgd,
    weights,
)

OFF = Perturbation(strength=0.0)


class TwoPhase(SGD):
    """Moves parameters by another method, through torch's own step or by hand."""

    by_hand = False

    def second_step(self) -> None:
        if not self.by_hand:
            super().step()
            return
        for parameter in self.param_groups[0]["params"]:
            parameter.data = parameter.data - 0.1 * parameter.grad


class Holding(SGD):
    """A two-phase optimizer around an inner one."""

    def __init__(self, params: Any) -> None:
        params = list(params)
        super().__init__(params, lr=0.1)
        self.base_optimizer = SGD(params, lr=0.1)

    def second_step(self) -> None:
        self.base_optimizer.step()


class Manual(Finished):
    """Manual optimization; `advance` takes the step."""

    def __init__(self, make: Any = sgd) -> None:
        super().__init__(make)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers = self.optimizers()
        every = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in every:
            optimizer.zero_grad()
        self.manual_backward(nn.functional.cross_entropy(self.network(batch[0]), batch[1]))
        self.advance(every, batch_idx)

    def advance(self, optimizers: list[Any], batch_idx: int) -> None:
        optimizers[0].step()


class SecondStep(Manual):
    def __init__(self, make: Any = lambda p: TwoPhase(p, lr=0.1)) -> None:
        super().__init__(make)

    def advance(self, optimizers: list[Any], batch_idx: int) -> None:
        optimizers[0].second_step()


class ByHand(SecondStep):
    def advance(self, optimizers: list[Any], batch_idx: int) -> None:
        optimizers[0].by_hand = True
        optimizers[0].second_step()


class Inner(SecondStep):
    def __init__(self) -> None:
        super().__init__(Holding)


class StepsBase(Manual):
    def advance(self, optimizers: list[Any], batch_idx: int) -> None:
        base = getattr(optimizers[0].optimizer, "base", optimizers[0])
        base.step() if batch_idx == 3 else optimizers[0].step()


class OneOfTwo(Manual):
    """Steps its first optimizer through the wrapper, the second by hand."""

    def configure_optimizers(self) -> Any:
        first, second = self.network[0], self.network[3]
        return [SGD(first.parameters(), lr=0.1), SGD(second.parameters(), lr=0.1)]

    def advance(self, optimizers: list[Any], batch_idx: int) -> None:
        optimizers[0].step()
        with torch.no_grad():
            for parameter in self.network[3].parameters():
                parameter -= 0.1 * parameter.grad


class OwnOptimizer(Manual):
    """Steps an optimizer that the trainer does not know."""

    def configure_optimizers(self) -> Any:
        self.own = sgd(self.parameters())
        return []

    def advance(self, optimizers: list[Any], batch_idx: int) -> None:
        self.own.step()
        self.own.zero_grad()


PAST = {
    "another method": (SecondStep, "moved in this epoch without a step|step.s. past its wrapper"),
    "another method, by hand": (ByHand, "Parameters of TwoPhase moved in this epoch without"),
    "an inner optimizer": (Inner, r"Holding, or an optimizer inside it, took 1 step\(s\) past"),
    "the base, once": (StepsBase, r"SGD, or an optimizer inside it, took 1 step\(s\) past"),
    "an optimizer of the module's own": (OwnOptimizer, "the trainer has no optimizer that could"),
}


@pytest.mark.parametrize("name", PAST)
def test_motion_past_the_wrapper_raises(name: str) -> None:
    module, message = PAST[name]
    with pytest.raises(RuntimeError, match=message):
        fit(module(), PerturbationCallback(VISIBLE))


@pytest.mark.parametrize("name", PAST)
def test_at_strength_zero_nothing_is_a_reason_to_raise(name: str) -> None:
    module, _ = PAST[name]
    assert torch.equal(fit(module(), PerturbationCallback(OFF)), fit(module()))


def test_mixed_use_raises_in_the_epoch_that_is_not_perturbed() -> None:
    class Later(ByHand):
        def advance(self, optimizers: list[Any], batch_idx: int) -> None:
            if self.current_epoch == 0:
                optimizers[0].step()
            else:
                super().advance(optimizers, batch_idx)

    fit(Later(), PerturbationCallback(VISIBLE))
    with pytest.raises(RuntimeError, match="moved in this epoch without a step of it"):
        fit(Later(), PerturbationCallback(VISIBLE), max_epochs=2)


class Turns(Manual):
    """Its two optimizers take turns, epoch by epoch; `waits` sets what waits for its turn."""

    def configure_optimizers(self) -> Any:
        self.first, self.second = self.network[0], nn.Linear(3, 3)
        return [SGD(net.parameters(), lr=0.1) for net in (self.network, self.second)]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()[self.current_epoch % 2]  # type: ignore[index]
        optimizer.zero_grad()
        logits = self.second(self.network(batch[0]))
        self.manual_backward(nn.functional.cross_entropy(logits, batch[1]))
        optimizer.step()

    @torch.no_grad()
    def set_idle(self) -> None:
        idle = (self.second, self.first)[self.current_epoch % 2]
        for parameter in idle.parameters():
            parameter.mul_(0.5)


class SetsBefore(Turns):
    """Sets what waits before the first batch of each epoch, as a head that starts anew."""

    def on_train_epoch_start(self) -> None:
        self.set_idle()


class SetsLater(Turns):
    """Sets what waits after each batch, as an average of another network."""

    def on_train_batch_end(self, *args: Any) -> None:
        self.set_idle()


class Initialises(Manual):
    """Sets its weights in an epoch without steps, before the first batch."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 0:
            with torch.no_grad():
                self.network[0].weight.mul_(0.5)

    def advance(self, optimizers: list[Any], batch_idx: int) -> None:
        if self.current_epoch > 0:
            optimizers[0].step()


def warned(module: Any, epochs: int) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(module, PerturbationCallback(VISIBLE), max_epochs=epochs)
    return [str(w.message) for w in caught if "moved in this epoch" in str(w.message)]


@pytest.mark.parametrize("module", [Turns, SetsBefore, Initialises])
def test_what_waits_for_its_turn_may_be_set_before_the_first_batch(module: Any) -> None:
    assert warned(module(), epochs=4) == []


@pytest.mark.parametrize("module", [SetsLater, OneOfTwo])
def test_motion_beside_perturbed_steps_is_warned_of_once_with_both_explanations(
    module: Any,
) -> None:
    (told,) = warned(module(), epochs=4)
    assert told.startswith("Parameters of SGD moved in this epoch without a step of it")
    assert "while another optimizer took perturbed steps" in told
    assert "a reset, a copy or an average of another network, nothing is wrong" in told
    assert "If it trains them, this run looks perturbed and is not: call `step` of" in told


class WithModes(SGD):
    """Moves its parameters when it is switched, as schedule-free optimizers do."""

    def eval(self) -> None:
        self.scale(0.9)

    def train(self) -> None:
        self.scale(1 / 0.9)

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.mul_(factor)


class StepsLater(Manual):
    def __init__(self) -> None:
        super().__init__(lambda p: WithModes(p, lr=0.1))

    def advance(self, optimizers: list[Any], batch_idx: int) -> None:
        if self.current_epoch == 1:
            optimizers[0].step()


def test_an_optimizer_that_is_switched_in_an_epoch_without_steps_is_no_motion_past() -> None:
    callback = PerturbationCallback(VISIBLE)
    trainer = make_trainer(callback, OptimizerModesCallback(), max_epochs=2)
    trainer.fit(StepsLater(), loader(), loader())
    assert callback.optimizers[0].own_state.applied == 8


def test_parameters_that_another_perturbed_optimizer_moves_are_no_motion_past() -> None:
    class Shared(Manual):
        def configure_optimizers(self) -> Any:
            return [sgd(self.parameters()), torch.optim.AdamW(self.parameters())]

    fit(Shared(), PerturbationCallback(VISIBLE))


def test_weights_that_are_swapped_or_clipped_are_no_motion_past() -> None:
    class Clipping(Manual):
        def on_train_batch_end(self, *args: Any) -> None:
            for parameter in self.parameters():
                parameter.data.clamp_(-0.3, 0.3)

        def advance(self, optimizers: list[Any], batch_idx: int) -> None:
            if batch_idx % 2:
                optimizers[0].step()

    fit(Clipping(), PerturbationCallback(VISIBLE))


@pytest.mark.parametrize("front_end", ["callback", "mixin"])
def test_an_overflow_at_the_first_step_is_no_reason_to_raise(front_end: str) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)  # the first steps overflow
    callback = PerturbationCallback(VISIBLE)
    own = Perturbed(perturbation=VISIBLE) if front_end == "mixin" else Finished()
    callbacks = [] if front_end == "mixin" else [callback]
    trainer = make_trainer(*callbacks, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    trainer.fit(own, loader())
    assert scaler.get_scale() < 2.0**120


@pytest.mark.parametrize("perturbation", [VISIBLE, OFF])
def test_a_fit_whose_steps_return_none_ends_as_without_the_callback(
    perturbation: Perturbation,
) -> None:
    class Silent(Finished):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            return None

    before = weights(Silent())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert torch.equal(fit(Silent(), PerturbationCallback(perturbation)), before)
    told = [w for w in caught if "Nothing was perturbed in this fit" in str(w.message)]
    assert len(told) == (perturbation is VISIBLE)


def test_first_batches_without_a_loss_are_no_reason_to_raise() -> None:
    class Late(Finished):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) if batch_idx > 3 else None

    callback = PerturbationCallback(VISIBLE)
    fit(Late(), callback)
    assert callback.optimizers[0].own_state.applied == 4


def test_a_hand_written_optimizer_under_manual_optimization_is_perturbed() -> None:
    class HandWritten(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.1})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(parameter.grad, alpha=-group["lr"])

    perturbed = fit(Manual(HandWritten), PerturbationCallback(VISIBLE))
    plain = fit(Manual(lambda p: SGD(p, lr=0.1)), PerturbationCallback(VISIBLE))
    assert torch.equal(perturbed, plain)


class TestMixin:
    """The mixin wraps the optimizers of its own module, and of no other."""

    def test_named_last_it_is_refused_when_the_class_is_made(self) -> None:
        message = "names PerturbationMixin after LightningModule.*Name the mixin first"
        with pytest.raises(TypeError, match=message):
            type("Last", (Finished, PerturbationMixin), {})
        with pytest.raises(TypeError, match=message):
            type("Last", (LightningModule, PerturbationMixin), {})

    def test_a_module_between_it_and_the_class_is_wrapped_as_well(self) -> None:
        class Other(Finished):
            def configure_optimizers(self) -> Any:
                return torch.optim.AdamW(self.parameters())

        class Diamond(Other, Perturbed):
            pass

        configured = Diamond().configure_optimizers()
        assert isinstance(configured, PerturbedOptimizer)
        assert isinstance(configured.base, torch.optim.AdamW)

    def test_its_callback_leaves_the_next_plain_module_alone(self) -> None:
        trainer = make_trainer()
        trainer.fit(Perturbed(perturbation=VISIBLE), loader())
        trainer.fit_loop.max_epochs = 2
        plain, probe = Finished(), Probe()
        trainer.callbacks.append(probe)  # type: ignore[attr-defined]
        trainer.fit(plain, loader())
        assert probe.applied == [0]
        assert torch.equal(weights(plain), fit(Finished()))
        assert plain.trainer.checkpoint_callback is None

    def test_another_mixin_module_may_follow_in_the_same_trainer(self) -> None:
        trainer = make_trainer()
        trainer.fit(Perturbed(perturbation=VISIBLE), loader())
        trainer.fit_loop.max_epochs = 2
        second = Perturbed(perturbation=Perturbation(strength=0.1))
        trainer.fit(second, loader())
        assert torch.equal(weights(second), fit(Perturbed(perturbation=Perturbation(strength=0.1))))

    def test_a_module_that_keeps_optimizer_and_scheduler_is_fitted_twice(self) -> None:
        class Keeping(PerturbationMixin, Finished):
            def __init__(self) -> None:
                super().__init__(perturbation=VISIBLE)
                self.optimizer = sgd(self.parameters())
                self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1)

            def configure_optimizers(self) -> Any:
                return [self.optimizer], [self.scheduler]

        module, probe = Keeping(), Probe()
        fit(module)
        assert self.rate(module) == pytest.approx(0.01)
        fit(module, probe)
        assert probe.applied == [8]
        assert probe.optimizers[0] is probe.scheduled[0]
        assert self.rate(module) == pytest.approx(0.001)

    @staticmethod
    def rate(module: Any) -> Any:
        return module.optimizer.param_groups[0]["lr"]

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*TorchScript.*")
    def test_its_module_compiles_to_torchscript(self) -> None:
        class Scripted(Perturbed):
            __jit_ignored_attributes__ = ["make"]  # noqa: RUF012

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.network(x)  # type: ignore[no-any-return]

        module = Scripted(perturbation=VISIBLE).eval()
        assert Scripted.__jit_ignored_attributes__ == ["make", "perturbation"]
        scripted = module.to_torchscript()
        x = torch.ones(2, 4)
        assert torch.equal(scripted(x), module(x))  # type: ignore[operator]

"""Whatever the Trainer does around a step, the perturbation sees the gradient that is applied."""

from itertools import pairwise
from math import pi
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loops.optimization.automatic import Closure
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.tuner import Tuner
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lightning_qsgd.training import PerturbationCallback, PerturbationMixin
from tests.integration.modules import (
    BATCHES,
    VISIBLE,
    Finished,
    Perturbed,
    Probe,
    fit,
    loader,
    make_network,
    make_trainer,
    sgd,
    weights,
)

CLIP = {"gradient_clip_val": 0.05}
CLIP_VALUE = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}
ACCUMULATE = {"accumulate_grad_batches": 3}


def by_hand(
    gradient_clip_val: float = 0.0,
    gradient_clip_algorithm: str = "norm",
    accumulate_grad_batches: int = 1,
) -> Tensor:
    """Eq. 1 and 2 around a bare optimizer, without anything of the package."""
    network, batches = make_network(), list(loader())
    base = sgd(network.parameters())
    clip = nn.utils.clip_grad_norm_ if gradient_clip_algorithm == "norm" else _clip_values
    for number, (x, y) in enumerate(batches, start=1):
        (nn.functional.cross_entropy(network(x), y) / accumulate_grad_batches).backward()
        if number % accumulate_grad_batches and number < len(batches):
            continue
        if gradient_clip_val:
            clip(network.parameters(), gradient_clip_val)
        theta = [p.detach().clone() for p in network.parameters()]
        gradient = [p.grad.clone() for p in network.parameters()]
        base.step()
        with torch.no_grad():
            for p, t, g in zip(network.parameters(), theta, gradient, strict=True):
                p -= 0.1 * 0.5 * torch.sin(pi * t) * g
        base.zero_grad()
    return weights(network)


def _clip_values(parameters: Any, limit: float) -> None:
    nn.utils.clip_grad_value_(parameters, limit)


@pytest.mark.parametrize("front_end", ["mixin", "callback"])
@pytest.mark.parametrize(
    ("settings", "applied"),
    [
        ({}, 8),
        (CLIP, 8),
        (CLIP_VALUE, 8),
        (ACCUMULATE, 3),
        (CLIP | ACCUMULATE, 3),
        (CLIP_VALUE | ACCUMULATE, 3),
    ],
    ids=["plain", "norm", "value", "accumulation", "norm, accumulation", "value, accumulation"],
)
def test_clipping_and_accumulation_agree_with_a_loop_by_hand(
    settings: dict[str, Any], applied: int, front_end: str
) -> None:
    probe = Probe()
    if front_end == "mixin":
        trained = fit(Perturbed(perturbation=VISIBLE), probe, **settings)
    else:
        trained = fit(Finished(), PerturbationCallback(VISIBLE), probe, **settings)
    torch.testing.assert_close(trained, by_hand(**settings), rtol=0, atol=1e-7)
    assert probe.applied == [applied]
    assert (trained - fit(Finished(), **settings)).abs().max() > 1e-4


def test_accumulation_that_changes_between_epochs_counts_optimizer_steps() -> None:
    probe, schedule = Probe(), GradientAccumulationScheduler({0: 1, 1: 4})
    trainer = make_trainer(PerturbationCallback(VISIBLE), probe, schedule, max_epochs=2)
    trainer.fit(Finished(), loader())
    assert probe.applied == [8 + 2]
    assert trainer.global_step == 10


@pytest.mark.filterwarnings("ignore:Swapping scheduler")
def test_weight_averaging_averages_the_perturbed_weights() -> None:
    class Recorder(Probe):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Tensor] = []

        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            self.seen.append(weights(module))

    def averaged(*callbacks: Any) -> tuple[Tensor, Recorder]:
        recorder = Recorder()
        swa = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1, annealing_epochs=1)
        return fit(Finished(), *callbacks, recorder, swa, max_epochs=3), recorder

    trained, recorder = averaged(PerturbationCallback(VISIBLE))
    assert recorder.applied == [3 * BATCHES]
    torch.testing.assert_close(
        trained, torch.stack(recorder.seen[2:]).mean(0), rtol=0, atol=1.0
    )  # the exact mean is Lightning's business
    assert (trained - averaged()[0]).abs().max() > 1e-4


class Tunable:
    """What the tuner asks of a module."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lr = 0.1
        self.batch_size = 2
        self.make = lambda parameters: torch.optim.SGD(parameters, lr=self.lr)

    def train_dataloader(self) -> Any:
        return loader(size=self.batch_size)

    def val_dataloader(self) -> Any:
        return loader(count=1)


class TunableFinished(Tunable, Finished):
    pass


class TunablePerturbed(Tunable, Perturbed):
    pass


FRONT_ENDS = {
    "mixin": lambda: (TunablePerturbed(perturbation=VISIBLE), []),
    "callback": lambda: (TunableFinished(), [PerturbationCallback(VISIBLE)]),
}


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_fit_after_a_learning_rate_search_is_perturbed_at_every_step(
    front_end: Any, tmp_path: Any
) -> None:
    module, callbacks = front_end()
    probe = Probe()
    trainer = make_trainer(*callbacks, probe, default_root_dir=tmp_path)
    before = weights(module)
    Tuner(trainer).lr_find(module, num_training=20, min_lr=1e-3, max_lr=1e-1)
    assert torch.equal(weights(module), before)
    module.lr = 0.1
    trainer.fit(module)
    assert probe.applied == [BATCHES]
    plain, plain_callbacks = front_end()
    assert torch.equal(weights(module), _fit_own_data(plain, *plain_callbacks))


@pytest.mark.parametrize("callback_first", [True, False])
def test_learning_rate_finder_as_a_callback_leaves_the_fit_perturbed(
    callback_first: bool, tmp_path: Any
) -> None:
    probe = Probe()
    finder = LearningRateFinder(min_lr=1e-3, max_lr=1e-1, num_training_steps=20)
    callbacks = [PerturbationCallback(VISIBLE), finder, probe]
    if not callback_first:
        callbacks = [finder, PerturbationCallback(VISIBLE), probe]
    trainer = make_trainer(*callbacks, default_root_dir=tmp_path)
    trainer.fit(TunableFinished())
    assert probe.applied == [BATCHES]


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_batch_size_finder_leaves_the_fit_perturbed(front_end: Any, tmp_path: Any) -> None:
    module, callbacks = front_end()
    probe, finder = Probe(), BatchSizeFinder(max_trials=2, steps_per_trial=1)
    trainer = make_trainer(*callbacks, finder, probe, default_root_dir=tmp_path)
    trainer.fit(module)
    assert module.batch_size == 4
    assert probe.applied == [BATCHES]


def _fit_own_data(module: Any, *callbacks: Any) -> Tensor:
    make_trainer(*callbacks).fit(module)
    return weights(module)


@pytest.mark.parametrize("module", [Finished, lambda: Perturbed(perturbation=VISIBLE)])
def test_validation_and_test_change_nothing(module: Any) -> None:
    built = module()
    trainer = make_trainer(PerturbationCallback(VISIBLE))
    before = weights(built)
    trainer.validate(built, loader(), verbose=False)
    trainer.test(built, loader(), verbose=False)
    assert torch.equal(weights(built), before)


@pytest.mark.filterwarnings("ignore:.*training_dataloader.*shuffling enabled")
@pytest.mark.parametrize(
    ("settings", "applied"),
    [
        ({"fast_dev_run": True}, 1),
        ({"fast_dev_run": 3}, 3),
        ({"overfit_batches": 2, "max_epochs": 2}, 4),
        ({"limit_train_batches": 5}, 5),
        ({"max_steps": 11, "max_epochs": -1}, 11),
        ({"max_epochs": 0}, 0),
        ({"detect_anomaly": True}, 8),
        ({"deterministic": True}, 8),
        ({"limit_train_batches": 0}, 0),
    ],
    ids=lambda value: str(value),
)
def test_applied_equals_the_steps_taken(settings: dict[str, Any], applied: int) -> None:
    probe = Probe()
    for callbacks, module in (
        ([PerturbationCallback(VISIBLE)], Finished()),
        ([], Perturbed(perturbation=VISIBLE)),
    ):
        fit(module, *callbacks, probe, **settings)
        assert sum(probe.applied) == applied


def test_lbfgs_is_perturbed_once_per_step_from_its_first_evaluation() -> None:
    def lbfgs(parameters: Any) -> Any:
        return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)

    class Double(Finished):  # its search magnifies what float32 rounds, as each processor does
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    probe = Probe()
    trained = fit(Double(lbfgs), PerturbationCallback(VISIBLE), probe, precision="64-true")
    assert probe.applied == [BATCHES]

    network = make_network().double()
    base = lbfgs(network.parameters())
    for x, y in loader():
        theta, gradient = [], []

        def closure(x: Tensor = x, y: Tensor = y, seen: Any = (theta, gradient)) -> Tensor:
            base.zero_grad()
            loss = nn.functional.cross_entropy(network(x.double()), y)
            loss.backward()
            if not seen[0]:
                seen[0].extend(p.detach().clone() for p in network.parameters())
                seen[1].extend(p.grad.clone() for p in network.parameters())
            return loss

        base.step(closure)
        with torch.no_grad():
            for p, t, g in zip(network.parameters(), theta, gradient, strict=True):
                p -= 0.1 * 0.5 * torch.sin(pi * t) * g
    torch.testing.assert_close(trained, weights(network), rtol=0, atol=1e-12)
    assert (trained - fit(Double(lbfgs), precision="64-true")).abs().max() > 1e-4


def test_a_training_step_that_returns_nothing_skips_its_batch() -> None:
    class Skipping(Finished):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx == 2 else super().training_step(batch, batch_idx)

    module, probe = Skipping(sgd), Probe()
    Closure.warning_cache.clear()  # Lightning says it once per process
    with pytest.warns(UserWarning, match="`training_step` returned `None`"):
        trained = fit(module, PerturbationCallback(VISIBLE), probe)
    assert torch.isfinite(trained).all()
    assert probe.applied[0] in (BATCHES - 1, BATCHES)


def test_a_warm_up_of_lightning_and_of_the_strength_run_side_by_side() -> None:
    probe = Probe()

    class Scheduled(Finished):
        def configure_optimizers(self) -> Any:
            optimizer = sgd(self.parameters())
            warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4)
            return [optimizer], [{"scheduler": warm_up, "interval": "step"}]

    fit(Scheduled(), PerturbationCallback(VISIBLE), probe)
    assert probe.lrs[:1] == pytest.approx([0.0325])
    assert all(a <= b for a, b in pairwise(probe.lrs))


class Asked(Finished):
    """Tells whether the trainer's optimizer is of the base's class."""

    def on_train_start(self) -> None:
        self.of_class = isinstance(self.optimizers(), torch.optim.SGD)


class AskedMixed(PerturbationMixin, Asked):
    pass


def asked(front_end: str) -> tuple[Any, list[Any]]:
    callbacks = [PerturbationCallback(VISIBLE)] if front_end == "callback" else []
    return (AskedMixed(perturbation=VISIBLE) if front_end == "mixin" else Asked()), callbacks


@pytest.mark.parametrize("front_end", ["none", "callback", "mixin"])
def test_programs_that_choose_by_class_see_the_class_of_the_base(
    front_end: str, tmp_path: Any
) -> None:
    module, callbacks = asked(front_end)
    monitor = LearningRateMonitor()
    stopping = EarlyStopping("lr-SGD", patience=100, check_on_train_epoch_end=True)
    settings = {"logger": CSVLogger(tmp_path), "log_every_n_steps": 1}
    fit(module, monitor, stopping, *callbacks, **settings)
    assert list(monitor.lrs) == ["lr-SGD"]
    assert module.of_class


@pytest.mark.parametrize("front_end", ["none", "callback", "mixin"])
def test_lbfgs_under_a_gradient_scaler_is_refused_by_lightning(front_end: str) -> None:
    module, callbacks = asked(front_end)
    module.make = torch.optim.LBFGS
    scaler = torch.amp.GradScaler("cpu")
    plugins = [MixedPrecision("16-mixed", "cpu", scaler)]
    with pytest.raises(MisconfigurationException, match="LBFGS optimizer are not compatible"):
        fit(module, *callbacks, plugins=plugins)

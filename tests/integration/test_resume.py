"""A run that was interrupted at an epoch end and resumed equals the uninterrupted one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BackboneFinetuning, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.data import DigitsDataModule
from lightning_qsgd.nn import MLP
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    CyclicEntries,
    Learning,
    Perturbation,
    RandomEntries,
    RelativeInjection,
    Strength,
)
from lightning_qsgd.training import (
    Classifier,
    ConvergenceCallback,
    PerturbationCallback,
    PerturbationMixin,
    RandomStateCallback,
)
from tests.integration.modules import QUIET, PerturbedClassifier, weights
from tests.learning_cases import Noisy as NoisyReadout

pytestmark = [
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]
SHOTS = Perturbation(SamplerBackend(SuperpositionCircuit(2), sampling=16), RandomEntries(), seed=2)
PERTURBATIONS = {
    "shots": SHOTS,
    "warm-up": Perturbation(coordinates=AllEntries(), strength=Strength(0.5, warmup_steps=10)),
    "relative": Perturbation(coordinates=AllEntries(), injection=RelativeInjection()),
    "learned": Perturbation(NoisyReadout(), CyclicEntries(), learning=Learning(0.05, 0.3)),
}


class Noisy(nn.Sequential):
    """A perceptron with dropout, which draws from torch's global generator."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        super().__init__(nn.Flatten(), nn.Dropout(0.3), MLP(in_features=64, num_classes=10))


def run(
    folder: Path,
    perturbation: Perturbation | None,
    max_epochs: int = 2,
    ckpt: Path | None = None,
    mixin: bool = False,
    random_state: bool = True,
) -> tuple[Tensor, ConvergenceCallback, list[PerturbationCallback]]:
    """Train on 6 batches of digits per epoch and keep every epoch's checkpoint in the folder."""
    record = ConvergenceCallback()
    callbacks: list[Any] = [record, ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)]
    callbacks += [RandomStateCallback()] if random_state else []
    network, attached = Noisy(), []
    if mixin:
        module: Any = PerturbedClassifier(network, perturbation=perturbation)
    else:
        module = Classifier(network)
        attached = [PerturbationCallback(perturbation)] if perturbation else []
    torch.manual_seed(5)
    trainer = Trainer(
        **{**QUIET, "enable_checkpointing": True},
        max_epochs=max_epochs,
        limit_train_batches=6,
        limit_val_batches=2,
        callbacks=[*attached, *callbacks],
    )
    trainer.fit(module, datamodule=DigitsDataModule(order_seed=0), ckpt_path=ckpt)
    return weights(module), record, attached


def points(record: ConvergenceCallback) -> dict[str, Any]:
    """Everything that was recorded, except the seconds."""
    curves = record.run.curves.items()
    return {tag: (curve.steps, curve.epochs, curve.values) for tag, curve in curves}


@pytest.mark.parametrize("mixin", [False, True], ids=["callback", "mixin"])
@pytest.mark.parametrize("perturbation", PERTURBATIONS.values(), ids=PERTURBATIONS)
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    perturbation: Perturbation, mixin: bool, tmp_path: Path
) -> None:
    whole, record, _ = run(tmp_path / "whole", perturbation, mixin=mixin)
    run(tmp_path / "part", perturbation, max_epochs=1, mixin=mixin)
    ckpt = tmp_path / "part" / "epoch=0.ckpt"
    torch.rand(17)  # another process would stand elsewhere
    resumed, resumed_record, _ = run(tmp_path / "rest", perturbation, ckpt=ckpt, mixin=mixin)
    assert torch.equal(resumed, whole)
    assert points(resumed_record) == points(record)
    assert points(record)["train/loss"][0] == [float(step) for step in range(1, 13)]
    assert points(record)["val/accuracy"][:2] == ([6.0, 12.0], [1.0, 2.0])


class SelfPerturbed(Classifier):
    """Wraps its optimizer by itself, so that its checkpoints hold no callback's state."""

    def configure_optimizers(self) -> Any:
        return PerturbedOptimizer(super().configure_optimizers(), SHOTS)


def train_front_end(name: str, folder: Path, max_epochs: int, ckpt: Path | None = None) -> Tensor:
    """Train one of three front ends, without any other stateful callback."""
    callbacks: list[Any] = [ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)]
    torch.manual_seed(3)
    module: Any
    match name:
        case "mixin":
            module = PerturbedClassifier(MLP(), perturbation=SHOTS)
        case "optimizer":
            module = SelfPerturbed(MLP())
        case "callback":
            module = Classifier(MLP())
            callbacks.append(PerturbationCallback(SHOTS))
    settings = {**QUIET, "enable_checkpointing": True, "limit_train_batches": 6}
    trainer = Trainer(**settings, limit_val_batches=0, max_epochs=max_epochs, callbacks=callbacks)
    trainer.fit(module, datamodule=DigitsDataModule(order_seed=0), ckpt_path=ckpt)
    return weights(module)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to")
@pytest.mark.parametrize(
    ("saved", "resumed"),
    [("optimizer", "callback"), ("optimizer", "mixin"), ("callback", "optimizer")],
)
def test_checkpoints_are_exchangeable_between_front_ends(
    saved: str, resumed: str, tmp_path: Path
) -> None:
    whole = train_front_end("optimizer", tmp_path / "whole", max_epochs=2)
    train_front_end(saved, tmp_path, max_epochs=1)
    rest = train_front_end(resumed, tmp_path / "rest", 2, tmp_path / "epoch=0.ckpt")
    assert torch.equal(rest, whole)


def test_without_the_random_state_dropout_differs_after_a_resume(tmp_path: Path) -> None:
    whole, *_ = run(tmp_path / "whole", SHOTS, random_state=False)
    run(tmp_path / "part", SHOTS, max_epochs=1, random_state=False)
    ckpt = tmp_path / "part" / "epoch=0.ckpt"
    assert not torch.equal(run(tmp_path / "rest", SHOTS, ckpt=ckpt, random_state=False)[0], whole)


def test_counters_go_on_where_the_checkpoint_left_them(tmp_path: Path) -> None:
    run(tmp_path, SHOTS, max_epochs=1)
    *_, (callback,) = run(tmp_path, SHOTS, ckpt=tmp_path / "epoch=0.ckpt")
    state = callback.optimizers[0].own_state
    assert (state.steps, state.due, state.applied) == (12, 12, 12)


def test_what_was_learned_goes_on_where_the_checkpoint_left_it(tmp_path: Path) -> None:
    learned = PERTURBATIONS["learned"]
    *_, (whole,) = run(tmp_path / "whole", learned)
    *_, (part,) = run(tmp_path, learned, max_epochs=1)
    *_, (callback,) = run(tmp_path / "rest", learned, ckpt=tmp_path / "epoch=0.ckpt")
    factors = []
    for attached in (whole, part, callback):
        state = attached.optimizers[0].own_state.learned
        assert state is not None
        factors.append(state.factor)
    assert factors[0] == factors[2] != factors[1]
    assert 1.0 not in factors


def test_plain_checkpoint_is_resumed_perturbed(tmp_path: Path) -> None:
    run(tmp_path, None, max_epochs=1)
    plain, *_ = run(tmp_path / "plain", None, ckpt=tmp_path / "epoch=0.ckpt")
    resumed, _, (callback,) = run(tmp_path / "rest", SHOTS, ckpt=tmp_path / "epoch=0.ckpt")
    assert callback.optimizers[0].own_state.applied == 6
    assert not torch.equal(resumed, plain)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to")
def test_perturbed_checkpoint_is_resumed_plain(tmp_path: Path) -> None:
    run(tmp_path, SHOTS, max_epochs=1)
    ckpt = tmp_path / "epoch=0.ckpt"
    resumed, *_ = run(tmp_path / "rest", None, ckpt=ckpt)
    stripped = torch.load(ckpt, weights_only=True)
    for state in stripped["optimizer_states"]:
        own = state.pop("quantum_perturbation")
        assert [own[name] for name in ("steps", "due", "applied")] == [6, 6, 6]
    torch.save(stripped, tmp_path / "stripped.ckpt")
    assert torch.equal(resumed, run(tmp_path / "x", None, ckpt=tmp_path / "stripped.ckpt")[0])


def test_checkpoint_holds_tensors_and_plain_values_only(tmp_path: Path) -> None:
    run(tmp_path, SHOTS, max_epochs=1)
    saved = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)
    assert {"PerturbationCallback", "RandomStateCallback", "ConvergenceCallback"} <= {
        key.split("{")[0] for key in saved["callbacks"]
    }


def test_hyperparameters_are_saved_without_the_perturbation(tmp_path: Path) -> None:
    class Explicit(PerturbationMixin, Classifier):
        def __init__(self, network: nn.Module, perturbation: Perturbation | None = None) -> None:
            super().__init__(network, learning_rate=0.5, perturbation=perturbation)
            self.save_hyperparameters(ignore="network")

    module = Explicit(Noisy(), perturbation=SHOTS)
    assert dict(module.hparams) == {"num_classes": 10, "learning_rate": 0.5}
    assert module.perturbation is SHOTS


def test_mixin_reloads_with_a_perturbation_given_again(tmp_path: Path) -> None:
    trained, *_ = run(tmp_path, SHOTS, max_epochs=1, mixin=True)
    loaded = PerturbedClassifier.load_from_checkpoint(
        tmp_path / "epoch=0.ckpt", network=Noisy(), perturbation=SHOTS, weights_only=True
    )
    assert loaded.perturbation is SHOTS
    assert loaded.hparams["learning_rate"] == 1e-3
    assert torch.equal(weights(loaded), trained)


def reloaded(folder: Path, kind: type[Any] = PerturbedClassifier, **given: Any) -> Any:
    return kind.load_from_checkpoint(
        folder / "epoch=0.ckpt", network=Noisy(), weights_only=True, **given
    )


@pytest.mark.parametrize("strength", [0.0, 0.3, np.float64(0.3)])
def test_a_mixin_that_reloads_without_its_perturbation_is_warned_of(
    strength: float, tmp_path: Path
) -> None:
    trained, *_ = run(tmp_path, Perturbation(strength=strength), max_epochs=1, mixin=True)
    said = (
        rf"PerturbedClassifier was saved with another .*\(strength {strength}, not 0\.5\): .*Give"
    )
    with pytest.warns(UserWarning, match=said):
        loaded = reloaded(tmp_path)
    assert torch.equal(weights(loaded), trained)
    assert reloaded(tmp_path, perturbation=Perturbation(strength=0.3 if strength else 0.0))


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to")
def test_a_resumed_mixin_is_warned_of_another_perturbation_and_one_that_is_measured_is_not(
    tmp_path: Path,
) -> None:
    run(tmp_path, SHOTS, max_epochs=1, mixin=True)
    saved = tmp_path / "epoch=0.ckpt"
    with pytest.warns(UserWarning, match="saved with another perturbation.*coordinates.*seed 2, n"):
        run(tmp_path / "next", Perturbation(strength=0.5), ckpt=saved, mixin=True)
    module = PerturbedClassifier(Noisy())
    Trainer(**QUIET).validate(module, datamodule=DigitsDataModule(order_seed=0), ckpt_path=saved)


class KeepsMore(PerturbedClassifier):
    """Overrides both methods, and calls its parent's in one of them."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["more"] = 1

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert checkpoint["more"] == 1
        super().on_load_checkpoint(checkpoint)


def test_a_module_that_adds_to_its_checkpoints_is_warned_of_once(tmp_path: Path) -> None:
    trainer = Trainer(**QUIET, max_steps=1)
    trainer.fit(KeepsMore(Noisy()), datamodule=DigitsDataModule(order_seed=0))
    trainer.lightning_module.perturbation = Perturbation(strength=0.1)
    trainer.save_checkpoint(tmp_path / "epoch=0.ckpt")
    with pytest.warns(UserWarning, match="KeepsMore was saved with another") as told:
        reloaded(tmp_path, KeepsMore)
    assert len(told) == 1


def test_state_of_a_resume_does_not_leak_into_a_later_fit(tmp_path: Path) -> None:
    run(tmp_path, SHOTS, max_epochs=1)
    *_, (callback,) = run(tmp_path, SHOTS, ckpt=tmp_path / "epoch=0.ckpt")
    module = Classifier(Noisy())
    trainer = Trainer(**QUIET, max_epochs=1, limit_train_batches=4, callbacks=[callback])
    trainer.fit(module, datamodule=DigitsDataModule(order_seed=0))
    assert callback.optimizers[0].own_state.steps == 4


def test_what_a_validation_restores_does_not_leak_into_a_later_fit(tmp_path: Path) -> None:
    perturb, record = PerturbationCallback(SHOTS), ConvergenceCallback()
    saved = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    quiet = {**QUIET, "enable_checkpointing": True, "max_epochs": 2, "limit_train_batches": 4}
    trainer = Trainer(**quiet, callbacks=[perturb, record, saved])
    data = DigitsDataModule(order_seed=0)
    trainer.fit(Classifier(Noisy()), datamodule=data)
    whole = points(record)

    trainer.validate(Classifier(Noisy()), datamodule=data, ckpt_path=tmp_path / "epoch=0.ckpt")

    assert points(record) == whole
    again = Trainer(**quiet, callbacks=[perturb, record], default_root_dir=tmp_path / "again")
    again.fit(Classifier(Noisy()), datamodule=data)
    assert perturb.optimizers[0].own_state.steps == 8
    assert record.run.final["val/accuracy"] == float(again.callback_metrics["val/accuracy"])
    assert len(record.run.curve("train/loss").steps) == 8


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("finetunes", [False, True])
def test_a_checkpoint_of_bare_optimizers_resumes_what_was_learned(
    tmp_path: Path, finetunes: bool
) -> None:
    """Saved after the fit, when the callback has unwrapped; groups may come back late."""

    def fitted(max_epochs: int, checkpoint: Path | None) -> tuple[Trainer, PerturbationCallback]:
        torch.manual_seed(0)
        module = Backboned()
        callback = PerturbationCallback(Perturbation(learning=Learning(0.05)))
        late = [BackboneFinetuning(unfreeze_backbone_at_epoch=1)] if finetunes else []
        trainer = Trainer(
            max_epochs=max_epochs,
            callbacks=[callback, *late],
            **QUIET,
        )
        data = DataLoader(TensorDataset(torch.linspace(-1, 1, 32).view(8, 4)), batch_size=4)
        trainer.fit(module, data, ckpt_path=checkpoint)
        return trainer, callback

    whole, _ = fitted(4, None)
    first, _ = fitted(2, None)
    first.save_checkpoint(tmp_path / "after.ckpt")
    resumed, callback = fitted(4, tmp_path / "after.ckpt")
    assert callback.optimizers[0].own_state.steps == 8
    if not finetunes:  # Lightning does not restore the learning rate that the backbone had
        assert torch.equal(weights(resumed.lightning_module), weights(whole.lightning_module))


class Backboned(LightningModule):
    """A backbone and a head on four inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.head(self.backbone(batch[0])).square().mean()

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(trained, lr=0.01)

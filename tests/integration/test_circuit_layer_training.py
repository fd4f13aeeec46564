"""A circuit as a layer of a LightningModule: trained, saved, and copied into other processes."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.nn import CircuitLayer


class CircuitClassifier(LightningModule):
    """Tells the sign of a product: a linear layer alone cannot."""

    def __init__(self, engine: str = "auto") -> None:
        super().__init__()
        torch.manual_seed(0)
        circuit = CircuitLayer(SuperpositionCircuit(2, reps=1), engine=engine)  # type: ignore[arg-type]
        self.network = nn.Sequential(nn.Linear(2, 2), circuit, nn.Linear(4, 2))
        self.losses: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, labels = batch
        loss = nn.functional.cross_entropy(self.network(inputs), labels)
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


def loader() -> DataLoader[tuple[Tensor, ...]]:
    inputs = torch.rand(64, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return DataLoader(TensorDataset(inputs, (inputs.prod(1) > 0).long()), batch_size=16)


def trainer(**settings: object) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,  # type: ignore[arg-type]
    )


def test_a_network_with_a_circuit_learns() -> None:
    model = CircuitClassifier()
    before = model.network[1].weight.detach().clone()
    trainer(max_epochs=15).fit(model, loader())
    assert sum(model.losses[-4:]) < 0.8 * sum(model.losses[:4])
    assert not torch.equal(before, model.network[1].weight)


def test_both_engines_train_the_same_network() -> None:
    compiled, sampled = CircuitClassifier("compiled"), CircuitClassifier("sampler")
    for model in (compiled, sampled):
        trainer(max_steps=2).fit(model, loader())
    for ours, reference in zip(compiled.parameters(), sampled.parameters(), strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-5)


def test_checkpoint_brings_the_circuit_weights_back(tmp_path: Path) -> None:
    model = CircuitClassifier()
    run = trainer(max_steps=3)
    run.fit(model, loader())
    run.save_checkpoint(tmp_path / "model.ckpt")
    loaded = CircuitClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    inputs = torch.rand(3, 2)
    assert torch.equal(loaded.network(inputs.clone()), model.network(inputs.clone()))


@pytest.mark.parametrize("engine", ["compiled", "sampler"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_layer_trains_in_spawned_processes(engine: str) -> None:
    alone, spawned = CircuitClassifier(engine), CircuitClassifier(engine)
    trainer(max_steps=1).fit(alone, loader())
    trainer(max_steps=1, strategy="ddp_spawn", devices=2, use_distributed_sampler=False).fit(
        spawned, loader()
    )
    # Both processes see the same batch, so their mean gradient is that of a single process.
    for ours, reference in zip(spawned.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-6)

import csv
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_qsgd.data import DigitsDataModule, SequencesDataModule
from lightning_qsgd.nn import MLP, SmallCNN, TransformerClassifier
from lightning_qsgd.training.classifier import Classifier

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    # LightningCLI itself still calls jsonargparse by its older names.
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
PAIRS = [
    (MLP, DigitsDataModule),
    (SmallCNN, DigitsDataModule),
    (TransformerClassifier, SequencesDataModule),
]


class Fixed(nn.Module):
    """Return x itself as logits, so that every metric can be worked out by hand."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + 0 * self.unused


def uneven_batches():
    """Two batches, of 3 and 1 examples; 2 of 4 are right, the shares per class differ."""
    x = torch.tensor([[2.0, 0, 0], [2.0, 0, 0], [2.0, 0, 0], [0, 3.0, 0]])
    y = torch.tensor([0, 0, 1, 0])
    return DataLoader(TensorDataset(x, y), batch_size=3), x, y


@pytest.mark.parametrize(("network", "data_module"), PAIRS)
def test_fast_dev_run_fits_validates_tests_and_predicts(network, data_module, tmp_path):
    data = data_module(order_seed=0)
    classifier = Classifier(network(), num_classes=data_module.num_classes)
    trainer = Trainer(fast_dev_run=True, default_root_dir=tmp_path, **QUIET)
    trainer.fit(classifier, datamodule=data)
    trainer.validate(classifier, datamodule=data, verbose=False)
    trainer.test(classifier, datamodule=data, verbose=False)
    (probabilities,) = trainer.predict(classifier, datamodule=data)
    assert probabilities.shape == (32, data_module.num_classes)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(32), atol=1e-6)


def test_fit_improves_accuracy_on_digits(tmp_path):
    torch.manual_seed(0)
    classifier = Classifier(MLP(), learning_rate=3e-3)
    trainer = Trainer(max_epochs=4, enable_checkpointing=False, default_root_dir=tmp_path, **QUIET)
    trainer.fit(classifier, datamodule=DigitsDataModule(order_seed=0))
    assert trainer.callback_metrics["val/accuracy"] > 0.85


@pytest.mark.parametrize("split", ["val", "test"])
def test_loss_and_accuracy_are_means_over_examples(split, tmp_path):
    loader, x, y = uneven_batches()
    trainer = Trainer(default_root_dir=tmp_path, **QUIET)
    run = trainer.validate if split == "val" else trainer.test
    (metrics,) = run(Classifier(Fixed(), num_classes=3), loader, verbose=False)
    assert set(metrics) == {f"{split}/loss", f"{split}/accuracy"}
    assert metrics[f"{split}/accuracy"] == pytest.approx(0.5)
    assert metrics[f"{split}/loss"] == pytest.approx(nn.functional.cross_entropy(x, y).item())


def test_train_loss_is_logged_at_every_step_under_exactly_that_name(tmp_path):
    loader, x, y = uneven_batches()
    logger = CSVLogger(tmp_path)
    trainer = Trainer(
        **{**QUIET, "logger": logger},
        max_epochs=1,
        log_every_n_steps=1,
        enable_checkpointing=False,
    )
    trainer.fit(Classifier(Fixed(), num_classes=3), loader, loader)
    with Path(logger.experiment.metrics_file_path).open() as file:
        rows = list(csv.DictReader(file))
    steps = {int(row["step"]): float(row["train/loss"]) for row in rows if row["train/loss"]}
    expected = [nn.functional.cross_entropy(x[b], y[b]).item() for b in (slice(3), slice(3, 4))]
    assert steps == pytest.approx(dict(enumerate(expected)))
    assert "train/loss_step" not in rows[0]
    (epoch_mean,) = [float(row["train/loss_epoch"]) for row in rows if row["train/loss_epoch"]]
    assert epoch_mean == pytest.approx(nn.functional.cross_entropy(x, y).item())


def test_default_optimizer_is_adamw_over_all_parameters():
    classifier = Classifier(MLP(), learning_rate=0.02)
    optimizer = classifier.configure_optimizers()
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["lr"] == 0.02
    assert len(optimizer.param_groups[0]["params"]) == len(list(classifier.parameters()))
    assert Classifier(MLP()).configure_optimizers().defaults["lr"] == 1e-3


def test_predict_accepts_inputs_without_labels():
    x = torch.rand(4, 3)
    classifier = Classifier(Fixed(), num_classes=3)
    assert classifier.predict_step(x, 0).equal(torch.softmax(x, dim=1))
    assert classifier.predict_step([x, torch.zeros(4)], 0).equal(torch.softmax(x, dim=1))


def test_checkpoint_keeps_the_network_out_of_the_hyperparameters_and_reloads(tmp_path):
    classifier = Classifier(MLP(), learning_rate=0.01)
    trainer = Trainer(
        max_steps=2,
        callbacks=[ModelCheckpoint(tmp_path, filename="last")],
        default_root_dir=tmp_path,
        **QUIET,
    )
    trainer.fit(classifier, datamodule=DigitsDataModule(order_seed=0))
    path = tmp_path / "last.ckpt"
    stored = torch.load(path, weights_only=True)["hyper_parameters"]
    assert stored == {"num_classes": 10, "learning_rate": 0.01}
    again = Classifier.load_from_checkpoint(path, network=MLP())
    x = torch.rand(5, 1, 8, 8)
    assert again.cpu()(x).equal(classifier(x))


@pytest.fixture(autouse=True)
def without_pytests_arguments(monkeypatch):
    """Hide pytest's own arguments, about which LightningCLI would warn."""
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")


def command_line(tmp_path, *arguments):
    return LightningCLI(
        Classifier,
        DigitsDataModule,
        args=[
            "fit",
            "--model.network=lightning_qsgd.nn.MLP",
            "--model.network.hidden=[16]",
            "--data.order_seed=0",
            "--trainer.accelerator=cpu",
            "--trainer.logger=false",
            "--trainer.max_steps=2",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
            f"--trainer.default_root_dir={tmp_path}",
            *arguments,
        ],
    )


def test_command_line_builds_the_network_from_its_class_path(tmp_path):
    classifier = command_line(tmp_path).model
    assert isinstance(classifier.network, MLP)
    assert classifier.network.layers[1].out_features == 16


@pytest.mark.filterwarnings("ignore:`Classifier.configure_optimizers` will be overridden")
def test_command_line_optimizer_replaces_the_default(tmp_path):
    line = command_line(tmp_path, "--optimizer=torch.optim.SGD", "--optimizer.lr=0.2")
    (optimizer,) = line.trainer.optimizers
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["lr"] == 0.2


def test_command_line_builds_the_transformer_from_grouped_sizes(tmp_path):
    line = LightningCLI(
        Classifier,
        SequencesDataModule,
        run=False,
        args=[
            "--model.network=lightning_qsgd.nn.TransformerClassifier",
            "--model.network.sizes.layers=1",
            "--model.num_classes=4",
            "--data.sizes.train=64",
        ],
    )
    assert len(line.model.network.layers) == 1
    assert line.datamodule.sizes.train == 64


def test_a_network_with_another_number_of_classes_is_refused():
    classifier = Classifier(MLP(num_classes=10), num_classes=4)
    with pytest.raises(ValueError, match=r"logits of shape \(2, 4\) from MLP, got \(2, 10\)"):
        classifier(torch.rand(2, 64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "`num_classes` to be at least 2, got 1"),
        ({"learning_rate": 0.0}, "`learning_rate` to be above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "`learning_rate` to be above 0, got nan"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Classifier(MLP(), **arguments)

"""Train and measure any network that maps a batch to class logits."""

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

Batch = tuple[Tensor, Tensor]


class Classifier(LightningModule):
    """Fit a network by cross-entropy and log loss (nats) and accuracy (share of examples).

    Logged: `train/loss` at every step and its mean over the epoch as `train/loss_epoch`;
    `val/loss`, `val/accuracy`, `test/loss` and `test/accuracy` per epoch. The network is kept out
    of the hyperparameters, so that a checkpoint holds its weights once; give it again to reload:
    `Classifier.load_from_checkpoint(path, network=...)`.

    Args:
        network: Maps x, shape (batch, ...), images or token ids, to logits (batch, num_classes).
        num_classes: Number of classes, 2 or more.
        learning_rate: Step size of the default optimizer, AdamW, above 0. LightningCLI's
            `--optimizer` replaces that optimizer and ignores this value.

    Raises:
        ValueError: If `num_classes` is below 2 or `learning_rate` is not above 0.

    Example:
        >>> classifier = Classifier(nn.Linear(4, 3), num_classes=3)
        >>> classifier(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
        >>> dict(classifier.hparams)
        {'num_classes': 3, 'learning_rate': 0.001}
    """

    def __init__(
        self, network: nn.Module, num_classes: int = 10, learning_rate: float = 1e-3
    ) -> None:
        super().__init__()
        _require_arguments(num_classes, learning_rate)
        self.save_hyperparameters(ignore=["network"])
        self.network = network
        self.num_classes = num_classes
        self.learning_rate = learning_rate
        self.val_accuracy = MulticlassAccuracy(num_classes=num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes=num_classes, average="micro")

    def forward(self, x: Tensor) -> Tensor:
        """Compute class logits.

        Args:
            x: Images or token ids, shape (batch, ...).

        Returns:
            Logits, float, shape (batch, num_classes).

        Raises:
            ValueError: If the network's output has another shape.
        """
        logits: Tensor = self.network(x)
        expected = (len(x), self.num_classes)
        if logits.shape != expected:
            raise ValueError(
                f"Expected logits of shape {expected} from {type(self.network).__name__}, got "
                f"{tuple(logits.shape)}. Give the network and the classifier the same "
                "`num_classes`."
            )
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss to minimise.

        Args:
            batch: Inputs, shape (batch, ...), and classes, int64, shape (batch,).
            batch_idx: Number of the batch in its epoch.

        Returns:
            Mean cross-entropy in nats, float, shape ().
        """
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        # One call with both flags would rename the step curve to `train/loss_step`.
        self.log("train/loss", loss, on_step=True, on_epoch=False, batch_size=len(y))
        self.log(
            "train/loss_epoch",
            loss,
            on_step=False,
            on_epoch=True,
            sync_dist=True,
            batch_size=len(y),
        )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log `val/loss` and `val/accuracy`.

        Args:
            batch: Inputs, shape (batch, ...), and classes, int64, shape (batch,).
            batch_idx: Number of the batch.
        """
        self._evaluate("val", self.val_accuracy, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log `test/loss` and `test/accuracy`.

        Args:
            batch: Inputs, shape (batch, ...), and classes, int64, shape (batch,).
            batch_idx: Number of the batch.
        """
        self._evaluate("test", self.test_accuracy, batch)

    def predict_step(self, batch: Tensor | Batch, batch_idx: int) -> Tensor:
        """Compute class probabilities.

        Args:
            batch: Inputs alone or with their classes; the classes are not looked at.
            batch_idx: Number of the batch.

        Returns:
            Probabilities in [0, 1], float, shape (batch, num_classes); rows sum to 1.
        """
        x = batch if isinstance(batch, Tensor) else batch[0]
        return torch.softmax(self(x), dim=-1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the default optimizer.

        Returns:
            AdamW over all parameters with `learning_rate`.
        """
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)

    def _evaluate(self, split: str, accuracy: MulticlassAccuracy, batch: Batch) -> None:
        x, y = batch
        logits = self(x)
        loss = nn.functional.cross_entropy(logits, y)
        accuracy.update(logits, y)
        self.log(f"{split}/loss", loss, on_epoch=True, sync_dist=True, batch_size=len(y))
        self.log(f"{split}/accuracy", accuracy, on_epoch=True, batch_size=len(y))


def _require_arguments(num_classes: int, learning_rate: float) -> None:
    if num_classes < 2:
        raise ValueError(
            f"Expected `num_classes` to be at least 2, got {num_classes}. "
            "One class leaves nothing to tell apart; count the classes of the data."
        )
    if not learning_rate > 0.0:
        raise ValueError(
            f"Expected `learning_rate` to be above 0, got {learning_rate}. "
            "AdamW needs a positive step size, e.g. 1e-3."
        )

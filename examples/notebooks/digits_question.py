"""The model and the data of the notebook `is_it_real`: each run of its comparison imports them."""

from lightning.pytorch import LightningDataModule, LightningModule

from lightning_qsgd.data import DigitsDataModule
from lightning_qsgd.nn import MLP
from lightning_qsgd.training import Classifier


def make_model() -> LightningModule:
    """Return a perceptron with AdamW."""
    return Classifier(MLP(), learning_rate=3e-3)


def make_data() -> LightningDataModule:
    """Return 1,797 handwritten digits of 8 x 8 pixels, which come with scikit-learn."""
    return DigitsDataModule()

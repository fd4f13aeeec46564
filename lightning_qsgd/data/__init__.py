"""Data to train on: scikit-learn's digits, synthetic token sequences, and any text."""

from lightning_qsgd.data.characters import NUM_CHARACTERS, CharactersDataModule
from lightning_qsgd.data.digits import DigitsDataModule
from lightning_qsgd.data.epoch_sampler import EpochSampler
from lightning_qsgd.data.sequence_generator import generate_split
from lightning_qsgd.data.sequence_rules import SequenceRules, make_rules
from lightning_qsgd.data.sequences import SequencesDataModule, SequenceSizes

__all__ = [
    "NUM_CHARACTERS",
    "CharactersDataModule",
    "DigitsDataModule",
    "EpochSampler",
    "SequenceRules",
    "SequenceSizes",
    "SequencesDataModule",
    "generate_split",
    "make_rules",
]

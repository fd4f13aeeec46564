"""Data to train on: scikit-learn's digits, synthetic token sequences, and any text."""

from lightning_qsgd.data.characters import NUM_CHARACTERS, CharactersDataModule
from lightning_qsgd.data.digits import DigitsDataModule
from lightning_qsgd.data.epoch_sampler import EpochSampler, ResumableLoader
from lightning_qsgd.data.sequences import (
    SequenceRules,
    SequencesDataModule,
    SequenceSizes,
    generate_split,
    make_rules,
)

__all__ = [
    "NUM_CHARACTERS",
    "CharactersDataModule",
    "DigitsDataModule",
    "EpochSampler",
    "ResumableLoader",
    "SequenceRules",
    "SequenceSizes",
    "SequencesDataModule",
    "generate_split",
    "make_rules",
]

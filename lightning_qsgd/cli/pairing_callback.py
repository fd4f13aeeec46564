"""Records what the runs of one seed must have in common."""

import hashlib
import pickle
import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_qsgd.training.first_weights import add_to_hash

FIRST_BATCHES = 8


class PairingCallback(Callback):
    """Hashes the first batches, and the random generators as training begins.

    Equal batches in equal order mean the same data order; equal generators mean the same dropout,
    for as long as the arms draw alike.

    Attributes:
        data_order: Hash of the first batches, content and order.
        random_state: Hash of the states of torch's, numpy's and Python's generators.

    Example:
        >>> PairingCallback().random_state
        ''
    """

    def __init__(self) -> None:
        self.random_state = ""
        self._batches = hashlib.sha256()
        self._seen = 0
        self._readable = True

    @property
    def data_order(self) -> str:
        """Hash of the batches seen so far, of the first 8 at most; empty if they are unreadable."""
        return self._batches.hexdigest() if self._readable else ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hash the generators, after sanity checks and optimizers have drawn from them."""
        state = (
            torch.get_rng_state().numpy().tobytes(),
            [part.cpu().numpy().tobytes() for part in _cuda_states()],
            pickle.dumps(np.random.get_state()),  # noqa: NPY002 - the global generator is meant
            repr(random.getstate()),
        )
        self.random_state = hashlib.sha256(repr(state).encode()).hexdigest()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Hash one of the first batches."""
        if self._seen < FIRST_BATCHES:
            self._seen += 1
            self._readable = add_to_hash(self._batches, batch) and self._readable


def _cuda_states() -> list[Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

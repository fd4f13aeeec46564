"""Records what the runs of one seed must have in common."""

import hashlib
import pickle
import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

FIRST_BATCHES = 8


class PairingCallback(Callback):
    """Hashes the first batches, and the random generators at the moment training begins.

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

    @property
    def data_order(self) -> str:
        """Hash of the batches seen so far, of the first 8 at most."""
        return self._batches.hexdigest()

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
            _add(self._batches, batch)


def _cuda_states() -> list[Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _add(digest: Any, node: Any) -> None:
    """Feed a batch to a hash, with what tells its tensors apart."""
    if isinstance(node, Tensor):
        flat = node.detach().cpu().contiguous()
        digest.update(f"{flat.dtype}{tuple(flat.shape)}".encode())
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(node, dict):
        for key in node:
            digest.update(repr(key).encode())
            _add(digest, node[key])
    elif isinstance(node, list | tuple):
        digest.update(f"[{len(node)}".encode())
        for item in node:
            _add(digest, item)
    elif isinstance(node, str | int | float | bool | bytes | None):
        digest.update(repr(node).encode())
    else:  # its repr may hold an address, which differs between equal runs
        digest.update(type(node).__name__.encode())

"""Records what the runs of one seed must have in common."""

import hashlib
import pickle
import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from lightning_qsgd.compare.results.first_weights import FirstWeights

FIRST_BATCHES = 8
DIGITS = 16
"""Of a tensor's hash: 64 bits tell tensors apart, and a run stores one per tensor."""


class PairingCallback(Callback):
    """Hashes the first weights and batches, and the random generators as training begins.

    Equal batches in equal order mean the same data order; equal generators mean the same dropout,
    for as long as the arms draw alike.

    Attributes:
        first_weights: Hash of each tensor of the model before the first step.
        data_order: Hash of the first batches, content and order.
        random_state: Hash of the states of torch's, numpy's and Python's generators.

    Example:
        >>> PairingCallback().random_state
        ''
    """

    def __init__(self) -> None:
        self.first_weights = FirstWeights()
        self.random_state = ""
        self._batches = hashlib.sha256()
        self._seen = 0

    @property
    def data_order(self) -> str:
        """Hash of the batches seen so far, of the first 8 at most."""
        return self._batches.hexdigest()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hash the weights, before anything has moved them."""
        self.first_weights = hashed_weights(pl_module)

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


def hashed_weights(module: nn.Module) -> FirstWeights:
    """Hash every parameter and stored buffer of a module on its own.

    Example:
        >>> first = hashed_weights(nn.Linear(2, 3))
        >>> sorted(first.hashes), first.parameters
        (['bias', 'weight'], 9)
    """
    trainable = (weight.numel() for weight in module.parameters() if weight.requires_grad)
    hashes = {name: _hash(value) for name, value in module.state_dict().items()}
    return FirstWeights(hashes, sum(trainable))


def _hash(value: Any) -> str:
    digest = hashlib.sha256()
    _add(digest, value)
    return digest.hexdigest()[:DIGITS]


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

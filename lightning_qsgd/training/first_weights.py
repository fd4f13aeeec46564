"""What runs of a seed must have in common: first weights, batches, random generators."""

import hashlib
import pickle
import random
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from math import inf
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_qsgd.training.recorded_run import (
    EPOCH_BATCHES,
    TRAINING_BATCHES,
    TRAINING_ROWS,
    FirstWeights,
)

DIGITS = 16
"""Of a tensor's hash: 64 bits tell tensors apart, and a run stores one per tensor."""


def hashed_weights(module: nn.Module) -> FirstWeights:
    """Hash every parameter and every buffer of a module on its own.

    What is lazy and has no values yet has an empty hash; see `with_late_weights`. Buffers that are
    not stored with the weights are kept apart; a lazy one of these is left out.

    Example:
        >>> first = hashed_weights(nn.Linear(2, 3))
        >>> sorted(first.hashes), first.parameters
        (['bias', 'weight'], 9)
    """
    known = (weight for weight in module.parameters() if not is_lazy(weight))
    trainable = (weight.numel() for weight in known if weight.requires_grad)
    stored = module.state_dict().items()
    hashes = {name: "" if is_lazy(value) else _hash(value) for name, value in stored}
    others = ((name, value) for name, value in module.named_buffers() if name not in hashes)
    buffers = {name: _hash(value) for name, value in others if not is_lazy(value)}
    return FirstWeights(hashes, sum(trainable), buffers)


def with_late_weights(
    first: FirstWeights, module: nn.Module, has_ended: bool = False
) -> FirstWeights:
    """Hash what was lazy, and has values by now.

    Of a buffer only the shape: the forward pass that gave it values may have moved them.

    Args:
        first: Hashes from before, empty of what was lazy.
        module: The module, after its first forward pass and before its first step, or at its end.
        has_ended: Whether training is over: what is lazy still took part in nothing.

    Example:
        >>> layer = nn.LazyLinear(3)
        >>> first = hashed_weights(layer)
        >>> y = layer(torch.ones(1, 2))
        >>> with_late_weights(first, layer) == replace(hashed_weights(layer), parameters=0)
        True
    """
    stored = module.state_dict(keep_vars=True)

    def late(name: str) -> str:
        value: Any = stored.get(name)
        if is_lazy(value):
            return "lazy" if has_ended else ""
        if has_ended:  # it got its values later, and may have been trained since
            return ""
        return _hash(value if isinstance(value, nn.Parameter) else getattr(value, "shape", None))

    return replace(first, hashes={name: own or late(name) for name, own in first.hashes.items()})


def _hash(value: Any) -> str:
    digest = hashlib.sha256()
    add_to_hash(digest, value)
    return digest.hexdigest()[:DIGITS]


PLAIN = (
    *(str, int, float, complex, bool, bytes, bytearray, np.generic, type(None), Decimal, Fraction),
    *(Enum, PurePath, UUID, date, time, timedelta, range, slice, torch.dtype, torch.device),
)
"""Values that their `repr` tells in full."""

DEPTH = 8
"""How far into a batch to look: deeper things are a module's own and may point back."""


def add_to_hash(digest: Any, node: Any, depth: int = DEPTH) -> bool:
    """Feed tensors, texts and numbers to a hash, with what tells tensors apart.

    Args:
        digest: Has a method `update`.
        node: What to read: a tensor, a number, or whatever holds some.
        depth: How many levels to read.

    Returns:
        Whether all of it could be read; objects without fields, such as generators, cannot.
    """
    if isinstance(node, Tensor):
        if is_lazy(node):
            digest.update(b"lazy")
        else:
            shape = "nested" if node.is_nested else tuple(node.shape)
            digest.update(f"{node.dtype}{shape}".encode())
        return _add_values(digest, node)
    if hasattr(node, "__array_interface__") and not isinstance(node, np.generic):
        node = np.asarray(node)  # a picture of PIL, for example
    if isinstance(node, np.ndarray):
        digest.update(f"{node.dtype}{node.shape}".encode())
        if node.dtype.hasobject:
            return add_to_hash(digest, node.tolist(), depth)
        digest.update(node.tobytes())
        return True
    if isinstance(node, PLAIN):
        digest.update(repr(node).encode())
        return True
    parts = _parts(node) if depth else None
    if parts is None:  # its repr may hold an address, which differs between equal runs
        digest.update(type(node).__name__.encode())
        return False
    if not isinstance(node, Mapping):
        kind = "" if isinstance(node, list | tuple) else type(node).__name__
        digest.update(f"[{kind}{len(parts)}".encode())
    readable = [add_to_hash(digest, part, depth - 1) for part in parts]
    return all(readable)


def _add_values(digest: Any, tensor: Tensor) -> bool:
    """Feed the values of a tensor of any layout; one without memory yet adds nothing."""
    if is_lazy(tensor) or tensor.is_meta:
        return True
    try:
        for part in _strided(tensor.detach()):
            digest.update(part.reshape(-1).view(torch.uint8).numpy().tobytes())
    except (RuntimeError, NotImplementedError, TypeError, AttributeError):
        return False  # a layout or a subclass that gives no numbers away
    return True


COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}
"""Where tensors of these layouts say which of their entries are stored."""


def _strided(tensor: Tensor) -> Iterator[Tensor]:
    """Give the numbers of a tensor as contiguous ones in this machine's memory.

    Of a sparse tensor only what it stores: as a dense one it may not fit.
    """
    if tensor.is_nested:
        for part in tensor.unbind():
            yield from _strided(part)
    elif tensor.layout is torch.sparse_coo:
        whole = tensor.coalesce()
        yield from (*_strided(whole.indices()), *_strided(whole.values()))
    elif tensor.layout in COMPRESSED:
        for name in (*COMPRESSED[tensor.layout], "values"):
            yield from _strided(getattr(tensor, name)())
    elif tensor.is_quantized:
        yield tensor.int_repr().cpu().contiguous()
    else:
        local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        # A conjugate or negative view holds the numbers that it is a view of.
        yield local.cpu().resolve_conj().resolve_neg().contiguous()


def _parts(node: Any) -> list[Any] | None:
    """Return what a container holds, in its own order; None if it is none.

    Mappings are those of any library, such as the BatchEncoding of a tokenizer; other objects are
    read by their fields, as the graphs of PyG and dataclasses are.
    """
    if isinstance(node, Mapping):
        return [part for pair in node.items() for part in pair]
    if isinstance(node, Sequence):
        return list(node)
    if isinstance(node, Set):
        return sorted(node, key=repr)
    fields = getattr(node, "__dict__", None) or {
        name: getattr(node, name) for name in getattr(node, "__slots__", ()) if hasattr(node, name)
    }
    if fields and not callable(node):
        return [part for name in sorted(fields) for part in (name, fields[name])]
    return None


def rows_of(batch: Any, depth: int = DEPTH) -> int:
    """Return the first dimension of the first tensor in a batch; 0 if there is none.

    Example:
        >>> rows_of({"text": ["a", "b"], "x": torch.ones(2, 3)}), rows_of("text")
        (2, 0)
    """
    if isinstance(batch, Tensor):
        return batch.size(0) if batch.ndim else 0  # nested ones have no `shape`
    if isinstance(batch, np.ndarray):
        return len(batch) if batch.ndim else 0
    parts = None if isinstance(batch, PLAIN) or not depth else _parts(batch)
    return next((rows for part in parts or () if (rows := rows_of(part, depth - 1))), 0)


FIRST_BATCHES = 8
"""How many batches of a loader are hashed."""


class PairingCallback(Callback):
    """Hashes the first batches, and the random generators as training begins.

    Equal batches in equal order mean the same data order; equal generators mean the same dropout,
    for as long as the arms draw alike.

    Batches that a run trains on are counted, with their rows: accumulated gradients, however they
    are asked for, take more of them per step.

    Of the validation that measures the final weights, the batches are counted, and the first and
    the last are hashed as they come, before the module has written into them. Batches that differ
    from the first whole validation of the run to this one, as those of a shuffled loader do, say
    nothing about other runs: only their number counts then.

    Attributes:
        random_state: Hash of the states of torch's, numpy's and Python's generators.

    Example:
        >>> PairingCallback().random_state
        ''
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.random_state = ""
        self._batches = hashlib.sha256()
        self._prefixes: list[str] = []
        self._readable = True
        self._trained, self._rows, self._ahead = 0, 0, 0
        self._has_rows = True
        self._epoch: float = 0
        self._sanity: dict[int, list[str]] = {}
        self._before: dict[int, list[str]] = {}
        self._closing: dict[int, list[str]] = {}
        self._counts: dict[int, int] = {}
        self._hashed: dict[int, list[str]] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier fit."""
        self._begin()

    @property
    def data_order(self) -> str:
        """Hash of the batches seen so far, of the first 8 at most; empty if they are unreadable."""
        return self._batches.hexdigest() if self._readable else ""

    @property
    def seen_batches(self) -> str:
        """Hashes of the first batch, the first two, and so on; empty if they are unreadable."""
        return " ".join(self._prefixes) if self._readable else ""

    @property
    def validation_batches(self) -> str:
        """Number of batches of each loader in the closing validation; empty before it.

        Two loaders give "8+4".
        """
        return "+".join(str(self._counts[loader]) for loader in sorted(self._counts))

    @property
    def validation_data(self) -> str:
        """Hash of the first 8 batches and the last of each loader in the closing validation.

        Empty if they are unreadable, or no earlier validation of the run had the same ones. Where
        there was none but the sanity check, its few batches stand for all.
        """
        for loader, found in self._closing.items():
            known = (self._before or self._sanity).get(loader, [])
            shown = found if self._before else found[: len(known)]
            if not known or known != shown or "" in found:
                return ""
        text = repr(sorted(self._closing.items()))
        return hashlib.sha256(text.encode()).hexdigest() if self._closing else ""

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
        """Hash one of the first batches, and count its rows before the module may change it."""
        self._ahead = rows_of(batch)
        if len(self._prefixes) < FIRST_BATCHES:
            self._readable = add_to_hash(self._batches, batch) and self._readable
            self._prefixes.append(self._batches.hexdigest()[:DIGITS])

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Count a batch; one that a hook has skipped does not come here."""
        self._trained += 1
        self._rows += self._ahead
        self._has_rows &= self._ahead > 0
        self._epoch = trainer.num_training_batches

    @property
    def trained_on(self) -> dict[str, str]:
        """How much was trained on, by the names of `TRAINED_ON`; empty where nothing tells."""
        return {
            TRAINING_BATCHES: str(self._trained or ""),
            TRAINING_ROWS: str(self._rows) if self._has_rows else "",
            EPOCH_BATCHES: str(self._epoch) if 0 < self._epoch < inf else "",
        }

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hash the batches of the closing validation, and of one before it."""
        self._hashed = None
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._closing, self._counts = {}, {}
            self._hashed = self._closing
        elif trainer.sanity_checking:
            self._hashed = self._sanity
        elif not self._before:  # each hash waits for the device
            self._hashed = self._before

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Hash one of the first batches, or the last: data of another size may begin alike."""
        if self._hashed is None:
            return
        found = self._hashed.setdefault(dataloader_idx, [])
        if len(found) < FIRST_BATCHES or batch_idx + 1 == _numbers(trainer)[dataloader_idx]:
            found.append(_hash_of_batch(batch))
        if self._hashed is self._closing:
            self._counts[dataloader_idx] = self._counts.get(dataloader_idx, 0) + 1


def _numbers(trainer: Trainer) -> list[float]:
    numbers = trainer.num_val_batches
    return list(numbers) if isinstance(numbers, list) else [numbers]


def _hash_of_batch(batch: Any) -> str:
    """Hash a batch; empty if it is unreadable."""
    digest = hashlib.sha256()
    return digest.hexdigest() if add_to_hash(digest, batch) else ""


def _cuda_states() -> list[Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

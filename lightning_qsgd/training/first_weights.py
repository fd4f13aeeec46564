"""What runs of a seed must have in common: first weights, batches, random generators."""

import hashlib
import pickle
import random
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

DIGITS = 16
"""Of a tensor's hash: 64 bits tell tensors apart, and a run stores one per tensor."""


@dataclass(frozen=True)
class FirstWeights:
    """The weights of a run before its first step.

    Attributes:
        hashes: Hash of shape, precision and values by name, of every parameter and stored buffer.
        parameters: Number of numbers that are trained: those that take gradients, and that an
            optimizer holds.
    """

    hashes: Mapping[str, str] = field(default_factory=dict)
    parameters: int = 0

    @property
    def digest(self) -> str:
        """One hash of all names and values; empty if nothing was recorded."""
        text = repr(sorted(self.hashes.items()))
        return hashlib.sha256(text.encode()).hexdigest() if self.hashes else ""


def hashed_weights(module: nn.Module) -> FirstWeights:
    """Hash every parameter and stored buffer of a module on its own.

    Example:
        >>> first = hashed_weights(nn.Linear(2, 3))
        >>> sorted(first.hashes), first.parameters
        (['bias', 'weight'], 9)
    """
    known = (weight for weight in module.parameters() if not is_lazy(weight))
    trainable = (weight.numel() for weight in known if weight.requires_grad)
    hashes = {name: _hash(value) for name, value in module.state_dict().items()}
    return FirstWeights(hashes, sum(trainable))


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


def start_alike(one: FirstWeights, other: FirstWeights) -> bool | None:
    """Tell whether one of two models has all tensors of the other, with the same first values.

    A model may add parameters to another, e.g. the circuit's weights in quantum attention: the two
    are a pair in all that the smaller one has. Where each has a tensor that the other lacks, as
    after a renaming, nothing says that they are the same network but for an addition: no pair.

    Returns:
        The answer; None if either was not recorded.

    Example:
        >>> plain = FirstWeights({"head": "a1"}, 4)
        >>> start_alike(plain, FirstWeights({"head": "a1", "circuit": "b2"}, 20))
        True
        >>> start_alike(plain, FirstWeights({"tail": "a1", "circuit": "b2"}, 20))
        False
    """
    if not (one.hashes and other.hashes):
        return None
    fewer, more = sorted((one.hashes, other.hashes), key=len)
    return all(more.get(name) == value for name, value in fewer.items())


def unlike(one: FirstWeights, other: FirstWeights) -> list[str]:
    """Name the tensors that stand against a pair: those of other values, else those not in both.

    Returns:
        Names in alphabetical order; none if the models start alike.

    Example:
        >>> unlike(FirstWeights({"head": "a1"}), FirstWeights({"tail": "a1"}))
        ['head', 'tail']
    """
    if start_alike(one, other):
        return []
    common = one.hashes.keys() & other.hashes.keys()
    changed = [name for name in common if one.hashes[name] != other.hashes[name]]
    return sorted(changed or one.hashes.keys() ^ other.hashes.keys())


def require_pair(ours: FirstWeights, baseline: FirstWeights, continued: str = "") -> None:
    """Refuse a baseline that started from other weights, or trained others.

    Args:
        ours: Of the run.
        baseline: Of its baseline.
        continued: A checkpoint that the run continues and that says nothing of first weights.

    Raises:
        RuntimeError: If the two are no pair.

    Example:
        >>> weights = hashed_weights(nn.Linear(2, 3))
        >>> require_pair(weights, weights)
    """
    if start_alike(ours, baseline) is False:
        remedy = _GO_ON_ALONE.format(continued) if continued else _START_ALIKE
        raise RuntimeError(
            f"The baseline started from other weights ({', '.join(unlike(ours, baseline)[:3])}), "
            "so the two runs are no pair: their difference would mix the perturbation with the "
            f"initialisation. {remedy}"
        )
    is_one_model = ours.hashes.keys() == baseline.hashes.keys()  # else an arm may have more
    if is_one_model and baseline.parameters and ours.parameters != baseline.parameters:
        raise RuntimeError(
            f"The baseline trained {baseline.parameters:,} numbers and this run trains "
            f"{ours.parameters:,} of the same model, so the two are no pair. Where "
            "`configure_optimizers` of the module leaves some out, the command line's optimizer "
            "takes all: write `--baseline own`, or give the others `requires_grad_(False)`. A "
            "baseline from before can be trained anew."
        )


_START_ALIKE = (
    "Use the same seed_everything and model, or train the baseline anew. Weights in a default "
    "argument, or on a class, are shared with the baseline, which trains first: make them in "
    "`__init__`."
)
_GO_ON_ALONE = (
    "This run continues {}, which says nothing of its first weights. Go on without a baseline, or "
    "from a checkpoint of a fit with this package."
)


FIRST_BATCHES = 8
"""How many batches of a loader are hashed."""


class PairingCallback(Callback):
    """Hashes the first batches, and the random generators as training begins.

    Equal batches in equal order mean the same data order; equal generators mean the same dropout,
    for as long as the arms draw alike.

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
        self._seen = 0
        self._readable = True
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
        """Hash one of the first batches."""
        if self._seen < FIRST_BATCHES:
            self._seen += 1
            self._readable = add_to_hash(self._batches, batch) and self._readable

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

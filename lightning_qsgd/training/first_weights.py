"""What a model started from, tensor by tensor, and whether two models started alike."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

DIGITS = 16
"""Of a tensor's hash: 64 bits tell tensors apart, and a run stores one per tensor."""


@dataclass(frozen=True)
class FirstWeights:
    """The weights of a run before its first step.

    Attributes:
        hashes: Hash of shape, precision and values by name, of every parameter and stored buffer.
        parameters: Number of trainable numbers.
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
    trainable = (weight.numel() for weight in module.parameters() if weight.requires_grad)
    hashes = {name: _hash(value) for name, value in module.state_dict().items()}
    return FirstWeights(hashes, sum(trainable))


def _hash(value: Any) -> str:
    digest = hashlib.sha256()
    add_to_hash(digest, value)
    return digest.hexdigest()[:DIGITS]


def add_to_hash(digest: Any, node: Any) -> None:
    """Feed tensors, texts and numbers to a hash, with what tells tensors apart."""
    if isinstance(node, Tensor):
        flat = node.detach().cpu().contiguous()
        digest.update(f"{flat.dtype}{tuple(flat.shape)}".encode())
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(node, dict):
        for key in node:
            digest.update(repr(key).encode())
            add_to_hash(digest, node[key])
    elif isinstance(node, list | tuple):
        digest.update(f"[{len(node)}".encode())
        for item in node:
            add_to_hash(digest, item)
    elif isinstance(node, str | int | float | bool | bytes | None):
        digest.update(repr(node).encode())
    else:  # its repr may hold an address, which differs between equal runs
        digest.update(type(node).__name__.encode())


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

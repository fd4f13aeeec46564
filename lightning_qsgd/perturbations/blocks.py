"""From flat entries to rows of qubits and back."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.backends import Backend
from lightning_qsgd.perturbations.keyed_draws import block_keys, stream_key


@dataclass(frozen=True)
class Blocks:
    """How consecutive runs of entries are cut into blocks of one entry per qubit.

    The last block of each run is padded with zeros, so no block holds entries of two runs.

    Args:
        names: Name of each run (a tensor, or the whole model); part of the noise keys.
        sizes: Number of entries of each run, at least 1 each.
        num_qubits: Number of entries per block.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    num_qubits: int

    @cached_property
    def counts(self) -> list[int]:
        """Number of blocks of each run."""
        return [-(-size // self.num_qubits) for size in self.sizes]

    @property
    def total(self) -> int:
        """Number of blocks of all runs."""
        return sum(self.counts)

    @cached_property
    def slots(self) -> Tensor | None:
        """Place of each entry in the padded rows, shape (entries,); None if nothing is padded."""
        if all(size % self.num_qubits == 0 for size in self.sizes):
            return None
        starts = np.cumsum([0, *self.counts[:-1]]) * self.num_qubits
        runs = zip(starts, self.sizes, strict=True)
        return torch.from_numpy(np.concatenate([start + np.arange(size) for start, size in runs]))

    def keys(self, seed: int, step: int) -> np.ndarray:
        """Return one noise key per block, uint64, shape (total,)."""
        runs = zip(self.names, self.counts, strict=True)
        return np.concatenate([block_keys(stream_key(seed, step, n), c) for n, c in runs])


def modulation(
    backend: Backend,
    theta: Tensor,
    blocks: Blocks,
    moment: tuple[int, int],
    weights: Tensor | None = None,
) -> Tensor:
    """Evaluate u(theta) on all entries with one call of the backend.

    Entries that are not finite cannot be angles: the circuit sees 0 in their place, so that they
    do not spoil the other qubits of their block.

    Args:
        backend: Evaluates the circuit.
        theta: Parameters, shape (entries,).
        blocks: Cuts the entries into rows.
        moment: The seed and the optimizer step, which name the shots.
        weights: The circuit's weights in radians, shape (num_weights,), where they are learned;
            None takes the backend's own. The modulation carries the gradient that they require.

    Returns:
        The modulation in [-1, 1], shape (entries,); NaN where a separable closed form meets an
        entry that is not finite.

    Raises:
        FloatingPointError: If the backend returns a readout that is not finite.
    """
    readout = backend.readout if weights is None else partial(backend.readout, weights=weights)
    if backend.separable:
        return readout(theta)
    u = _blockwise(readout, theta, blocks, blocks.keys(*moment) if backend.stochastic else None)
    if not isfinite(u.detach().sum().item()):  # u lies in [-1, 1]: no finite sum overflows
        raise FloatingPointError(
            f"{type(backend).__name__} returned a readout that is not finite at step {moment[1]}: "
            "the circuit cannot be trusted. No parameter was changed; check the backend and its "
            "sampler."
        )
    return u


def _blockwise(
    readout: Callable[[Tensor, np.ndarray | None], Tensor],
    theta: Tensor,
    blocks: Blocks,
    keys: np.ndarray | None,
) -> Tensor:
    inputs = torch.nan_to_num(theta, 0.0, 0.0, 0.0)
    if blocks.slots is None:
        return readout(inputs.view(-1, blocks.num_qubits), keys).view(-1)
    padded = inputs.new_zeros(blocks.total * blocks.num_qubits)
    slots = blocks.slots.to(padded.device)
    padded[slots] = inputs
    return readout(padded.view(-1, blocks.num_qubits), keys).view(-1)[slots]

"""From flat entries to rows of qubits and back."""

from dataclasses import dataclass
from functools import cached_property
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
    seed_and_step: tuple[int, int],
    weights: Tensor | None = None,
) -> Tensor:
    """Evaluate u(theta) on all entries with one call of the backend.

    Entries that are not finite cannot be angles: the circuit sees 0 in their place, so that they
    do not spoil the other qubits of their block.

    Args:
        backend: Evaluates the circuit.
        theta: Parameters, shape (entries,).
        blocks: Cuts the entries into rows.
        seed_and_step: The seed and the optimizer step, which name the shots.
        weights: The circuit's weights in radians, shape (num_weights,), where they are learned;
            None takes the backend's own. The modulation carries the gradient that they require.

    Returns:
        The modulation in [-1, 1], shape (entries,), with the dtype and device of `theta`.

    Raises:
        TypeError, ValueError, FloatingPointError: If the backend's readout is refused; see
            `checked_readout`.
    """
    inputs = torch.nan_to_num(theta, 0.0, 0.0, 0.0)  # a copy: the backend may write into it
    keys = blocks.keys(*seed_and_step) if backend.stochastic else None
    if backend.separable:
        return checked_readout(backend, inputs, keys, seed_and_step[1], weights)
    if blocks.slots is not None:
        padded = inputs.new_zeros(blocks.total * blocks.num_qubits)
        slots = blocks.slots.to(padded.device)
        padded[slots] = inputs
        inputs = padded
    rows = inputs.view(-1, blocks.num_qubits)
    u = checked_readout(backend, rows, keys, seed_and_step[1], weights).view(-1)
    return u if blocks.slots is None else u[slots]


def checked_readout(
    backend: Backend,
    inputs: Tensor,
    keys: np.ndarray | None,
    step: int,
    weights: Tensor | None = None,
) -> Tensor:
    """Evaluate a backend and refuse a readout that is none.

    A user's backend may return anything. Found out later, it would leave parameters moved and
    nothing counted.

    Args:
        backend: Evaluates the circuit.
        inputs: Finite, of the shape that the backend takes.
        keys: One noise key per row; None if the backend draws no shots.
        step: The optimizer step, for the message.
        weights: The circuit's weights where they are learned; None takes the backend's own.

    Returns:
        One readout per input, in [-1, 1] up to rounding, with the dtype and device of `inputs`.
        The backend may keep the tensor: do not write into it.

    Raises:
        TypeError: If the readout is no tensor of floating-point numbers.
        ValueError: If it has another shape than the inputs, or leaves [-1, 1].
        FloatingPointError: If it is not finite.
    """
    given = {} if weights is None else {"weights": weights}
    shape, dtype, device = inputs.shape, inputs.dtype, inputs.device
    u = backend.readout(inputs, keys, **given)
    is_dense = isinstance(u, Tensor) and u.is_floating_point() and u.layout == torch.strided
    if backend.bounded and is_dense and u.shape == shape:
        return u.to(device, dtype)  # at nearly every step: no text is made for it
    start = f"{type(backend).__name__} returned a readout"
    untouched = "No parameter was changed;"
    if not is_dense:
        kind = u.dtype if isinstance(u, Tensor) else type(u).__name__
        raise TypeError(
            f"{start} of type {kind} at step {step}, instead of a dense tensor of floating-point "
            f"numbers. {untouched} return one like `inputs`."
        )
    if u.shape != shape:
        raise ValueError(
            f"{start} of shape {tuple(u.shape)} for inputs of shape {tuple(shape)} at step {step}: "
            f"each input needs one readout. {untouched} return a tensor of the inputs' shape."
        )
    if not backend.bounded and u.numel():
        _check_range(u, start, step)
    return u.to(device, dtype)


ROUNDING = 1e-3
"""How far a readout may leave [-1, 1]: float16 rounds by half of it."""


def _check_range(u: Tensor, start: str, step: int) -> None:
    low, high = (bound.item() for bound in torch.aminmax(u.detach()))
    if not (isfinite(low) and isfinite(high)):
        raise FloatingPointError(
            f"{start} that is not finite at step {step}: the circuit cannot be trusted. No "
            "parameter was changed; check the backend and its sampler."
        )
    if max(-low, high) > 1.0 + ROUNDING:
        raise ValueError(
            f"{start} between {low:g} and {high:g} at step {step}: P(1) - P(0) lies in [-1, 1]. No "
            "parameter was changed; divide the observable by its largest eigenvalue, or clip what "
            "error mitigation overshoots."
        )

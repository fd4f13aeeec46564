"""From flat entries to rows of qubits and back; what goes in and comes out is checked."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from math import isfinite
from numbers import Integral, Real
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.backends import Backend
from lightning_qsgd.backends.backend import is_ours
from lightning_qsgd.perturbations.coordinates import Coordinates, Occasion, TensorSpec
from lightning_qsgd.perturbations.keyed_draws import block_keys, stream_key
from lightning_qsgd.perturbations.step import TouchedStep


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


UNTOUCHED = "No parameter was changed"
MOVED = "The base has taken its step, and nothing is added to these entries"
"""What messages say of a failure before and after the base's step."""

ROUNDING = 1e-3
"""How far a readout, or a feature, may leave [-1, 1]: float16 rounds by half of it."""


def checked_readout(
    backend: Backend,
    inputs: Tensor,
    keys: np.ndarray | None,
    step: int | None,
    weights: Tensor | None = None,
    untouched: str = UNTOUCHED,
) -> Tensor:
    """Evaluate a backend and refuse a readout that is none.

    A user's backend may return anything. Found out later, it would leave parameters moved and
    nothing counted.

    Args:
        backend: Evaluates the circuit.
        inputs: Finite, of the shape that the backend takes.
        keys: One noise key per row; None if the backend draws no shots.
        step: The optimizer step, for the message; None where it is not known.
        weights: The circuit's weights where they are learned; None takes the backend's own.
        untouched: What was left as it is, for the message.

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
    if is_dense and u.shape == shape and (backend.bounded or _lies_within(u)):
        # At nearly every step: no text is made for it, nor a call that changes nothing.
        return u if u.dtype == dtype and u.device == device else u.to(device, dtype)
    start = f"{type(backend).__name__} returned a readout"
    when = "" if step is None else f" at step {step}"
    if not is_dense:
        kind = u.dtype if isinstance(u, Tensor) else type(u).__name__
        raise TypeError(
            f"{start} of type {kind}{when}, instead of a dense tensor of floating-point "
            f"numbers. {untouched}; return one like `inputs`."
        )
    if u.shape != shape:
        raise ValueError(
            f"{start} of shape {tuple(u.shape)} for inputs of shape {tuple(shape)}{when}: "
            f"each input needs one readout. {untouched}; return a tensor of the inputs' shape."
        )
    low, high = (bound.item() for bound in torch.aminmax(u.detach()))
    if not (isfinite(low) and isfinite(high)):
        raise FloatingPointError(
            f"{start} that is not finite{when}: the circuit cannot be trusted. {untouched}; check "
            "the backend and its sampler."
        )
    raise ValueError(
        f"{start} between {low:g} and {high:g}{when}: P(1) - P(0) lies in [-1, 1]. {untouched}; "
        "divide the observable by its largest eigenvalue, or clip what error mitigation overshoots."
    )


def _lies_within(u: Tensor) -> bool:
    """Whether all values lie in [-1, 1], up to rounding."""
    if not u.numel():
        return True
    low, high = torch.aminmax(u.detach())  # 20 times as fast as the norm that is the largest size
    return bool(low.item() >= -1.0 - ROUNDING and high.item() <= 1.0 + ROUNDING)


def checked_feature(values: Any, name: str, bounded: bool, step: TouchedStep) -> Tensor | float:
    """Return a feature of the entries in the dtype and on the device of the parameters.

    Args:
        values: What a user's feature returned: shape (entries,), or one number for all.
        name: Its class, for the message.
        bounded: Whether the values are known to lie in [-1, 1] where the step is finite.
        step: The step that it was made of.

    Returns:
        Shape (entries,), or a number.

    Raises:
        TypeError: If it is neither a dense tensor nor a number.
        ValueError: If it has another shape, or leaves [-1, 1].
        FloatingPointError: If it is not finite at a step that is.
    """
    theta = step.theta
    if isinstance(values, Tensor) and values.layout == torch.strided and not values.is_complex():
        if values.shape == theta.shape:
            is_like = values.dtype == theta.dtype and values.device == theta.device
            given: Tensor | float = values if is_like else values.to(theta)
        elif values.dim() == 0:
            given = float(values)
        else:
            raise ValueError(
                f"{name} returned a feature of shape {tuple(values.shape)} for entries of shape "
                f"{tuple(theta.shape)}: each entry has one. {_state_of(step)}; return a vector "
                "like `step.theta`, or one number for all."
            )
    elif isinstance(values, Real):
        given = float(values)
    else:
        kind = f"{values.layout} {values.dtype}" if isinstance(values, Tensor) else type(values)
        raise TypeError(
            f"{name} returned a feature of type {getattr(kind, '__name__', kind)}: the circuit "
            f"sees numbers. {_state_of(step)}; return a dense tensor like `step.theta`, or one "
            "number for all."
        )
    if not bounded:
        _check_feature(given, name, step)
    return given


def _check_feature(values: Tensor | float, name: str, step: TouchedStep) -> None:
    low = high = values
    if isinstance(values, Tensor):
        low, high = (bound.item() for bound in torch.aminmax(values.detach()))
    if isfinite(low) and isfinite(high):
        if max(-low, high) > 1.0 + ROUNDING:
            raise ValueError(
                f"{name} returned features between {low:g} and {high:g} at step "
                f"{step.seed_and_step[1]}: the circuit turns by half a turn from -1 to 1. "
                f"{_state_of(step)}; squash them, e.g. by `x / (1 + x**2).sqrt()`."
            )
        return
    known = [step.theta, *(vars(step)[key] for key in _SPOILED_BY if key in vars(step))]
    if all(bool(torch.isfinite(each).all()) for each in known):  # else nothing is added there
        raise FloatingPointError(
            f"{name} returned features that are not finite at step {step.seed_and_step[1]}, which "
            f"is finite itself: the circuit cannot see them. {_state_of(step)}; guard quotients "
            "and logarithms, e.g. by `clamp`."
        )


_SPOILED_BY = ("gradient", "base_step")
"""What else may hold numbers that are not finite, where a feature read it."""


def _state_of(step: TouchedStep) -> str:
    return MOVED if step.has_moved else UNTOUCHED


def checked_choice(
    coordinates: Coordinates,
    spec: TensorSpec,
    occasion: Occasion,
    gradient: Callable[[], Tensor],
) -> slice | Tensor:
    """Ask coordinates for their choice, and refuse one that is none.

    Places that do not exist would be taken for others, and those of a choice that looks at the step
    or the gradient without `changes` would stay what they were at first.

    Args:
        coordinates: Asked.
        spec: The tensor.
        occasion: The step at which the choice is made.
        gradient: Returns the tensor's gradient, flat and dense, shape (numel,).

    Returns:
        A slice with explicit bounds, or int64 indices, shape (k,).

    Raises:
        TypeError: If the choice is neither a slice nor a vector of integers.
        ValueError: If an entry does not exist or comes twice, or if the choice looks at what it
            must not.
    """
    if is_ours(type(coordinates)):
        return coordinates.choose(spec, occasion, gradient)
    name = type(coordinates).__name__
    if not coordinates.changes:
        occasion = _AnyOccasion(name, occasion)
        gradient = partial(_refuse_look, name, "the gradient")
    chosen = coordinates.choose(spec, occasion, gradient)
    start = f"`choose` of {name} returned"
    if isinstance(chosen, slice):
        first, last = chosen.start, chosen.stop
        is_plain = isinstance(first, Integral) and isinstance(last, Integral)
        if not is_plain or chosen.step not in (None, 1) or not 0 <= first <= last <= spec.numel:
            raise ValueError(
                f"{start} {chosen} for a tensor of {spec.numel:,} entries: a slice has two bounds "
                f"in that range and the step 1. {UNTOUCHED}; return other entries as indices, such "
                "as torch.arange(start, stop, step)."
            )
        return slice(int(first), int(last))
    is_vector = isinstance(chosen, Tensor) and chosen.layout == torch.strided and chosen.dim() == 1
    if not is_vector or chosen.dtype not in _INTEGERS:
        kind = (
            f"{chosen.dtype} of shape {tuple(chosen.shape)}"
            if isinstance(chosen, Tensor)
            else type(chosen).__name__
        )
        raise TypeError(
            f"{start} {kind}: the entries are a slice or a vector of integers. {UNTOUCHED}; return "
            "torch.tensor(indices), or mask.nonzero().flatten() of a mask."
        )
    chosen = chosen.to(torch.int64)
    low, high = map(int, torch.aminmax(chosen)) if len(chosen) else (0, 0)
    if low < 0 or high >= spec.numel:
        raise ValueError(
            f"{start} indices from {low} to {high} for a tensor of {spec.numel:,} entries: others "
            f"would be touched. {UNTOUCHED}; return indices from 0 to `spec.numel` - 1."
        )
    rises = bool((chosen[1:] > chosen[:-1]).all())  # as most do; to sort them all takes longer
    if not rises and len(torch.unique(chosen)) < len(chosen):
        raise ValueError(
            f"{start} an index twice: an entry is perturbed once per step. {UNTOUCHED}; return "
            "torch.unique(indices)."
        )
    return chosen


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class _AnyOccasion(Occasion):
    """The occasion of a choice that is kept: its step is none of its business."""

    def __init__(self, name: str, occasion: Occasion) -> None:
        super().__init__(occasion.step, occasion.seed, occasion.num_qubits)
        object.__setattr__(self, "_name", name)

    def __getattribute__(self, name: str) -> Any:
        if name == "step":
            _refuse_look(object.__getattribute__(self, "_name"), "the step")
        return super().__getattribute__(name)


def _refuse_look(name: str, what: str) -> NoReturn:
    raise ValueError(
        f"`choose` of {name} looks at {what}, and its `changes` is False: the entries of the first "
        f"step would be kept for all others. {UNTOUCHED}; set `changes = True` in the class."
    )

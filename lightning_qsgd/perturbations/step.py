"""What one step of the base optimizer looks like to an injection, on the touched entries."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.perturbations.keyed_draws import keyed_draws

CHUNK = 2**18
"""Entries at a time, in whole tensors: what is made of all of them at once would cost memory."""


LOW_PRECISION = (torch.bfloat16, torch.float16)
"""Types whose steps are often as small as their rounding."""


ParamGroups = list[dict[str, Any]]

Bounds = Sequence[tuple[int, int, int]]
"""Runs of entries of one parameter group, as (group, start, stop)."""


@dataclass(frozen=True)
class Row:
    """One touched parameter.

    Attributes:
        parameter: The parameter, of any shape, strides and dtype.
        group: Index of its parameter group.
        name: Its name in the noise keys.
        chosen: Logical flat indices of its touched entries, never empty.
    """

    parameter: Tensor
    group: int
    name: str
    chosen: slice | Tensor

    @property
    def size(self) -> int:
        """Number of touched entries."""
        if isinstance(self.chosen, slice):
            return int(self.chosen.stop - self.chosen.start)
        return len(self.chosen)


def per_tensor(values: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return views of the entries of each tensor."""
    return list(torch.split_with_sizes(values, sizes))  # in less than half the time of `split`


def runs_of(sizes: Sequence[int], most: int) -> Iterator[slice]:
    """Cut tensors into runs of up to `most` entries together, or one larger tensor.

    Args:
        sizes: Number of entries of each tensor.
        most: Entries of a run.

    Yields:
        Which tensors belong to each run.

    Example:
        >>> list(runs_of([2, 2, 9, 1], 4))
        [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    first, count = 0, 0
    for index, size in enumerate(sizes):
        if count and count + size > most:
            yield slice(first, index)
            first, count = index, 0
        count += size
    yield slice(first, len(sizes))


def means_of(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the mean of each tensor's entries, shape (tensors,)."""
    if values.device.type == "cpu" and not values.requires_grad:
        starts, counts = starts_and_counts(tuple(sizes))
        sums = np.add.reduceat(values.numpy(), starts)
        return torch.from_numpy(sums / counts.astype(sums.dtype))
    return torch.stack([piece.mean() for piece in per_tensor(values, sizes)])


def spread(numbers: Tensor, sizes: Sequence[int]) -> Tensor:
    """Repeat the number of each tensor for each of its entries, to multiply all of them at once.

    A pass over all entries costs less than a call for each of many small tensors.

    Args:
        numbers: Shape (tensors,). Gradients flow through.
        sizes: Number of entries of each tensor.

    Returns:
        Shape (entries,); for a single tensor (1,), which broadcasts.
    """
    if len(sizes) == 1:
        return numbers
    _, counts = starts_and_counts(tuple(sizes))
    if numbers.device.type == "cpu" and not numbers.requires_grad:  # in a fifth of torch's time
        return torch.from_numpy(np.repeat(numbers.numpy(), counts))
    repeats = torch.tensor(counts, device=numbers.device)
    return torch.repeat_interleave(numbers, repeats, output_size=sum(sizes))


@lru_cache(maxsize=64)
def starts_and_counts(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return where each tensor's entries begin, and how many they are, int64; for each layout."""
    counts = np.array(sizes)
    return np.cumsum(counts) - counts, counts


@lru_cache(maxsize=64)
def _places(sizes: tuple[int, ...]) -> list[list[int]]:
    """Return where eight entries of each tensor lie; some twice in short ones."""
    starts, counts = starts_and_counts(sizes)
    places: list[list[int]] = (starts[:, None] + counts[:, None] * np.arange(8) // 8).tolist()
    return places


def is_matrix(parameter: Tensor) -> bool:
    """Whether a parameter, flattened after its first dimension, has rows and columns, not one."""
    if parameter.is_complex() or parameter.dim() < 2:
        return False
    return parameter.shape[0] > 1 and prod(parameter.shape[1:]) > 1


def is_orthogonalized(group: Mapping[str, Any]) -> bool:
    """Whether a parameter group is one of Muon's: it says so, or has options that Muon has."""
    return bool(group.get("orthogonalize", "ns_steps" in group))


def decoupled_decay(group: Mapping[str, Any]) -> float:
    """Return the share of its parameters that a group's decoupled weight decay takes at a step.

    0 for weight decay that enters the gradient. torch says `decoupled_weight_decay`, its Adafactor
    is told by an option of its own; pytorch_optimizer says `weight_decouple`, and `fixed_decay`
    where the learning rate is no factor.
    """
    decay, rate = group.get("weight_decay"), group.get("lr")
    known = group.get("decoupled_weight_decay"), is_orthogonalized(group), "beta2_decay" in group
    if not decay or rate is None or not group.get("weight_decouple", any(known)):
        return 0.0
    if group.get("weight_decouple") and group.get("fixed_decay"):
        return float(decay)
    estimate = float(group["d"]) if _estimates_d(group) else 1.0
    return float(rate) * float(decay) * estimate


@dataclass(eq=False)
class TouchedStep:
    """One step, as far as it is known: theta and g first, then how far the base has moved.

    All vectors are flat, float32 or float64, of shape (entries,): the touched entries of the first
    tensor, then those of the second, and so on. They are the same on every process, also where
    tensors are sharded. Treat them as read-only.

    Attributes:
        rows: The touched tensors: parameter, group, and which of its entries are touched.
        sizes: Number of touched entries of each tensor.
        bounds: Runs of entries of one parameter group, as (group, start, stop).
        groups: The base optimizer's parameter groups.
        state: The base optimizer's state of each parameter, such as its momentum.
        theta: The parameters before the step.
        seed_and_step: The perturbation's seed and the optimizer step; they name random streams.
        strength: The schedule's strength at this step.
        decays: For each parameter group, the share of the parameters that decoupled weight decay
            takes away in this step: lr * weight_decay; empty where nothing needs the base's step.
        memory: What the injection keeps from step to step, tensors by name; saved in checkpoints.
        evaluated: What the injection's `evaluate` returned.
        kept: What the injection works out once per optimizer, by name; not saved: a copy of the
            optimizer and a resumed run work it out anew.
        gradient: The gradient of what is minimised (negated where a group maximises), as the base
            saw it. A RuntimeError if it was not asked for.
        base_step: How far the base optimizer has moved the entries, weight decay included. A
            RuntimeError if it was not asked for, or the base has not moved yet.
    """

    rows: tuple[Row, ...]
    sizes: Sequence[int]
    bounds: Bounds
    groups: ParamGroups
    state: Mapping[Any, Any]
    theta: Tensor
    seed_and_step: tuple[int, int]
    strength: float
    decays: Sequence[float]
    memory: dict[str, Tensor] = field(default_factory=dict)
    evaluated: Any = None
    kept: dict[str, Any] = field(default_factory=dict, repr=False)
    gradient: Tensor = field(init=False, repr=False)
    base_step: Tensor = field(init=False, repr=False)
    _without_decay: Tensor | None = field(default=None, repr=False)

    def __getattr__(self, name: str) -> Any:
        """Say why an attribute is missing."""
        if name in ("gradient", "base_step"):
            raise RuntimeError(
                f"`{name}` of this step was not read: it costs time, and the base optimizer "
                f"changes it. Set `needs_{name} = True` in the class that uses it."
            )
        raise AttributeError(name)

    @property
    def has_moved(self) -> bool:
        """Whether the base optimizer's step is known."""
        return "base_step" in vars(self)

    @property
    def learning_rates(self) -> Any:
        """The step size of each entry; see the function `learning_rates`."""
        return learning_rates(self.groups, self.bounds, self.theta)

    def of_groups(self, option: str) -> Any:
        """Return an option of the parameter groups: one for all, or one per entry, (entries,)."""
        return _of_groups(option, self.groups, self.bounds, self.theta)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each touched tensor."""
        return tuple(row.name for row in self.rows)

    def without_decay(self) -> Tensor:
        """Return the base's step without what decoupled weight decay did, shape (entries,).

        Where an optimizer adds weight decay to the gradient, as `torch.optim.SGD` and `Adam` do,
        the two are mixed and the decay stays in.
        """
        if self._without_decay is None:
            self._without_decay = self._find_without_decay() if any(self.decays) else self.base_step
        return self._without_decay

    def _find_without_decay(self) -> Tensor:
        if len(self.bounds) == 1:
            step = torch.add(self.base_step, self.theta, alpha=self.decays[self.bounds[0][0]])
        else:
            step = self.base_step.clone()
            for index, start, stop in self.bounds:
                step[start:stop].add_(self.theta[start:stop], alpha=self.decays[index])
        residue = self._residue()
        may_rest = self._may_rest(step, residue)
        start = 0
        for index, (row, size) in enumerate(zip(self.rows, self.sizes, strict=True)):
            here = slice(start, start + size)
            if row.parameter.grad is None and not hasattr(row.parameter, "placements"):
                step[here] = 0.0  # not even its decay has moved it
            elif not self.decays[row.group]:
                pass
            elif row.parameter.dtype in LOW_PRECISION:
                step[here] = self.base_step[here] - self._coarse_decay(row, here)
            elif may_rest is None or may_rest[index]:
                _clear_rounding(step[here], self.theta[here], residue)
            start += size
        return step

    def _may_rest(self, step: Tensor, residue: float) -> list[bool] | None:
        """Say of each tensor whether its decay alone may have moved it, by a few entries.

        None where to look would be to wait for another device.
        """
        if step.device.type != "cpu":
            return None
        # In Python: the first entry of most tensors is enough, and after the base's step the
        # caches hold nothing of NumPy. Several: rows of an embedding are often at rest.
        moved, stood = (each.detach().numpy().item for each in (step, self.theta))
        return [
            all(abs(moved(place)) <= residue * abs(stood(place)) for place in places)
            for places in _places(tuple(self.sizes))
        ]

    def _residue(self) -> float:
        """Return what rounding leaves, at most, of a decay that is taken off, per unit of theta."""
        eps = torch.finfo(self.theta.dtype).eps
        for rate in (group.get("lr") for group in self.groups):
            if isinstance(rate, Tensor) and rate.is_floating_point():
                eps = max(eps, torch.finfo(rate.dtype).eps)
        return 2.0 * eps

    def _coarse_decay(self, row: Row, here: slice) -> Tensor:
        """Return how far its decay has moved a tensor of few digits: often not at all."""
        theta = self.theta[here]
        kept = (theta * (1.0 - self.decays[row.group])).to(row.parameter.dtype)
        return kept.to(theta.dtype).sub_(theta)

    def parts(self, most: int) -> Iterator[tuple[slice, "TouchedStep"]]:
        """Cut the step into runs of whole tensors of up to `most` entries, or one larger tensor.

        Yields:
            Where each run lies in the flat vectors, and the step on these tensors alone.
        """
        if self.theta.numel() <= most:
            yield slice(0, self.theta.numel()), self
            return
        start = 0
        for rows in runs_of(self.sizes, most):
            stop = start + sum(self.sizes[rows])
            yield slice(start, stop), self._part(rows, start, stop)
            start = stop

    def _part(self, rows: slice, start: int, stop: int) -> "TouchedStep":
        runs = [(g, max(a, start) - start, min(b, stop) - start) for g, a, b in self.bounds]
        part = replace(
            self,
            rows=self.rows[rows],
            sizes=self.sizes[rows],
            bounds=[(group, a, b) for group, a, b in runs if b > a],
            theta=self.theta[start:stop],
            _without_decay=None,
        )
        for name in ("gradient", "base_step"):
            if name in vars(self):
                setattr(part, name, getattr(self, name)[start:stop])
        return part

    def draw(self, draw: Callable[[np.random.Generator, int], np.ndarray]) -> Tensor:
        """Draw numbers from each tensor's own stream of this step; see `keyed_draws`."""
        drawn = keyed_draws(draw, zip(self.names, self.sizes, strict=True), self.seed_and_step)
        return torch.from_numpy(drawn).to(self.theta)


def _clear_rounding(step: Tensor, theta: Tensor, residue: float) -> None:
    """Set the step of a tensor to 0, in place, where nothing but rounding is left of it.

    Measured by its own size, the rounding would show features a step in any direction.
    """
    is_rounding = step.abs() <= theta.abs().mul_(residue)
    if step.device.type != "cpu":  # entry by entry, without waiting
        step.masked_fill_(is_rounding, 0.0)
    elif bool(is_rounding.all()):
        step.zero_()


def learning_rates(groups: ParamGroups, bounds: Bounds, theta: Tensor) -> Any:
    """Return the step size of each entry: one for all in a single group, else (entries,).

    Prodigy and D-Adaptation step by ``d * lr`` and tell their estimate d in the group; others
    by ``lr``.
    """
    rates = groups[0]["lr"] if len(groups) == 1 else _of_groups("lr", groups, bounds, theta)
    if "d" in groups[0] and all(map(_estimates_d, groups)):
        return rates * _of_groups("d", groups, bounds, theta)
    return rates


def _of_groups(option: str, groups: ParamGroups, bounds: Bounds, theta: Tensor) -> Any:
    if len(groups) == 1:
        return groups[0][option]
    values = torch.empty_like(theta)
    for index, start, stop in bounds:
        values[start:stop] = groups[index][option]
    return values


def _estimates_d(group: Mapping[str, Any]) -> bool:
    # The last name is in groups of pytorch_optimizer, whose DAdaptLion has none of the others.
    return "d" in group and not {"d0", "growth_rate", "fixed_decay"}.isdisjoint(group)

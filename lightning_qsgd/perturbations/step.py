"""What one step of the base optimizer looks like to an injection, on the touched entries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.perturbations.keyed_draws import keyed_draws


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


def is_matrix(parameter: Tensor) -> bool:
    """Whether a parameter, flattened after its first dimension, has rows and columns, not one."""
    if parameter.is_complex() or parameter.dim() < 2:
        return False
    return parameter.shape[0] > 1 and prod(parameter.shape[1:]) > 1


def is_orthogonalized(group: Mapping[str, Any]) -> bool:
    """Whether a parameter group is one of Muon's: it says so, or has options that Muon has."""
    return bool(group.get("orthogonalize", "ns_steps" in group))


@dataclass(eq=False)
class TouchedStep:
    """One step, as far as it is known: theta and g first, then how far the base has moved.

    All vectors are flat, float32 or float64, of shape (entries,): the touched entries of the first
    tensor, then those of the second, and so on. They are the same on every process, also where
    tensors are sharded. Treat them as read-only.

    Attributes:
        rows: The touched tensors: parameter, group, and which of its entries are touched.
        bounds: Runs of entries of one parameter group, as (group, start, stop).
        groups: The base optimizer's parameter groups.
        state: The base optimizer's state of each parameter, such as its momentum.
        theta: The parameters before the step.
        moment: The perturbation's seed and the optimizer step; they name random streams.
        strength: The schedule's strength at this step.
        memory: What the injection keeps from step to step, by name; saved in checkpoints.
        evaluated: What the injection's `evaluate` returned.
    """

    rows: tuple[Row, ...]
    bounds: Sequence[tuple[int, int, int]]
    groups: list[dict[str, Any]]
    state: Mapping[Any, Any]
    theta: Tensor
    moment: tuple[int, int]
    strength: float
    memory: dict[str, Tensor] = field(default_factory=dict)
    evaluated: Any = None
    _gradient: Tensor | None = field(default=None, repr=False)
    _base_step: Tensor | None = field(default=None, repr=False)

    @property
    def gradient(self) -> Tensor:
        """The gradient of what is minimised (negated where a group maximises), as the base saw it.

        Raises:
            RuntimeError: If it was not asked for.
        """
        if self._gradient is None:
            raise _unasked("gradient", "needs_gradient")
        return self._gradient

    @gradient.setter
    def gradient(self, values: Tensor) -> None:
        self._gradient = values

    @property
    def base_step(self) -> Tensor:
        """How far the base optimizer has moved the entries, weight decay included.

        Raises:
            RuntimeError: If it was not asked for; it is not known before the base has moved.
        """
        if self._base_step is None:
            raise _unasked("base_step", "needs_base_step")
        return self._base_step

    @base_step.setter
    def base_step(self, values: Tensor) -> None:
        self._base_step = values

    @property
    def has_moved(self) -> bool:
        """Whether the base optimizer's step is known."""
        return self._base_step is not None

    @property
    def learning_rates(self) -> Any:
        """The learning rate of each entry: one for all in a single group, else (entries,)."""
        return self.of_groups("lr")

    def of_groups(self, option: str) -> Any:
        """Return an option of the parameter groups: one for all, or one per entry, (entries,)."""
        if len(self.groups) == 1:
            return self.groups[0][option]
        values = torch.empty_like(self.theta)
        for index, start, stop in self.bounds:
            values[start:stop] = self.groups[index][option]
        return values

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each touched tensor."""
        return tuple(row.name for row in self.rows)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of touched entries of each tensor."""
        return tuple(row.size for row in self.rows)

    def draw(self, draw: Callable[[np.random.Generator, int], np.ndarray]) -> Tensor:
        """Draw numbers from each tensor's own stream of this step; see `keyed_draws`."""
        drawn = keyed_draws(draw, zip(self.names, self.sizes, strict=True), self.moment)
        return torch.from_numpy(drawn).to(self.theta)


def _unasked(name: str, flag: str) -> RuntimeError:
    return RuntimeError(
        f"`{name}` of this step was not read: it costs time, and the base optimizer changes it. "
        f"Set `{flag} = True` in the class that uses it."
    )

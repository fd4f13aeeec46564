"""The contract between a perturbation and whatever evaluates its circuit."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.circuits import ParametrizedCircuit


def is_ours(what: Any) -> bool:
    """Whether a class or a method is of this package; what a user's returns is looked at."""
    return str(what.__module__).startswith("lightning_qsgd.")


def is_all_ours(part: Any) -> bool:
    """Whether a part and all parts in it run no code of a user's, as far as classes tell.

    What a user's class returns may differ from call to call, and it may differentiate on its own.

    Args:
        part: A part of a perturbation, a list of parts, or a value that one of them holds.
    """
    kind = type(part)
    if isinstance(part, list | tuple):
        return all(map(is_all_ours, part))
    if not is_ours(kind):
        return kind.__module__.partition(".")[0] in _LIBRARIES
    held = vars(part).items() if hasattr(part, "__dict__") else ()
    return all(
        isinstance(getattr(kind, name, None), cached_property) or is_all_ours(value)
        for name, value in held
    )


_LIBRARIES = {"builtins", "numpy", "qiskit", "qiskit_aer", "qiskit_machine_learning", "torch"}
"""Their objects run no code of a user's, such as a number, a function's name or a circuit."""


def promises_end(cls: type, methods: set[str], **cautious: Any) -> None:
    """Take back what a class inherits and its own methods may break, unless it says so itself.

    Args:
        cls: The class that is being made.
        methods: One of its own among these breaks the promises.
        cautious: Name and cautious value of each promise.
    """
    if not methods.isdisjoint(vars(cls)):
        for name in cautious.keys() - vars(cls).keys():
            setattr(cls, name, cautious[name])


class Backend(ABC):
    """Evaluates one circuit for many inputs at once.

    A backend is immutable and holds no generator: what it needs to draw shots comes in with each
    call as `keys`, so that a draw depends on nothing but (seed, step, tensor, block).
    """

    num_qubits: int

    separable: bool = False
    """Whether the readout of qubit i depends on input i alone (no padding to blocks needed)."""

    bounded: bool = False
    """Whether every readout is known to be finite and in [-1, 1]; others are checked.

    A subclass with a `readout` of its own does not inherit the promise.
    """

    stochastic: bool = False
    """Whether `readout` draws shots and therefore needs `keys`."""

    skips: bool = False
    """Whether an evaluation may end in `SkippedStep`, for the optimizer to step without it."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        promises_end(cls, {"readout"}, bounded=False)

    @abstractmethod
    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Evaluate P(1) - P(0) of every qubit.

        Inside a step it is called under `torch.no_grad`. A backend that differentiates by itself
        does so under `torch.enable_grad`.

        Args:
            inputs: Model parameters, unitless and finite, shape (num_circuits, num_qubits);
                separable backends take any shape.
            keys: One uint64 per circuit, shape (num_circuits,), required if `stochastic`.
            weights: The circuit's own weights in radians, shape (num_weights,), in place of
                `initial_weights`. Where they require a gradient, the readout carries it.

        Returns:
            A tensor of the shape, dtype and device of `inputs`, each entry in [-1, 1].
        """

    def initial_weights(self) -> Tensor:
        """Return the circuit's own weights in radians, shape (num_weights,), float64, on the CPU.

        Empty for a backend whose circuit has none.
        """
        return torch.zeros(0, dtype=torch.float64)

    def describe(self) -> ParametrizedCircuit | None:
        """Return the circuit that is evaluated, to draw it; None if there is nothing to draw."""
        return None

    def circuits_for(self, num_blocks: int) -> int:
        """Count the circuits evaluated for `num_blocks` rows of inputs."""
        return num_blocks

    def check_blocks(self) -> None:  # noqa: B027 - most backends read out what comes in
        """Raise a ValueError if a perturbation cannot be read from this backend."""

    def check_capacity(self, num_blocks: int) -> None:  # noqa: B027 - most backends have no limit
        """Raise a ValueError if `num_blocks` circuits per step cannot fit into memory."""

    def check_ready(self) -> None:  # noqa: B027 - most backends are
        """Raise what stands in the way of an evaluation, before a training starts.

        Called once when an optimizer is wrapped, and not when a config is read.
        """

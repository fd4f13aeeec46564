"""The wrapper's own state, kept apart from the base optimizer's."""

from dataclasses import dataclass, field, fields, replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from lightning_qsgd.optimizers.pending import Pending
from lightning_qsgd.perturbations import Learning, Perturbation


@dataclass(frozen=True)
class Learned:
    """Learned factor of the strength and weights of the circuit, after some step.

    Attributes:
        learning: How fast is learned.
        factor: Multiplies the schedule's strength, non-negative; 1 at the start.
        weights: The circuit's weights in radians, shape (num_weights,), float64, on the CPU; None
            if they are not learned.
        pending: The last perturbation, whose effect the next gradient tells; None if there was
            none.
    """

    learning: Learning
    factor: float = 1.0
    weights: Tensor | None = None
    pending: Pending | None = None

    @staticmethod
    def fresh(perturbation: Perturbation) -> "Learned | None":
        """Return what is known before the first step; None if nothing is learned."""
        learning = perturbation.learning
        if learning is None:
            return None
        own = perturbation.backend.initial_weights() if learning.weights_rate > 0 else None
        return Learned(learning, weights=own)

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, safe for ``torch.load(weights_only=True)``."""
        pending = None if self.pending is None else self.pending.to_dict()
        return {"factor": self.factor, "weights": self.weights, "pending": pending}

    def loaded(self, saved: Any) -> "Learned":
        """Return what was saved; `self` says what is learned, and for which circuit.

        Raises:
            ValueError: If a value is damaged or belongs to another circuit.
        """
        saved = saved if isinstance(saved, dict) else {}
        factor, weights, pending = (saved.get(name) for name in ("factor", "weights", "pending"))
        if not (isinstance(factor, float) and isfinite(factor) and factor >= 0):
            raise _damaged("factor", factor, "a non-negative number")
        if self.weights is None:
            weights = None
        elif weights is None:  # they were frozen until now
            weights = self.weights
        elif not _is_like(weights, self.weights):
            raise _damaged("weights", weights, f"{len(self.weights)} finite angles")
        else:
            weights = weights.detach().to("cpu", torch.float64, copy=True)
        pending = None if pending is None else Pending.from_dict(pending)
        return replace(self, factor=factor, weights=weights, pending=pending)


def _is_like(weights: Any, expected: Tensor) -> bool:
    return (
        isinstance(weights, Tensor)
        and weights.shape == expected.shape
        and bool(torch.isfinite(weights).all())
    )


def _damaged(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(
        f"Cannot load what the perturbation learned: `{name}` is {value!r} instead of {expected}. "
        "The checkpoint is damaged or belongs to another circuit; load another one."
    )


@dataclass
class OwnState:
    """Counters of a perturbed optimizer, and what its perturbation has learned.

    Attributes:
        steps: Optimizer steps taken; names the shots and drives the strength's schedule.
        due: Steps at which the strength was positive.
        applied: Steps at which at least one entry was perturbed; not those at which the strength
            was learned to be 0.
        skipped: Steps that were taken without their perturbation, since its circuits failed.
        circuits: Circuits evaluated, each attempt counted, where a backend counts them.
        learned: Learned strength and weights; None if the perturbation learns nothing.
        memory: What an injection keeps from step to step, by name.
    """

    steps: int = 0
    due: int = 0
    applied: int = 0
    skipped: int = 0
    circuits: int = 0
    learned: Learned | None = None
    memory: dict[str, Tensor] = field(default_factory=dict)

    @property
    def awaits_gradient(self) -> bool:
        """Whether the next gradient tells something, even if no perturbation is due."""
        return self.learned is not None and self.learned.pending is not None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values and tensors, safe for ``torch.load(weights_only=True)``."""
        learned = {} if self.learned is None else {"learned": self.learned.to_dict()}
        memory = {"memory": dict(self.memory)} if self.memory else {}
        return {name: getattr(self, name) for name in _COUNTERS} | learned | memory

    def forget_pending(self) -> None:
        """Learn nothing from the last perturbation: the parameters have been exchanged since."""
        if self.learned is not None:
            self.learned = replace(self.learned, pending=None)

    def load(self, saved: Any) -> None:
        """Overwrite the counters, and what was learned, with saved ones.

        A state that was saved without learning leaves alone what is learned; a perturbation that
        learns nothing leaves out what was.

        Raises:
            ValueError: If a counter is missing or not a non-negative integer, or what was learned
                is damaged. Nothing is overwritten then.
        """
        for name in _COUNTERS:
            value = saved.get(name) if isinstance(saved, dict) else None
            if not isinstance(value, int) or value < 0:
                raise ValueError(
                    f"Cannot load the perturbation's state: `{name}` is {value!r} instead of a "
                    "non-negative integer. The checkpoint is damaged; load an earlier one."
                )
        memory = saved.get("memory", {})
        if not isinstance(memory, dict) or not all(isinstance(v, Tensor) for v in memory.values()):
            raise ValueError(
                f"Cannot load the perturbation's state: `memory` is {memory!r} instead of tensors "
                "by name. The checkpoint is damaged; load an earlier one."
            )
        if self.learned is not None and saved.get("learned") is not None:
            self.learned = self.learned.loaded(saved["learned"])
        for name in _COUNTERS:
            setattr(self, name, saved[name])
        self.memory = {name: tensor.clone() for name, tensor in memory.items()}


_COUNTERS = tuple(f.name for f in fields(OwnState) if f.name not in ("learned", "memory"))

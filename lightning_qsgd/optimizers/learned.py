"""What a perturbation has learned so far, and what it waits to learn from."""

from dataclasses import dataclass, replace
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

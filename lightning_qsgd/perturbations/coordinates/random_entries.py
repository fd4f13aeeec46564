"""A fresh random subset of each tensor at each step."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.perturbations.coordinates.coordinates import (
    CountedCoordinates,
    Moment,
    TensorSpec,
)
from lightning_qsgd.perturbations.keys import stream_key


@dataclass(frozen=True)
class RandomEntries(CountedCoordinates):
    """Perturbs a random subset of each tensor, drawn anew at every step.

    The draw depends on (seed, step, tensor name) alone: it is the same on every process of a
    distributed run and after a resume, and touches no global generator.

    Args:
        count: Entries per tensor, at least 1; None takes one per qubit.

    Raises:
        ValueError: If `count` is below 1.

    Example:
        >>> len(RandomEntries().choose(TensorSpec("0", 9, 0), Moment(0, 0, 4), lambda: None))
        4
    """

    changes = True

    def choose(
        self, spec: TensorSpec, moment: Moment, gradient: Callable[[], Tensor]
    ) -> slice | Tensor:
        """Choose the subset of this step, in random order; see `Coordinates.choose`."""
        length = self.num_chosen(spec, moment.num_qubits)
        generator = np.random.default_rng(stream_key(moment.seed, moment.step, spec.name))
        return torch.from_numpy(generator.choice(spec.numel, size=length, replace=False))

"""The perturbation with its readouts given to the wrong entries."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.perturbations.controls.control import Control, Replaced


@dataclass(frozen=True)
class PermutedControl(Control):
    """Gives each entry the readout of another entry of its tensor, then restores the norm.

    The circuits are evaluated, and their readouts are all used, at the same gradients: only what
    ties a readout to its own parameter is lost. The permutation is a single random cycle, so that
    no entry keeps its own readout; a uniform one would leave one entry in place on average, of
    only four. A tensor with one perturbed entry has nothing to permute and is perturbed as usual.

    Example:
        >>> import torch
        >>> u = torch.tensor([0.1, 0.2, 0.3])
        >>> step = Replaced(torch.ones(3), u, torch.zeros(3), ("0",), (3,), (0, 0))
        >>> added = PermutedControl().replace(step)
        >>> bool((added != u).all()), torch.allclose(added.sort().values, u)
        (True, True)
    """

    def replace(self, replaced: Replaced) -> Tensor:
        """Return the sizes of wrong readouts, rescaled; see `Control.replace`."""
        sources = replaced.draw(_cycle)
        starts = np.cumsum([0, *replaced.sizes[:-1]])
        sources += torch.from_numpy(np.repeat(starts, replaced.sizes))
        swapped = replaced.modulation[sources.to(replaced.modulation.device)]
        direction = torch.nan_to_num_(replaced.coefficients * swapped, 0.0, 0.0, 0.0)
        return replaced.matched(direction)


def _cycle(generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw a permutation that is one cycle through all of `size` places, int64, shape (size,)."""
    order = generator.permutation(size)
    sources = np.empty(size, dtype=np.int64)
    sources[order] = np.roll(order, 1)
    return sources

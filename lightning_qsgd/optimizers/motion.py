"""How far parameters moved, and whether they moved without their wrapper.

An unperturbed run must not look perturbed.
"""

from collections.abc import Iterable, Iterator
from typing import Any
from weakref import finalize, ref

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lightning_qsgd.optimizers.report import without_overflow
from lightning_qsgd.optimizers.rows import ParamGroups, as_real, parameters_of, takes_part
from lightning_qsgd.optimizers.sharding import Meshes, local_of


class MotionWatch:
    """Counts the steps that a base takes past its wrapper.

    Optimizers inside the base count as well: two-phase optimizers step an inner one in methods
    of their own. A step that no hook of torch's sees shows only in `fingerprint`.

    Args:
        base: The wrapped optimizer.

    Attributes:
        inside: Set while the wrapper itself steps the base.
        past: Steps past the wrapper.
        last: Class of the optimizer that took the last of them.
    """

    def __init__(self, base: Optimizer) -> None:
        self.inside = False
        self.past = 0
        self.last = ""
        for optimizer in _nested(base, set()):
            handle = optimizer.register_step_post_hook(_Hook(self))
            finalize(self, handle.remove)

    def see(self, optimizer: Optimizer) -> None:
        """Take note of a step."""
        if not self.inside:
            self.past += 1
            self.last = type(optimizer).__name__


class _Hook:
    """A post-hook that keeps neither its watch alive nor copies of the optimizer in touch."""

    def __init__(self, watch: MotionWatch | None = None) -> None:
        self._watch = None if watch is None else ref(watch)

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        watch = None if self._watch is None else self._watch()
        if watch is not None:
            watch.see(optimizer)

    def __reduce__(self) -> Any:
        return _Hook, ()


def _nested(value: Any, seen: set[int]) -> Iterator[Optimizer]:
    """Find an optimizer and those among its attributes, also in lists and mappings."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Optimizer):
        if hasattr(value, "_optimizer_step_post_hooks"):
            yield value
        inner: Iterable[Any] = [v for k, v in vars(value).items() if k not in _LARGE]
    elif isinstance(value, list | tuple):
        inner = value
    elif isinstance(value, dict):
        inner = value.values()
    else:
        return
    for item in inner:
        yield from _nested(item, seen)


_LARGE = {"state", "param_groups", "defaults"}


def fingerprint(parameters: Iterable[Tensor]) -> dict[int, Tensor]:
    """Return one number per trainable parameter that changes when it moves.

    Numbers stay on the parameters' devices; keys are the parameters' identities. What is lazy has
    no entries yet and is left out.
    """
    with torch.no_grad():
        return {
            id(parameter): as_real(local_of(parameter.detach())).sum(dtype=torch.float64)
            for parameter in parameters
            if parameter.requires_grad and not is_lazy(parameter)
        }


def moved(before: dict[int, Tensor], after: dict[int, Tensor]) -> set[int]:
    """Return the identities of the parameters in both fingerprints that differ; NaN equals NaN."""
    return {
        key
        for key, now in after.items()
        if key in before and not torch.equal(*torch.nan_to_num(_pair(before[key], now)))
    }


def _pair(before: Tensor, now: Tensor) -> Tensor:
    return torch.stack([before.cpu(), now.cpu()])


class Snapshot:
    """Copies all parameters that have a gradient; the others do not move.

    Of sharded parameters each process copies what it holds, and the squares are added up.

    Args:
        groups: The optimizer's parameter groups.
    """

    def __init__(self, groups: ParamGroups) -> None:
        self._moving = [p for p in parameters_of(groups) if takes_part(p)]
        self._copies = [as_real(local_of(p)).clone() for p in self._moving]

    def squared_distance(self) -> Tensor:
        """Return the squared norm of the change since the copy was made, 0-dim."""
        norms = [
            torch.linalg.vector_norm(
                without_overflow(as_real(local_of(p))) - without_overflow(copy)
            )
            for p, copy in zip(self._moving, self._copies, strict=True)
        ]
        squares = torch.stack([norm.to(norms[0].device) for norm in norms]).square()
        meshes = Meshes(self._moving, [1] * len(self._moving))
        own = torch.tensor(meshes.counts, device=squares.device)
        return meshes.complete_(torch.where(own, squares, 0.0)).sum()

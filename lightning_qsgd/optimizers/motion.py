"""How far parameters moved, and whether they moved without their wrapper, or in spite of it.

An unperturbed run must not look perturbed.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from weakref import finalize, ref

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.report import without_overflow
from lightning_qsgd.optimizers.rows import (
    as_real,
    is_of_unknown_class,
    parameters_of,
    specs_of,
    steps_as_torch,
    takes_part,
)
from lightning_qsgd.optimizers.sharding import local_of
from lightning_qsgd.optimizers.touched import indexed_entries
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.perturbations.step import ParamGroups, Row


class MotionWatch:
    """Counts the steps that a base takes past its wrapper.

    Optimizers inside the base count as well: two-phase optimizers step an inner one in methods
    of their own. One that shares no parameter with the base, such as the partner in a GAN, is only
    referred to. A step that no hook of torch's sees shows only in `fingerprint`.

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
        for optimizer in nested_optimizers(base):
            if optimizer is base or share_parameters(base, optimizer):
                handle = optimizer.register_step_post_hook(MotionHook(self))
                finalize(self, handle.remove)


class MotionHook:
    """A post-hook that keeps neither its watch alive nor copies of the optimizer in touch."""

    def __init__(self, watch: MotionWatch | None = None) -> None:
        self._watch = None if watch is None else ref(watch)

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Count a step that the wrapper did not take."""
        watch = None if self._watch is None else self._watch()
        if watch is not None and not watch.inside:
            watch.past += 1
            watch.last = type(optimizer).__name__

    def __reduce__(self) -> Any:
        return MotionHook, ()


def nested_optimizers(optimizer: Optimizer) -> Iterator[Optimizer]:
    """Yield an optimizer and those among its attributes, also in lists and mappings."""
    return _nested(optimizer, set())


def _nested(value: Any, seen: set[int]) -> Iterator[Optimizer]:
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


def share_parameters(one: Optimizer, other: Optimizer) -> bool:
    """Whether two optimizers hold a parameter in common; else one merely refers to the other."""
    own = set(map(id, parameters_of(one.param_groups)))
    return not own.isdisjoint(map(id, parameters_of(other.param_groups)))


class CopyWatch:
    """Warns of a base that writes its parameters from copies that it keeps.

    Float32 masters of bfloat16 parameters are such copies. The base's next step overwrites what
    was added to the parameters. So, after the base's step and before the addition, all that has
    moved equals a tensor that the base keeps, rounded to the parameter's precision. An average, or
    a copy of where a step or a training started, equals it at a step or two, not at all of them.

    Looked at are a few parameters at the first steps, of bases that are not torch's own.

    Args:
        base: The wrapped optimizer.
        perturbation: What is added.

    Attributes:
        watching: Whether there is more to see.
    """

    def __init__(self, base: Optimizer, perturbation: Perturbation) -> None:
        adds = not perturbation.is_off and perturbation.injection.enters == "update"
        self.watching = adds and not steps_as_torch(base)
        self._left: dict[int, Tensor] = {}
        self._suspects: set[int] | None = None
        self._comparisons = 0

    def see(self, base: Optimizer) -> None:
        """Compare parameters, as the base has left them, with what it keeps.

        Args:
            base: The same; it has just moved.
        """
        with torch.no_grad():
            parameters = _looked_at(base)
            now = {id(p): _first_entries(p).clone() for p in parameters}
            before, self._left = self._left, now
            if not before:  # what the base left at its first step says nothing yet
                return
            kept = _kept_by(base)
            found = {
                id(p)
                for p in parameters
                if id(p) in before and _is_copied(p, before[id(p)], now[id(p)], kept)
            }
        self._suspects = found if self._suspects is None else self._suspects & found
        self._comparisons += 1
        self.watching = bool(self._suspects) and self._comparisons < COMPARISONS
        if self._suspects and not self.watching:
            warnings.warn(_COPIED.format(type(base).__name__), stacklevel=6)
        if not self.watching:
            self._left = {}


COMPARISONS = 3
"""Steps in a row at which parameters must equal a copy for the warning."""

LOOKED_AT = 4
"""Parameters of each dtype that are compared with what a base keeps."""

_COPIED = (
    "{} seems to write its parameters from copies that it keeps, as float32 masters of bfloat16 "
    f"parameters are: at {COMPARISONS} steps in a row, all that moved equalled such a copy. Each "
    "step then forgets what was added to the parameters before it, or a part of it, and the "
    "perturbation does not add up. Use GradientInjection, which reaches the copies through the "
    "gradient; or let the optimizer hold what you now call the copies as its parameters; or train "
    "float32 parameters with precision='bf16-mixed'. If it only notes where each step ended, "
    "nothing is wrong."
)


def _looked_at(base: Optimizer) -> list[Tensor]:
    """Return the first parameters of each dtype that have a gradient and a readable memory."""
    chosen: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters_of(base.param_groups):
        is_dense = not is_lazy(parameter) and parameter.layout == torch.strided
        if takes_part(parameter) and is_dense and not is_of_unknown_class(parameter):
            those = chosen.setdefault(parameter.dtype, [])
            if len(those) < LOOKED_AT:
                those.append(parameter)
    return [parameter for those in chosen.values() for parameter in those]


def _first_entries(tensor: Tensor) -> Tensor:
    return as_real(local_of(tensor.detach())).reshape(-1)[:SAMPLE]


def _kept_by(base: Optimizer) -> list[Tensor]:
    """Return the tensors that a base and the optimizers inside it keep beside its parameters."""
    own = {id(each) for p in parameters_of(base.param_groups) for each in (p, p.grad)}
    inner = [vars(optimizer) for optimizer in nested_optimizers(base)]
    states = [optimizer.state for optimizer in nested_optimizers(base)]
    return [t for t in _tensors_in([inner, states], set()) if id(t) not in own]


def _tensors_in(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.layout == torch.strided and not is_of_unknown_class(value):
            yield value
    elif isinstance(value, list | tuple | dict) and id(value) not in seen:
        seen.add(id(value))
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item, seen)


def _is_copied(parameter: Tensor, before: Tensor, now: Tensor, kept: Sequence[Tensor]) -> bool:
    """Whether all that moved since the base's last step equals something that it keeps."""
    has_moved = before != now
    if not has_moved.any():
        return False
    memory = local_of(parameter.detach()).data_ptr()
    return any(
        torch.equal(_first_entries(copy).to(now)[has_moved], now[has_moved])
        for copy in kept
        if copy.shape == parameter.shape
        and copy.is_floating_point() == parameter.is_floating_point()
        and local_of(copy.detach()).data_ptr() != memory
    )


def fingerprint(parameters: Iterable[Tensor]) -> dict[int, Tensor]:
    """Return one number per trainable parameter that changes when it moves.

    Numbers stay on the parameters' devices; keys are the parameters' identities. What is lazy has
    no entries yet and is left out.
    """
    with torch.no_grad():
        return {
            id(parameter): _total(as_real(local_of(parameter.detach())))
            for parameter in parameters
            if parameter.requires_grad and not is_lazy(parameter)
        }


WITHOUT_FLOAT64 = ("mps",)
"""Devices that have none; their float32 would round small moves away."""


def _total(values: Tensor) -> Tensor:
    if values.device.type in WITHOUT_FLOAT64:
        return values.float().contiguous().view(torch.int32).sum()
    return values.sum(dtype=torch.float64)


def moved(before: dict[int, Tensor], after: dict[int, Tensor]) -> set[int]:
    """Return the identities of the parameters in both fingerprints that differ; NaN equals NaN."""
    return {
        key
        for key, now in after.items()
        if key in before and not torch.equal(*torch.nan_to_num(_pair(before[key], now)))
    }


def _pair(before: Tensor, now: Tensor) -> Tensor:
    return torch.stack([before.cpu(), now.cpu()])


SAMPLE = 2**14
"""Entries whose motion is followed, at most: their places and values take less than 1 MB."""

SEED = 20251101
"""Of the draw of these entries."""


class Estimate(NamedTuple):
    """A sum over all entries of the model, from some of them.

    Attributes:
        total: The sum, 0-dim; its expectation over draws is the sum itself.
        error: Its standard error, 0-dim; 0 where every entry was looked at.
    """

    total: Tensor
    error: Tensor


class MotionSample:
    """Estimates how far the whole model moves in a step, from a fixed sample of its entries.

    The entries of all parameters that have a gradient (the others do not move) are cut into equal
    stretches, and one entry is drawn from each: an entry stands for its stretch. Small models are
    looked at whole. All processes draw the same entries of sharded parameters.
    """

    def __init__(self) -> None:
        self._known: list[tuple[int, torch.Size]] = []
        self._entries: Entries | None = None
        self._stretches = torch.empty(0)

    def start(self, groups: ParamGroups, expected: bool = False) -> "Snapshot":
        """Remember where the sampled entries are now.

        Args:
            groups: Parameter groups.
            expected: Whether gradients are still to come, which any trainable parameter may have.
        """
        moving = [
            each
            for each in specs_of(groups)
            if each[2].numel and (takes_part(each[0]) or (expected and each[0].requires_grad))
        ]
        known = [(id(parameter), parameter.shape) for parameter, *_ in moving]
        if self._entries is None or known != self._known:
            drawn, self._stretches = _drawn([spec.numel for *_, spec in moving])
            pairs = zip(moving, drawn, strict=True)
            self._known = known
            self._entries = indexed_entries(
                [Row(p, group, spec.name, where) for (p, group, spec), where in pairs if len(where)]
            )
        return Snapshot(self._entries, self._stretches)


def _drawn(sizes: Sequence[int]) -> tuple[list[Tensor], Tensor]:
    """Draw entries of tensors of these sizes.

    Returns:
        Flat indices of each tensor, int64, and how many entries each drawn one stands for.
    """
    total = sum(sizes)
    count = min(total, SAMPLE)
    edges = np.arange(count + 1) * total // count
    stretches = np.diff(edges)
    flat = edges[:-1] + np.random.default_rng(SEED).integers(0, stretches)
    stops = np.cumsum(sizes)
    pieces = np.split(flat, np.searchsorted(flat, stops[:-1]))
    drawn = [torch.from_numpy(p - (s - n)) for p, s, n in zip(pieces, stops, sizes, strict=True)]
    return drawn, torch.from_numpy(stretches)


class Snapshot:
    """Where sampled entries were.

    Args:
        entries: The sample.
        stretches: How many entries each of them stands for, int64.
    """

    def __init__(self, entries: Entries, stretches: Tensor) -> None:
        self._entries, self._stretches = entries, stretches
        self._before = entries.read_parameters()

    def squared_distance(self) -> Estimate:
        """Estimate the squared norm of the whole model's change since.

        The error is that of a sample drawn at large, which is no smaller than this one's.
        """
        now = without_overflow(self._entries.read_parameters())
        squares = now.sub_(without_overflow(self._before)).square_()
        stretches = self._stretches.to(squares)
        count, total = len(squares), float(self._stretches.sum())
        missing = (1 - count / total) / count
        error = total * (squares.var() * missing).sqrt() if missing else squares.new_zeros(())
        return Estimate(squares.dot(stretches), error)

"""The wrapper's own state, kept apart from the base optimizer's: counters and what was learned."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.rows import real_numel, specs_of
from lightning_qsgd.optimizers.touched import indexed_entries
from lightning_qsgd.perturbations import Learning, Perturbation
from lightning_qsgd.perturbations.step import ParamGroups, Row

Place = tuple[int, int, slice | Tensor]
"""A parameter's position in its optimizer, its size, and the indices of its touched entries."""


@dataclass(frozen=True)
class Pending:
    """What one step added, per unit of what is learned.

    Attributes:
        places: The touched entries.
        step: The optimizer step at which it was added; names the shots.
        direction: What a factor of 1 adds, c * u, shape (entries,).
        coefficients: What a modulation of 1 adds, c, shape (entries,); None if no weights are
            learned.
        inputs: What the circuit saw: the parameters before the step, or features, shape (entries,)
            or (features, entries); None if no weights are learned.
        entries: The touched entries, as long as they are at hand; not saved.
    """

    places: tuple[Place, ...]
    step: int
    direction: Tensor
    coefficients: Tensor | None = None
    inputs: Tensor | None = None
    entries: Entries | None = field(default=None, repr=False)

    def entries_in(self, groups: ParamGroups) -> Entries | None:
        """Find the touched entries again; None if the parameters have been exchanged since."""
        specs = list(specs_of(groups))
        if any(p >= len(specs) or specs[p][2].numel != numel for p, numel, _ in self.places):
            return None
        if self.entries is not None:
            rows = self.entries.rows
            same = all(specs[int(row.name)][0] is row.parameter for row in rows)
            return self.entries if same else None
        found = [(specs[position], chosen) for position, _, chosen in self.places]
        return indexed_entries(
            [Row(parameter, group, spec.name, chosen) for (parameter, group, spec), chosen in found]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, safe for ``torch.load(weights_only=True)``."""
        return {
            "places": [[*place, _plain(chosen)] for *place, chosen in self.places],
            "step": self.step,
            "direction": self.direction,
            "coefficients": self.coefficients,
            "inputs": self.inputs,
        }

    @staticmethod
    def from_dict(saved: Any) -> "Pending":
        """Read what `to_dict` returned.

        Raises:
            ValueError: If something is missing, unknown or impossible, or the sizes do not agree.
        """
        try:
            _refuse_unknown(saved, _PENDING)
            places = tuple(
                (_count(p), _count(n), _chosen(plain)) for p, n, plain in saved["places"]
            )
            vectors = [saved[name] for name in ("direction", "coefficients", "inputs")]
            if len({position for position, *_ in places}) < len(places):
                raise ValueError("a parameter occurs twice")
            total = sum(row_size(chosen) for *_, chosen in places)
            if not all(_lies_in(numel, chosen) for _, numel, chosen in places) or any(
                vector is not None and vector.shape[-1:] != (total,) for vector in vectors
            ):
                raise ValueError(f"expected {total} entries inside their tensors")
            if not all(vector is None or vector.is_floating_point() for vector in vectors):
                raise ValueError("expected floating-point numbers")
            return Pending(places, _count(saved["step"]), *vectors)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Cannot load the last perturbation, from which the next step learns: {error!r}. "
                "The checkpoint is damaged; load an earlier one."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return vars(replace(self, entries=None))


def places_of(rows: Sequence[Row]) -> tuple[Place, ...]:
    """Say where the touched entries lie; a row is named by its parameter's position."""
    return tuple((int(row.name), real_numel(row.parameter), row.chosen) for row in rows)


def _plain(chosen: slice | Tensor) -> list[int] | Tensor:
    return [chosen.start, chosen.stop] if isinstance(chosen, slice) else chosen


def _chosen(plain: list[int] | Tensor) -> slice | Tensor:
    return plain if isinstance(plain, Tensor) else slice(*plain)


def row_size(chosen: slice | Tensor) -> int:
    """Count the touched entries of a tensor."""
    return len(chosen) if isinstance(chosen, Tensor) else int(chosen.stop - chosen.start)


def _lies_in(numel: int, chosen: slice | Tensor) -> bool:
    """Whether there are entries, and all of them exist in a tensor of that size."""
    if isinstance(chosen, slice):
        return _count(chosen.start) < _count(chosen.stop) <= numel
    is_list = chosen.dim() == 1 and chosen.dtype == torch.int64 and len(chosen) > 0
    return is_list and int(chosen.min()) >= 0 and int(chosen.max()) < numel


def _count(value: Any) -> int:
    """Return a non-negative integer; refuse anything else, True and False too."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} instead of a non-negative integer")
    return value


_PENDING = {"places", "step", "direction", "coefficients", "inputs"}


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
        circuit: Names the circuit that the weights belong to; None if they are not learned, or the
            backend does not tell.
        older_circuit: What version 0.2 named it, for checkpoints of that version.
    """

    learning: Learning
    factor: float = 1.0
    weights: Tensor | None = None
    pending: Pending | None = None
    circuit: str | None = None
    older_circuit: str | None = None

    @staticmethod
    def fresh(perturbation: Perturbation) -> "Learned | None":
        """Return what is known before the first step; None if nothing is learned."""
        learning = perturbation.learning
        if learning is None:
            return None
        if learning.weights_rate == 0:
            return Learned(learning)
        weights, described = perturbation.backend.initial_weights(), perturbation.backend.describe()
        names = (None, None) if described is None else (described.digest, described.older_digest)
        return Learned(learning, 1.0, weights, None, *names)

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, safe for ``torch.load(weights_only=True)``."""
        pending = None if self.pending is None else self.pending.to_dict()
        saved = {"factor": self.factor, "weights": self.weights, "pending": pending}
        return saved if self.circuit is None else {**saved, "circuit": self.circuit}

    def loaded(self, saved: Any) -> "Learned":
        """Return what was saved; `self` says what is learned, and for which circuit.

        Raises:
            ValueError: If a value is damaged or belongs to another circuit.
        """
        saved = saved if isinstance(saved, dict) else {}
        _refuse_unknown(saved, {"factor", "weights", "pending", "circuit"})
        factor, weights, pending = (saved.get(name) for name in ("factor", "weights", "pending"))
        if not (isinstance(factor, float) and isfinite(factor) and factor >= 0):
            raise _damaged("factor", factor, "a non-negative number")
        if self.weights is None:
            weights = None
        elif weights is None:  # they were frozen until now
            weights = self.weights
        elif not _is_like(weights, self.weights):
            raise _damaged("weights", weights, f"{len(self.weights)} finite angles")
        elif not self._learned_for(saved.get("circuit")):
            raise ValueError(
                f"Cannot load weights that were learned for circuit {saved['circuit']}: this "
                f"optimizer evaluates circuit {self.circuit}, in which they mean something else. "
                "Build the same circuit, or start without the checkpoint."
            )
        else:
            weights = weights.detach().to("cpu", torch.float64, copy=True)
        pending = None if pending is None else Pending.from_dict(pending)
        return replace(self, factor=factor, weights=weights, pending=pending)

    def _learned_for(self, circuit: str | None) -> bool:
        """Whether a saved name is that of this circuit; none means that one of the two has none.

        Names have different lengths in versions: one of 0.2 never equals one of this version.
        """
        return None in (circuit, self.circuit) or circuit in (self.circuit, self.older_circuit)


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
        counters = {name: getattr(self, name) for name in _COUNTERS}
        return {"format": FORMAT, **counters, **learned, **memory}

    def forget_pending(self) -> None:
        """Learn nothing from the last perturbation: the parameters have been exchanged since."""
        if self.learned is not None:
            self.learned = replace(self.learned, pending=None)

    def load(self, saved: Any, groups: ParamGroups | None = None) -> None:
        """Overwrite the counters, and what was learned, with saved ones.

        A state that was saved without learning leaves alone what is learned; a perturbation that
        learns nothing leaves out what was.

        Args:
            saved: What `to_dict` returned, in this format or an older one.
            groups: The base optimizer's parameter groups, where they are known: what was learned
                from must lie in their parameters.

        Raises:
            ValueError: If something is missing, unknown or of a wrong type, was saved in a newer
                format, or belongs to another circuit or model. Nothing is overwritten then.
        """
        saved = _in_this_format(saved)
        loaded = self.learned
        if loaded is not None and saved["learned"] is not None:
            loaded = loaded.loaded(saved["learned"])
            if groups is not None and loaded.pending is not None:
                _check_positions(loaded.pending, len(list(specs_of(groups))))
        self.learned = loaded
        for name in _COUNTERS:
            setattr(self, name, saved[name])
        self.memory = {name: tensor.clone() for name, tensor in saved["memory"].items()}


FORMAT = 2
"""Format of the saved state: 1 had no number, and at first neither `skipped` nor `circuits`."""


def _in_this_format(saved: Any) -> dict[str, Any]:
    """Return a checked state with every key of this format.

    Raises:
        ValueError: If it is damaged or newer.
    """
    if not isinstance(saved, dict):
        raise _damaged_state(f"it is {saved!r} instead of a dictionary.")
    number = saved.get("format", 1)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise _damaged_state(f"`format` is {number!r} instead of a positive integer.")
    if number > FORMAT:
        raise ValueError(
            f"Cannot load the perturbation's state: it was saved in format {number}, and this "
            f"version reads up to {FORMAT}. Update lightning-qsgd, or load an older checkpoint."
        )
    added_later = {"skipped": 0, "circuits": 0} if number == 1 else {}
    full = {**added_later, "learned": None, "memory": {}, **saved}
    _refuse_unknown(full, {"format", "learned", "memory", *_COUNTERS})
    for name in _COUNTERS:
        try:
            _count(full.get(name))
        except ValueError as error:
            raise _damaged_state(f"`{name}` is {error}.") from error
    memory = full["memory"]
    if not isinstance(memory, dict) or not all(isinstance(v, Tensor) for v in memory.values()):
        raise _damaged_state(f"`memory` is {memory!r} instead of tensors by name.")
    return full


def _check_positions(pending: Pending, number: int) -> None:
    odd = [position for position, *_ in pending.places if position >= number]
    if odd:
        raise ValueError(
            f"Cannot load the last perturbation, from which the next step learns: it lies in "
            f"parameter {odd[0]}, and the optimizer has {number}. The checkpoint is damaged or "
            "belongs to another model; load another one."
        )


def _refuse_unknown(saved: dict[str, Any], known: set[str]) -> None:
    unknown = [key for key in saved if key not in known]
    if unknown:
        raise _damaged_state(f"`{unknown[0]}` is not known.", or_newer=True)


def _damaged_state(state: str, or_newer: bool = False) -> ValueError:
    reason = "damaged, or newer than this version" if or_newer else "damaged"
    return ValueError(
        f"Cannot load the perturbation's state: {state} The checkpoint is {reason}; load an "
        "earlier one."
    )


_COUNTERS = tuple(f.name for f in fields(OwnState) if f.name not in ("learned", "memory"))

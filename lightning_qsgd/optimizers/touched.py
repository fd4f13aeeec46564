"""Which entries are touched at a step, where they stood, and how long views of them stay valid."""

from collections.abc import Sequence
from itertools import chain
from operator import is_, itemgetter
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from lightning_qsgd.backends.backend import is_all_ours, is_ours
from lightning_qsgd.optimizers.entries import DenseEntries, Entries, GeneralEntries
from lightning_qsgd.optimizers.rows import (
    as_real,
    is_of_unknown_class,
    parameters_of,
    specs_of,
    takes_part,
    touched_rows,
)
from lightning_qsgd.optimizers.sharded_entries import ShardedEntries
from lightning_qsgd.optimizers.sharding import is_sharded
from lightning_qsgd.perturbations import Coordinates, Injection, Perturbation
from lightning_qsgd.perturbations.blocks import Blocks, checked_choice
from lightning_qsgd.perturbations.coordinates import Occasion
from lightning_qsgd.perturbations.features import Reader
from lightning_qsgd.perturbations.step import ParamGroups, Row, per_tensor


def indexed_entries(rows: Sequence[Row]) -> Entries:
    """Return the entries of these rows, over all processes if a tensor is sharded."""
    if any(is_sharded(row.parameter) for row in rows):
        return ShardedEntries(rows)
    return GeneralEntries(rows)


class Layout:
    """Remembers what must not change for kept views of parameters to stay valid.

    The check runs at every step, between a backward pass and the optimizer's step, when no code
    and no data of it are in the processor's caches: it is kept in few, short calls.

    Args:
        groups: Parameter groups as they are now.
        needs_all: Whether something is added without a gradient, too, so that none may be missing.
    """

    def __init__(self, groups: ParamGroups, needs_all: bool = False) -> None:
        self._lengths = list(map(len, map(_PARAMS, groups)))
        self._parameters = parameters_of(groups)
        self._addresses = list(map(Tensor.data_ptr, self._parameters))
        self._numels = list(map(Tensor.numel, self._parameters))
        self._contiguous = list(map(Tensor.is_contiguous, self._parameters))
        self._with_gradient = [p for p in self._parameters if p.grad is not None]
        self._without_gradient = [p for p in self._parameters if p.grad is None]
        # A sharded one takes part without a gradient, too.
        self._needed = [p for p in self._with_gradient if needs_all and not is_sharded(p)]

    def is_unchanged(self, groups: ParamGroups) -> bool:
        """Whether parameters, their memory and their division into groups are the same.

        A gradient that is missing now and was there before counts as zero where it is read; where
        that is enough, only that all are missing must be seen here, for which one is looked at.
        """
        return (
            self.is_in_place(groups)
            and self._with_gradient[0].grad is not None
            and not (self._without_gradient and any(map(_has_gradient, self._without_gradient)))
            and not (self._needed and not all(map(_has_gradient, self._needed)))
        )

    def holds_all(self, groups: ParamGroups) -> bool:
        """Whether no other parameter can have a gradient, and all lie where they lay."""
        return self.is_in_place(groups) and not any(p.requires_grad for p in self._without_gradient)

    def is_in_place(self, groups: ParamGroups) -> bool:
        """Whether parameters, their memory and their division into groups are the same."""
        lists = list(map(_PARAMS, groups))
        parameters = list(chain.from_iterable(lists))
        return (
            list(map(len, lists)) == self._lengths
            and all(map(is_, parameters, self._parameters))
            and list(map(Tensor.data_ptr, parameters)) == self._addresses
            and list(map(Tensor.numel, parameters)) == self._numels
            and list(map(Tensor.is_contiguous, parameters)) == self._contiguous
        )


_PARAMS = itemgetter("params")


def _has_gradient(parameter: Tensor) -> bool:
    return parameter.grad is not None


Touched = tuple[Entries, Blocks]


class Standing:
    """Where the parameters stand when a step is called.

    A base that climbs first, such as a SAM whose closure evaluates a second time, evaluates it
    elsewhere. The gradients that say which entries are touched come later, so what may be touched
    is kept.

    Args:
        pieces: For each row that may be touched, by name: its values, and whether they are those of
            the whole tensor.
    """

    def __init__(self, pieces: dict[str, tuple[Tensor, bool]]) -> None:
        self._pieces = pieces

    @staticmethod
    def of(entries: Entries) -> "Standing":
        """Return where these entries stand."""
        pieces = per_tensor(entries.read_parameters(), entries.sizes)
        named = zip(entries.rows, pieces, strict=True)
        return Standing({row.name: (piece, False) for row, piece in named})

    @staticmethod
    def before_gradients(
        groups: ParamGroups, coordinates: Coordinates, occasion: Occasion
    ) -> "Standing":
        """Return where what may be touched stands; whole tensors where a choice looks at g."""
        pieces = {}
        for parameter, group, spec in specs_of(groups):
            may_take_part = parameter.requires_grad or takes_part(parameter)
            if spec.numel == 0 or not (may_take_part or coordinates.spans_tensors):
                continue
            whole = False
            try:
                chosen = checked_choice(coordinates, spec, occasion, _ask)
            except _GradientAskedError:
                chosen, whole = slice(0, spec.numel), True
            row = Row(parameter, group, spec.name, chosen)
            if row.size:
                pieces[spec.name] = _values_of(row), whole
        return Standing(pieces)

    def at(self, entries: Entries) -> Tensor:
        """Return where these entries stood, as `Entries.read_parameters` would have."""
        pieces = [self._piece(row) for row in entries.rows]
        is_wide = any(piece.dtype == torch.float64 for piece in pieces)
        dtype = torch.float64 if is_wide else torch.float32
        return torch.cat([piece.to(pieces[0].device, dtype) for piece in pieces])

    def _piece(self, row: Row) -> Tensor:
        piece, whole = self._pieces.get(row.name, (None, False))
        if piece is None:  # frozen when the step was called: the base has not moved it
            return _values_of(row)
        return piece[row.chosen] if whole else piece


class _GradientAskedError(Exception):
    """A choice of coordinates looks at a gradient that is not there yet."""


def _ask() -> NoReturn:
    raise _GradientAskedError


def _values_of(row: Row) -> Tensor:
    if is_of_unknown_class(row.parameter):
        return GeneralEntries([row]).read_parameters()
    chosen = row.chosen
    flat = as_real(row.parameter.detach()).reshape(-1)
    return flat[chosen if isinstance(chosen, slice) else chosen.to(flat.device)].clone()


class EntriesCache:
    """Finds the touched entries of a step, reusing views of the last step where nothing moved.

    Parameters are replaced, reshaped, moved to another device or group, frozen and added while a
    training runs, so kept views are compared with the parameters at every step.

    Args:
        perturbation: Says which coordinates are touched.

    Attributes:
        evaluates_circuits: Whether the backend evaluates any; a closed form has none to charge for.
        chooses_nothing: Whether the coordinates chose no entry of any tensor, with gradient or
            without, when they were last asked. Not known while parameters await their shapes.
        without_gradients: What the entries are read and written in. Inference mode spares each of
            some forty small operations what only autograd needs, where nothing is differentiated
            at the next step, and no part of a user's may differentiate by itself or keep a tensor
            for later. One object serves all steps: making it costs as much as three of them.
        is_direct: Whether the perturbation is `Perturbation.is_direct`.
        is_sine: Whether it is `Perturbation.is_sine`.
        kept: What the injection works out once; see `TouchedStep.kept`.
    """

    without_gradients: Any

    def __init__(self, perturbation: Perturbation) -> None:
        self._perturbation = perturbation
        self._reader: tuple[Tensor | None, Reader] | None = None
        self._keeps_derivatives = perturbation.learning is not None or not is_all_ours(perturbation)
        self._coordinates = perturbation.coordinates
        self._num_qubits = perturbation.backend.num_qubits
        self._seed = perturbation.seed
        self.is_direct = perturbation.is_direct
        self.is_sine = perturbation.is_sine
        self.evaluates_circuits = perturbation.backend.circuits_for(1) > 0
        self.chooses_nothing = False
        self.kept: dict[str, Any] = {}
        self._kept: Touched | None = None
        self._layout = Layout([])

    def at(self, groups: ParamGroups, step: int) -> Touched | None:
        """Return the touched entries and their blocks; None if no touched tensor has a gradient.

        Args:
            groups: The optimizer's parameter groups.
            step: Number of perturbed steps before this one; moves choices that change.
        """
        if self._kept is not None and self._layout.is_unchanged(groups):
            return self._kept
        self._kept = None
        keeps_derivatives = self._keeps_derivatives or any(
            map(is_of_unknown_class, parameters_of(groups))
        )
        self.without_gradients = torch.no_grad() if keeps_derivatives else torch.inference_mode()
        with self.without_gradients:
            return self._found(groups, step)

    def standing(self, groups: ParamGroups, step: int) -> Standing | None:
        """Return where what may be touched stands now; None if a tensor is sharded.

        Args:
            groups: The optimizer's parameter groups.
            step: Number of perturbed steps before this one.
        """
        if any(map(is_sharded, parameters_of(groups))):
            return None
        with torch.no_grad():
            if self._kept is not None and self._layout.holds_all(groups):
                return Standing.of(self._kept[0])
            occasion = Occasion(step, self._seed, self._num_qubits)
            return Standing.before_gradients(groups, self._coordinates, occasion)

    def _found(self, groups: ParamGroups, step: int) -> Touched | None:
        rows = touched_rows(groups, self._coordinates, Occasion(step, self._seed, self._num_qubits))
        self.chooses_nothing = not rows and self._would_choose_nothing(groups)
        if not rows:
            return None
        blocks = self.blocks_of(rows)
        if self._coordinates.changes:
            return indexed_entries(rows), blocks
        entries = DenseEntries(rows) if DenseEntries.fits(rows) else indexed_entries(rows)
        if _can_be_kept(entries) and not any(map(is_lazy, parameters_of(groups))):
            self._kept = entries, blocks
            self._layout = Layout(groups, not _vanishes(self._perturbation.injection))
        return entries, blocks

    def _would_choose_nothing(self, groups: ParamGroups) -> bool:
        if any(map(is_lazy, parameters_of(groups))):
            return False
        choice, num_qubits = self._coordinates, self._num_qubits
        return not any(choice.num_chosen(spec, num_qubits) for *_, spec in specs_of(groups))

    def reader(self, blocks: Blocks, step: int, weights: Tensor | None) -> tuple[Reader, bool]:
        """Return what evaluates u, and whether it evaluates circuits at this step.

        Features whose circuit is a polynomial keep it as long as the weights are the same.

        Args:
            blocks: How the touched entries are cut into blocks.
            step: The optimizer step; names the shots.
            weights: The circuit's weights where they are learned.
        """
        features, backend = self._perturbation.seen, self._perturbation.backend
        if self._reader is not None and self._reader[0] is weights:
            return self._reader[1], False
        reader = features.reader(backend, blocks, (self._seed, step), weights)
        if features.reads_once:
            self._reader = weights, reader
        return reader, True

    def blocks_of(self, rows: Sequence[Row]) -> Blocks:
        """Return how the touched entries are cut into blocks."""
        if self._coordinates.spans_tensors:
            return Blocks(("model",), (sum(row.size for row in rows),), self._num_qubits)
        names = tuple(row.name for row in rows)
        return Blocks(names, tuple(row.size for row in rows), self._num_qubits)


def _vanishes(injection: Injection) -> bool:
    """Whether nothing is added to a tensor without a gradient: what is added is a multiple of it.

    Of an injection in a user's file this is not known.
    """
    vanishes = injection.needs_gradient or injection.needs_base_step
    return vanishes and is_ours(type(injection).coefficients)


def _can_be_kept(entries: Entries) -> bool:
    """Whether they stay valid as long as the layout does, which needs a gradient to watch."""
    if isinstance(entries, DenseEntries):
        return True
    with_gradient = any(row.parameter.grad is not None for row in entries.rows)
    return isinstance(entries, ShardedEntries) and with_gradient

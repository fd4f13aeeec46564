"""Which entries are touched at a step, and for how long views of them stay valid."""

from collections.abc import Sequence
from itertools import chain
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from lightning_qsgd.optimizers.entries import DenseEntries, Entries, GeneralEntries
from lightning_qsgd.optimizers.rows import (
    ParamGroups,
    is_of_unknown_class,
    parameters_of,
    specs_of,
    touched_rows,
)
from lightning_qsgd.optimizers.sharded_entries import ShardedEntries
from lightning_qsgd.optimizers.sharding import is_sharded
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.perturbations.blocks import Blocks
from lightning_qsgd.perturbations.coordinates import Occasion
from lightning_qsgd.perturbations.features import Reader
from lightning_qsgd.perturbations.step import Row


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
    """

    def __init__(self, groups: ParamGroups) -> None:
        self._lengths = list(map(len, map(_PARAMS, groups)))
        self._parameters = parameters_of(groups)
        self._addresses = list(map(Tensor.data_ptr, self._parameters))
        self._numels = list(map(Tensor.numel, self._parameters))
        self._contiguous = list(map(Tensor.is_contiguous, self._parameters))
        self._with_gradient = [p for p in self._parameters if p.grad is not None]
        self._without_gradient = [p for p in self._parameters if p.grad is None]

    def is_unchanged(self, groups: ParamGroups) -> bool:
        """Whether parameters, their memory and their division into groups are the same.

        A gradient that is missing now and was there before counts as zero where it is read;
        only that all are missing must be seen here, for which one is looked at.
        """
        lists = list(map(_PARAMS, groups))
        parameters = list(chain.from_iterable(lists))
        return (
            list(map(len, lists)) == self._lengths
            and all(map(is_, parameters, self._parameters))
            and list(map(Tensor.data_ptr, parameters)) == self._addresses
            and list(map(Tensor.numel, parameters)) == self._numels
            and list(map(Tensor.is_contiguous, parameters)) == self._contiguous
            and self._with_gradient[0].grad is not None
            and not (self._without_gradient and any(map(_has_gradient, self._without_gradient)))
        )


_PARAMS = itemgetter("params")


def _has_gradient(parameter: Tensor) -> bool:
    return parameter.grad is not None


Touched = tuple[Entries, Blocks]


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
            at the next step. One object serves all steps: making it costs as much as three of them.
    """

    without_gradients: Any

    def __init__(self, perturbation: Perturbation) -> None:
        self._perturbation = perturbation
        self._reader: tuple[Tensor | None, Reader] | None = None
        self._coordinates = perturbation.coordinates
        self._num_qubits = perturbation.backend.num_qubits
        self._seed = perturbation.seed
        self.evaluates_circuits = perturbation.backend.circuits_for(1) > 0
        self.chooses_nothing = False
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
        keeps_derivatives = self._perturbation.learning is not None or any(
            map(is_of_unknown_class, parameters_of(groups))
        )
        self.without_gradients = torch.no_grad() if keeps_derivatives else torch.inference_mode()
        with self.without_gradients:
            return self._found(groups, step)

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
            self._kept, self._layout = (entries, blocks), Layout(groups)
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


def _can_be_kept(entries: Entries) -> bool:
    """Whether they stay valid as long as the layout does, which needs a gradient to watch."""
    if isinstance(entries, DenseEntries):
        return True
    with_gradient = any(row.parameter.grad is not None for row in entries.rows)
    return isinstance(entries, ShardedEntries) and with_gradient

"""Which entries of which parameter are touched at one step."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.parameter import Parameter, UninitializedParameter, is_lazy
from torch.optim import Optimizer

from lightning_qsgd.optimizers.sharding import is_sharded, whole
from lightning_qsgd.perturbations import Coordinates
from lightning_qsgd.perturbations.blocks import checked_choice
from lightning_qsgd.perturbations.coordinates import Occasion, TensorSpec
from lightning_qsgd.perturbations.step import ParamGroups, Row, is_matrix, is_orthogonalized


def as_real(tensor: Tensor) -> Tensor:
    """View a tensor as real and at least 1-D; a complex entry is two, as in torch's optimizers."""
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return real if real.dim() else real.view(1)


def real_numel(tensor: Tensor) -> int:
    """Count real entries: a complex entry counts as two, and a lazy parameter has none yet."""
    return 0 if is_lazy(tensor) else tensor.numel() * (2 if tensor.is_complex() else 1)


def parameters_of(groups: ParamGroups) -> list[Tensor]:
    """List all parameters of an optimizer in order."""
    return [parameter for group in groups for parameter in group["params"]]


def specs_of(groups: ParamGroups) -> Iterator[tuple[Tensor, int, TensorSpec]]:
    """Walk over all parameters of an optimizer with their group and place in the flat vector.

    A parameter is named by its position, so that every way of building the optimizer draws the
    same noise.
    """
    offset = position = matrices = 0
    count = sum(_is_matrix(parameter) for parameter in parameters_of(groups))
    is_muon = any(map(is_orthogonalized, groups))
    for index, group in enumerate(groups):
        orthogonalized = is_orthogonalized(group) if is_muon else None
        for parameter in group["params"]:
            numel = real_numel(parameter)
            place = (matrices, count) if _is_matrix(parameter) else None
            yield parameter, index, TensorSpec(str(position), numel, offset, place, orthogonalized)
            offset += numel
            position += 1
            matrices += place is not None


def _is_matrix(parameter: Tensor) -> bool:
    return not is_lazy(parameter) and is_matrix(parameter)


def is_of_unknown_class(parameter: Tensor) -> bool:
    """Whether a parameter's class is neither torch's own nor sharded.

    Such a class may make tensors in its operations that inference mode forbids to write, and need
    not lie in one piece of memory.
    """
    return type(parameter) not in USUAL and not is_sharded(parameter)


USUAL = frozenset({Parameter, Tensor, UninitializedParameter})
"""Classes of parameters that are torch's own."""


def touched_rows(groups: ParamGroups, coordinates: Coordinates, occasion: Occasion) -> list[Row]:
    """Choose the entries to touch at this step, of all parameters that have a gradient.

    Where a block of qubits spans tensors, those without gradient stay in it, so that each entry
    keeps its qubit; their gradient counts as zero.
    """
    rows = []
    for parameter, group, spec in specs_of(groups):
        if spec.numel == 0 or not (takes_part(parameter) or coordinates.spans_tensors):
            continue
        chosen = checked_choice(coordinates, spec, occasion, partial(flat_gradient, parameter))
        row = Row(parameter, group, spec.name, chosen)
        if row.size:
            rows.append(row)
    return rows if any(takes_part(row.parameter) for row in rows) else []


def takes_part(parameter: Tensor) -> bool:
    """Whether a parameter is part of this step: it has a gradient.

    A sharded one takes part whenever it could have one: processes that had to ask each other
    would wait for it, and one that decided alone would leave the others waiting.
    """
    return parameter.grad is not None or (parameter.requires_grad and is_sharded(parameter))


def flat_gradient(parameter: Tensor) -> Tensor:
    """Return the gradient as a flat dense vector of real entries, shape (numel,); 0 for none."""
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    if is_sharded(gradient):
        gradient = whole(gradient)
    dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
    return as_real(dense).reshape(-1)


def steps_as_torch(base: Optimizer) -> bool:
    """Whether a base's `step` is one of torch's own: it evaluates a closure first, and in place."""
    step = base.step  # the object's: a user may have put another in its place
    return str(getattr(step, "__module__", None)).startswith("torch.optim.")

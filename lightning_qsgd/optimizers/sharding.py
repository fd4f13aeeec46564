"""Touched entries of sharded parameters: located, read and written across processes.

A `DTensor` is cut along its dimensions: each dimension of its device mesh either cuts one dimension
of the tensor or repeats what it holds. What a process holds is therefore the outer product of some
indices of each dimension, and an entry is found dimension by dimension. Only `whole`
communicates.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lightning_qsgd.backends import SkippedStep

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


class Held(NamedTuple):
    """The part of some entries that this process holds.

    Attributes:
        local_index: Where they lie in the local tensor, seen as real: int64, shape (held,), one
            tensor per dimension.
        places: Which of the entries they are, int64, shape (held,).
    """

    local_index: tuple[Tensor, ...]
    places: Tensor


def is_sharded(tensor: Tensor) -> TypeGuard["DTensor"]:
    """Whether a tensor is a `DTensor`, even one that is replicated."""
    return hasattr(tensor, "placements")


def local_of(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds, detached and in place: its memory."""
    local = tensor.to_local() if is_sharded(tensor) else tensor
    return local.detach()


def whole(tensor: Any) -> Tensor:
    """Gather a `DTensor` from all processes, which must do so together.

    On the device of its mesh: what is offloaded to the CPU cannot be sent from there.
    """
    return tensor.to(tensor.device_mesh.device_type).full_tensor()  # type: ignore[no-any-return]


def cuts(tensor: Any) -> Iterator[tuple[int, Any]]:
    """Walk over the mesh dimensions that cut a tensor, as (mesh dimension, placement).

    FSDP2 over tensor parallel is no `Shard` but a placement with a split factor, of which
    `is_shard` is false.
    """
    for mesh_dim, placement in enumerate(getattr(tensor, "placements", ())):
        if not placement.is_replicate():
            yield mesh_dim, placement


def held_indices(tensor: Any) -> dict[int, Tensor]:
    """Find what this process holds of each dimension that is cut.

    Args:
        tensor: A `DTensor` that is cut or replicated along each mesh dimension, or a plain tensor,
            of which nothing is cut.

    Returns:
        For each dimension that is cut, its global indices in local order, int64, on the CPU.
    """
    held: dict[int, Tensor] = {}
    for mesh_dim, placement in cuts(tensor):
        mesh = tensor.device_mesh
        before = held.get(placement.dim, torch.arange(tensor.shape[placement.dim]))
        # FSDP2 over tensor parallel cuts the pieces of an inner mesh that is listed later: what it
        # hands out is a chunk of each of `split_factor` runs, and not one chunk of the whole.
        runs = before.chunk(getattr(placement, "split_factor", 1))
        own = [_chunk(run, mesh.size(mesh_dim), mesh.get_coordinate()[mesh_dim]) for run in runs]
        held[placement.dim] = torch.cat(own)
    return held


def locate(tensor: Any, chosen: slice | Tensor) -> Held:
    """Find logical entries of a tensor in what this process holds of it.

    Args:
        tensor: A plain tensor or a `DTensor`; a complex entry counts as two.
        chosen: Flat row-major indices in the whole tensor.
    """
    flat = torch.arange(chosen.start, chosen.stop) if isinstance(chosen, slice) else chosen.cpu()
    shape = (*tensor.shape, 2) if tensor.is_complex() else (tuple(tensor.shape) or (1,))
    index = list(torch.unravel_index(flat, shape))
    mine = torch.ones(len(flat), dtype=torch.bool)
    for dim, held in held_indices(tensor).items():
        local = torch.full((shape[dim],), -1)  # -1: another process holds it
        local[held] = torch.arange(len(held))
        index[dim] = local[index[dim]]
        mine &= index[dim] >= 0
    device = local_of(tensor).device
    places = mine.nonzero().squeeze(1)
    return Held(tuple(each[places].to(device) for each in index), places.to(device))


def _chunk(indices: Tensor, chunks: int, chunk: int) -> Tensor:
    """Return one chunk as `torch.chunk` cuts them, empty if it makes fewer."""
    length = -(-len(indices) // chunks)
    return indices[chunk * length : (chunk + 1) * length]


T = TypeVar("T")


class _Lanes(NamedTuple):
    """The lanes of one mesh, and the mesh dimensions that cut some of their tensors."""

    mesh: Any
    dims: list[int]
    lanes: Tensor


class Meshes:
    """Completes vectors with one or more lanes per tensor, of which each process knows some.

    All processes of a mesh must call it together, with the same tensors.

    Args:
        tensors: `DTensor`s and plain tensors; of the latter every process knows its own.
        sizes: Number of lanes of each.

    Attributes:
        counts: Whether this process's lanes of each tensor are added. Where a mesh dimension cuts
            some tensors and repeats others, the first process along it speaks for the latter.
    """

    def __init__(self, tensors: Sequence[Any], sizes: Sequence[int]) -> None:
        positions: dict[Any, list[int]] = {}
        for position, tensor in enumerate(tensors):
            if is_sharded(tensor):
                positions.setdefault(tensor.device_mesh, []).append(position)
        starts = [0, *accumulate(sizes)]
        self.counts = [True] * len(tensors)
        self._meshes = []
        for mesh, own in positions.items():
            cut = {dim for position in own for dim, _ in cuts(tensors[position])}
            dims = [dim for dim in _dims_of(mesh) if dim in cut]
            lanes = [torch.arange(starts[position], starts[position + 1]) for position in own]
            self._meshes.append(_Lanes(mesh, dims, torch.cat(lanes)))
            for position in own:
                repeated = set(dims) - {dim for dim, _ in cuts(tensors[position])}
                self.counts[position] = not any(mesh.get_coordinate()[dim] for dim in repeated)

    def complete_(self, values: Tensor) -> Tensor:
        """Add up what the processes know, in place.

        Args:
            values: Shape (lanes,); 0 where this process knows nothing or does not count.
        """
        for mesh, dims, lanes in self._meshes:
            if dims:
                known = values[lanes.to(values.device)]
                values[lanes.to(values.device)] = _reduced(known, mesh, dims, dist.ReduceOp.SUM)
        return values

    def together(self, job: Callable[[], T]) -> T:
        """Run a job that may fail on some processes; it then fails, or is skipped, on all.

        Otherwise those where it succeeds would wait for the others for ever.

        Raises:
            RuntimeError: If it failed on another process only.
            SkippedStep: If another process asked to skip the step.
        """
        failure: Exception | None = None
        outcome = [0, 0]  # failed, and the number of skipped steps that is allowed
        try:
            result = job()
        except SkippedStep as request:
            failure, outcome = request, [0, request.limit]
        except Exception as caught:
            failure, outcome = caught, [1, 0]
        failed, limit = self._largest(outcome)
        # Whoever failed tells why. Whoever only asked to skip is overruled by a failure elsewhere.
        if failure is not None and (outcome[0] or not failed):
            raise failure
        if failed:
            raise RuntimeError(
                "The circuits failed on another process, whose message says why: all processes "
                "stop, since they perturb the same tensors. No parameter was changed; repair the "
                "backend there."
            ) from failure
        if limit:
            raise SkippedStep("they failed on another process", limit)
        return result

    def _largest(self, outcome: list[int]) -> list[int]:
        values = torch.tensor(outcome)
        for mesh, _, _ in self._meshes:
            values = _reduced(values, mesh, _dims_of(mesh), dist.ReduceOp.MAX)
        return [int(value) for value in values.tolist()]


def _dims_of(mesh: Any) -> list[int]:
    """List the dimensions along which a mesh has other processes."""
    return [dim for dim in range(mesh.ndim) if mesh.size(dim) > 1]


def _reduced(values: Tensor, mesh: Any, dims: list[int], operation: Any) -> Tensor:
    """Reduce over some dimensions of a mesh; where the mesh's device is, which CPUs may offload."""
    there = values.to(mesh.device_type)
    for dim in dims:
        dist.all_reduce(there, operation, group=mesh.get_group(dim))
    return there.to(values.device)

"""Where the entries of a sharded tensor lie: FSDP2, tensor parallel, and both at once.

A `DTensor` is cut along its dimensions: each dimension of its device mesh either cuts one dimension
of the tensor or repeats what it holds. What a process holds is therefore the outer product of some
indices of each dimension, and an entry is found dimension by dimension. Only `whole`
communicates.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

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
        local = torch.full((shape[dim],), -1)
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

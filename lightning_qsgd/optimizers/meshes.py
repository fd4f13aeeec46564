"""Sums over the processes that hold different parts of sharded tensors."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lightning_qsgd.backends import SkippedStep
from lightning_qsgd.optimizers.sharding import cuts, is_sharded

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

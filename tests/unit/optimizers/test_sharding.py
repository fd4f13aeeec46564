"""Where the entries of sharded tensors lie, found without any communication."""

from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

from lightning_qsgd.optimizers import PerturbedOptimizer, base_check
from lightning_qsgd.optimizers.sharding import Meshes, held_indices, is_sharded, locate


@pytest.fixture
def alone() -> Iterator[Any]:
    """A device mesh of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def held(size: int, mesh: tuple[int, ...], placements: Any, coordinate: tuple[int, ...]) -> Tensor:
    """What the process at a coordinate of a mesh holds of a vector."""
    fake = SimpleNamespace(size=lambda dim: mesh[dim], get_coordinate=lambda: coordinate)
    tensor = SimpleNamespace(placements=placements, device_mesh=fake, shape=(size,))
    return held_indices(tensor).get(0, torch.arange(size))


def cut(values: Tensor, chunks: int, chunk: int) -> Tensor:
    """The chunk that `torch.chunk` makes, or an empty one where it makes fewer."""
    made = values.chunk(chunks)
    return made[chunk] if chunk < len(made) else values[:0]


sizes, counts = st.integers(1, 40), st.integers(1, 5)


@given(size=sizes, outer=counts, inner=counts)
def test_vectors_are_cut_as_torch_cuts_them(size: int, outer: int, inner: int) -> None:
    whole = torch.arange(size)
    for first, second in product(range(outer), range(inner)):
        twice = held(size, (outer, inner), (Shard(0), Shard(0)), (first, second))
        assert torch.equal(twice, cut(cut(whole, outer, first), inner, second))
        once = held(size, (outer, inner), (Replicate(), Shard(0)), (first, second))
        assert torch.equal(once, cut(whole, inner, second))


@given(size=sizes, outer=counts, inner=counts)
def test_fsdp_over_tensor_parallel_cuts_the_inner_dimension_first(
    size: int, outer: int, inner: int
) -> None:
    """Where torch can represent it at all: every process of the inner dimension holds something."""
    whole = torch.arange(size)
    pieces = [cut(whole, inner, second) for second in range(inner)]
    if any(-(-len(piece) // outer) != -(-len(pieces[0]) // outer) for piece in pieces):
        return
    placements = (_StridedShard(0, split_factor=inner), Shard(0))
    found = [
        held(size, (outer, inner), placements, (first, second))
        for first, second in product(range(outer), range(inner))
    ]
    assert torch.equal(torch.cat(found).sort().values, whole)


def test_a_complex_entry_is_located_as_two_and_a_number_as_one(alone: Any) -> None:
    pairs = distribute_tensor(torch.ones(2, 2, dtype=torch.complex64), alone, [Shard(0)])
    index, places = locate(pairs, torch.tensor([0, 3, 6]))
    assert [each.tolist() for each in index] == [[0, 0, 1], [0, 1, 1], [0, 1, 0]]
    assert places.tolist() == [0, 1, 2]
    number = distribute_tensor(torch.tensor(1.0), alone, [Replicate()])
    assert [each.tolist() for each in locate(number, slice(0, 1)).local_index] == [[0]]


def test_partial_parameters_are_refused(alone: Any) -> None:
    partial = torch.nn.Parameter(DTensor.from_local(torch.ones(3), alone, [Partial()]))
    with pytest.raises(TypeError, match=r"Cannot perturb a DTensor parameter placed as P.*Use Sh"):
        PerturbedOptimizer(torch.optim.SGD([partial], lr=0.1))


def test_shards_of_unexpected_size_are_refused(alone: Any) -> None:
    odd = DTensor.from_local(
        torch.ones(3), alone, [Shard(0)], shape=torch.Size([4]), stride=(1,), run_check=False
    )
    message = (
        r"Cannot perturb a DTensor parameter placed as .*holds \[3\] .*instead of \[4\].*Shard"
    )
    with pytest.raises(TypeError, match=message):
        PerturbedOptimizer(torch.optim.SGD([torch.nn.Parameter(odd)], lr=0.1))


def test_more_entries_than_every_process_can_gather_are_refused(
    alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_check, "MOST_GATHERED", 3)
    sharded = torch.nn.Parameter(distribute_tensor(torch.ones(9), alone, [Shard(0)]))
    message = r"Cannot perturb 4 entries of sharded tensors: .*the limit is 3.*Choose fewer"
    with pytest.raises(ValueError, match=message):
        PerturbedOptimizer(torch.optim.SGD([sharded], lr=0.1))
    PerturbedOptimizer(torch.optim.SGD([torch.nn.Parameter(torch.ones(9))], lr=0.1))


def test_a_learning_rate_of_zero_with_gradients_of_zero_is_no_step(alone: Any) -> None:
    theta = torch.nn.Parameter(distribute_tensor(torch.ones(9), alone, [Shard(0)]))
    optimizer = PerturbedOptimizer(torch.optim.AdamW([theta], lr=0.0))
    theta.grad = torch.zeros_like(theta)
    optimizer.step()
    assert optimizer.own_state.steps == 0
    optimizer.state.clear()
    theta.grad = torch.ones_like(theta)
    optimizer.step()
    assert optimizer.own_state.steps == 1


def test_plain_tensors_belong_to_no_mesh() -> None:
    assert not is_sharded(torch.ones(2))
    values = torch.rand(3)
    meshes = Meshes([torch.ones(2), torch.ones(1)], [2, 1])
    assert meshes.counts == [True, True]
    assert torch.equal(meshes.complete_(values.clone()), values)

"""Which entries each choice of coordinates picks, and the laws that all of them keep."""

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    Coordinates,
    CyclicEntries,
    FirstOfEachTensor,
    FirstOfModel,
    LargestGradient,
    Perturbation,
    RandomEntries,
    Strength,
)
from lightning_qsgd.perturbations.coordinates import Occasion, TensorSpec
from tests.cases import dense_problem

COUNTED = [FirstOfEachTensor, FirstOfModel, RandomEntries, CyclicEntries, LargestGradient]
POLICIES = [AllEntries(), *[kind() for kind in COUNTED], *[kind(count=3) for kind in COUNTED]]


def indices(
    policy: Coordinates, spec: TensorSpec, occasion: Occasion, gradient: torch.Tensor | None = None
) -> list[int]:
    given = torch.arange(spec.numel) * 1.0 if gradient is None else gradient
    chosen = policy.choose(spec, occasion, lambda: given)
    if isinstance(chosen, slice):
        assert chosen.step in (None, 1)
        return list(range(chosen.start, chosen.stop))
    assert chosen.dtype == torch.int64
    return chosen.tolist()


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@given(
    numel=st.integers(1, 30),
    offset=st.integers(0, 10),
    step=st.integers(0, 1000),
    num_qubits=st.integers(1, 6),
)
def test_chosen_entries_exist_are_distinct_and_as_many_as_forecast(
    policy: Coordinates, numel: int, offset: int, step: int, num_qubits: int
) -> None:
    spec = TensorSpec("3", numel, offset)
    chosen = indices(policy, spec, Occasion(step, 0, num_qubits))
    assert all(0 <= index < numel for index in chosen)
    assert len(set(chosen)) == len(chosen) == policy.num_chosen(spec, num_qubits)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_policy_that_does_not_change_chooses_the_same_at_every_step(policy: Coordinates) -> None:
    spec = TensorSpec("0", 12, 0)
    first, later = (indices(policy, spec, Occasion(step, 0, 4)) for step in (0, 7))
    assert policy.changes or first == later


def test_first_of_model_takes_only_what_lies_before_the_limit() -> None:
    specs = [TensorSpec("0", 3, 0), TensorSpec("1", 0, 3), TensorSpec("2", 9, 3)]
    specs.append(TensorSpec("3", 5, 12))
    chosen = [indices(FirstOfModel(), spec, Occasion(0, 0, 5)) for spec in specs]
    assert chosen == [[0, 1, 2], [], [0, 1], []]
    assert [len(indices(FirstOfModel(count=14), s, Occasion(0, 0, 4))) for s in specs] == [
        3,
        0,
        9,
        2,
    ]


def test_all_entries_and_first_entries() -> None:
    spec, occasion = TensorSpec("0", 6, 0), Occasion(0, 0, 4)
    assert indices(AllEntries(), spec, occasion) == [0, 1, 2, 3, 4, 5]
    assert indices(FirstOfEachTensor(), spec, occasion) == [0, 1, 2, 3]
    assert indices(FirstOfEachTensor(count=9), spec, occasion) == [0, 1, 2, 3, 4, 5]


def test_random_entries_depend_on_seed_step_and_name_alone() -> None:
    def draw(seed: int = 0, step: int = 0, name: str = "0") -> list[int]:
        return indices(RandomEntries(), TensorSpec(name, 1000, 0), Occasion(step, seed, 4))

    first = draw()
    torch.rand(3)
    assert draw() == first
    assert first not in [draw(seed=1), draw(step=1), draw(name="1")]
    assert len({tuple(draw(step=step)) for step in range(50)}) == 50


def test_random_entries_reach_every_entry_about_equally_often() -> None:
    spec = TensorSpec("0", 8, 0)
    hits = Counter(
        index
        for step in range(1000)
        for index in indices(RandomEntries(), spec, Occasion(step, 0, 2))
    )
    assert len(hits) == 8
    # Binomial(1000, 1/4): sigma is 13.7.
    assert all(abs(count - 250) < 5 * 13.7 for count in hits.values())


@pytest.mark.parametrize(("numel", "count"), [(6, 4), (8, 4), (7, 3), (3, 4), (1, 1)])
def test_cyclic_window_covers_every_entry_equally_often(numel: int, count: int) -> None:
    spec = TensorSpec("0", numel, 0)
    policy = CyclicEntries(count=count)
    hits = Counter(
        index for step in range(numel) for index in indices(policy, spec, Occasion(step, 0, 4))
    )
    assert set(hits) == set(range(numel))
    assert len(set(hits.values())) == 1


def test_cyclic_window_covers_every_entry_even_if_only_some_steps_are_perturbed() -> None:
    problem = dense_problem(shapes=((8,),))
    perturbation = Perturbation(
        coordinates=CyclicEntries(), strength=Strength(0.5, every=2, start_step=0)
    )
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1), perturbation)
    plain = dense_problem(shapes=((8,),))
    bare = torch.optim.SGD(plain.parameters, lr=0.1)
    for _ in range(8):
        for each, stepped in ((problem, optimizer), (plain, bare)):
            each.backward()
            stepped.step()
    touched: Any = (problem.flat() != plain.flat()).tolist()
    assert touched == [True] * 8


def test_largest_gradient_is_the_top_k_by_size() -> None:
    gradient = torch.tensor([0.1, -3.0, 2.0, 0.0, -0.5, 2.5])
    spec = TensorSpec("0", 6, 0)
    chosen = indices(LargestGradient(count=3), spec, Occasion(0, 0, 4), gradient)
    assert chosen == [1, 5, 2]


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.parametrize("count", [0, -2])
def test_counts_below_one_are_refused(kind: Any, count: int) -> None:
    with pytest.raises(
        ValueError, match=rf"Expected `count` to be at least 1, got {count}: .*qubit"
    ):
        kind(count=count)

"""The fast path and the general path read and write the same entries."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_qsgd.optimizers.entries import SMALL, DenseEntries, GeneralEntries
from lightning_qsgd.optimizers.rows import flat_gradient
from lightning_qsgd.perturbations.step import Row

shapes = st.lists(st.integers(1, 5), min_size=0, max_size=3).map(tuple)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


def rows_of(
    each: list[tuple[tuple[int, ...], int]], dtype: torch.dtype, seed: int, transposed: bool = False
) -> list[Row]:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for position, (shape, count) in enumerate(each):
        parameter = torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
        gradient = torch.randn(shape, generator=generator).to(dtype)
        if transposed and len(shape) == 2:
            gradient = gradient.t().contiguous().t()
        parameter.grad = gradient
        size = min(count, parameter.numel())
        rows.append(Row(parameter, position // 2, str(position), slice(0, size)))
    return rows


@given(
    each=st.lists(st.tuples(shapes, st.integers(1, 200)), min_size=1, max_size=5),
    dtype=dtypes,
    seed=st.integers(0, 1000),
    transposed=st.booleans(),
)
def test_dense_and_general_entries_agree(
    each: list[Any], dtype: torch.dtype, seed: int, transposed: bool
) -> None:
    fast_rows, slow_rows = (rows_of(each, dtype, seed, transposed) for _ in range(2))
    assert DenseEntries.fits(fast_rows)
    fast, slow = DenseEntries(fast_rows), GeneralEntries(slow_rows)
    assert fast.total == slow.total
    assert fast.group_bounds == slow.group_bounds
    theta, gradient = fast.read_parameters(), fast.read_gradients()
    torch.testing.assert_close(theta, slow.read_parameters(), rtol=0, atol=0)
    torch.testing.assert_close(gradient, slow.read_gradients(), rtol=0, atol=0)
    for entries in (fast, slow):
        entries.add_to_parameters(gradient, -0.25)
        entries.write_gradients(theta * 3)
    for left, right in zip(fast_rows, slow_rows, strict=True):
        assert torch.equal(left.parameter, right.parameter)
        assert torch.equal(flat_gradient(left.parameter), flat_gradient(right.parameter))


def test_reading_returns_copies() -> None:
    for kind in (DenseEntries, GeneralEntries):
        rows = rows_of([((3,), 3)], torch.float32, 0)
        before = rows[0].parameter.detach().clone()
        entries = kind(rows)
        entries.read_parameters().zero_()
        entries.read_gradients().zero_()
        assert torch.equal(rows[0].parameter, before)
        assert flat_gradient(rows[0].parameter).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_overflows_is_written_over_no_finite_gradient(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    values = torch.tensor([1.0, torch.inf, torch.nan, torch.inf, torch.nan, 2.0])
    given = torch.tensor([-1.0, 4.0, 5.0, torch.inf, torch.nan, torch.inf]).to(dtype)
    expected = torch.tensor([1.0, 4.0, 5.0, torch.inf, torch.nan, 2.0]).to(dtype)
    for kind in (DenseEntries, GeneralEntries):
        rows = rows_of([((2, 2), 3), ((3,), 3)], dtype, 0)
        rows[0].parameter.grad = torch.cat([given[:3], -given[:1]]).view(2, 2)
        rows[1].parameter.grad = given[3:].clone()
        kind(rows).write_gradients(values)
        written = torch.cat([flat_gradient(row.parameter) for row in rows])
        untouched = torch.ones(1, dtype=dtype)
        torch.testing.assert_close(
            written, torch.cat([expected[:3], untouched, expected[3:]]), equal_nan=True
        )
        kind(rows).write_gradients(torch.full((6,), 4.0, dtype=torch.float64) * largest)
        assert torch.isfinite(flat_gradient(rows[0].parameter)).all()


@pytest.mark.parametrize("kind", [DenseEntries, GeneralEntries])
@pytest.mark.parametrize("count", [3, SMALL + 3])
def test_what_is_not_finite_adds_nothing(kind: type[Any], count: int) -> None:
    rows = rows_of([((count,), count)], torch.float32, 0)
    before = rows[0].parameter.detach().clone()
    product = torch.ones(count)
    product[:2] = torch.tensor([torch.nan, -torch.inf])
    entries = kind(rows)
    entries.add_to_parameters(*entries.summand(product, 0.5))
    torch.testing.assert_close(rows[0].parameter[2:], before[2:] + 0.5)
    assert torch.equal(rows[0].parameter[:2], before[:2])
    assert product[0].isnan()  # what was handed over stays as it was


@pytest.mark.parametrize("kind", [DenseEntries, GeneralEntries])
def test_gradients_that_share_memory_are_written_each_for_itself(kind: type[Any]) -> None:
    rows = rows_of([((4,), 4), ((2, 2), 3), ((3,), 3)], torch.float32, 0)
    shared = torch.ones(4)
    rows[0].parameter.grad = shared
    rows[1].parameter.grad = shared.view(2, 2)
    rows[2].parameter.grad = torch.ones(()).expand(3)
    values = torch.arange(10.0)
    kind(rows).write_gradients(values)
    written = [flat_gradient(row.parameter).tolist() for row in rows]
    assert written == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 1.0], [7.0, 8.0, 9.0]]


def test_gradients_of_other_types_keep_them() -> None:
    parameter, other = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    parameter.grad_dtype = None
    parameter.grad = torch.tensor([6e4, 1.0], dtype=torch.float16)
    other.grad = torch.ones(2)
    rows = [Row(parameter, 0, "0", slice(0, 2)), Row(other, 0, "1", slice(0, 2))]
    entries = DenseEntries(rows)
    assert entries.read_gradients().dtype == torch.float32
    entries.write_gradients(torch.tensor([9e4, 2.0, 3.0, 4.0]))
    assert parameter.grad.tolist() == [6e4, 2.0]
    assert other.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("kinds", [(torch.float64, torch.float32), (torch.bfloat16,) * 2])
def test_gradients_of_other_types_are_read_in_that_of_the_parameters(kinds: Any) -> None:
    rows = []
    for index, kind in enumerate(kinds):
        parameter = torch.nn.Parameter(torch.zeros(2))
        parameter.grad_dtype = None
        parameter.grad = torch.tensor([index + 1 / 3, -1.0], dtype=kind)
        rows.append(Row(parameter, 0, str(index), slice(0, 2)))
    fast, slow = (kind(rows).read_gradients() for kind in (DenseEntries, GeneralEntries))
    assert fast.dtype == torch.float32
    assert torch.equal(fast, slow)


@pytest.mark.parametrize("size", [1, 3])
def test_a_gradient_that_is_lazily_negated_is_read(size: int) -> None:
    parameter = torch.nn.Parameter(torch.zeros(size))
    parameter.grad = torch._neg_view(torch.arange(1.0, size + 1))
    assert parameter.grad.is_neg()
    read = DenseEntries([Row(parameter, 0, "0", slice(0, size))]).read_gradients()
    assert read.tolist() == [-1.0, -2.0, -3.0][:size]


def test_a_gradient_that_is_lazily_negated_is_written() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.complex(torch.ones(1), torch.ones(1)).conj().imag
    assert parameter.grad.is_neg()
    DenseEntries([Row(parameter, 0, "0", slice(0, 1))]).write_gradients(torch.full((1,), 3.0))
    assert parameter.grad.tolist() == [3.0]


def test_many_entries_do_without_the_scratch_buffer() -> None:
    rows = rows_of([((SMALL // 2,), SMALL), ((SMALL,), SMALL)], torch.float32, 0)
    entries = DenseEntries(rows)
    assert entries.total > SMALL
    expected = entries.read_parameters() - 1
    entries.add_to_parameters(torch.ones(entries.total), -1.0)
    assert torch.equal(entries.read_parameters(), expected)


def test_group_bounds_are_the_runs_of_each_group() -> None:
    rows = rows_of([((3,), 2), ((4,), 4), ((5,), 1), ((2, 2), 9)], torch.float32, 0)
    assert GeneralEntries(rows).group_bounds == [(0, 0, 6), (1, 6, 11)]


@pytest.mark.parametrize("reason", ["transposed", "complex", "indices", "dtypes", "offset"])
def test_rows_that_are_not_leading_slices_of_one_kind_take_the_general_path(reason: str) -> None:
    value, chosen = torch.rand(3, 2), slice(0, 2)
    row = {
        "transposed": Row(value.t(), 0, "0", chosen),
        "complex": Row(torch.complex(value, value), 0, "0", chosen),
        "indices": Row(value, 0, "0", torch.tensor([1, 4])),
        "dtypes": Row(value.double(), 0, "0", chosen),
        "offset": Row(value, 0, "0", slice(1, 3)),
    }[reason]
    plain = Row(value, 0, "0", chosen)
    for each in (plain, row):
        each.parameter.grad = torch.ones_like(each.parameter)
    assert DenseEntries.fits([plain])
    assert not DenseEntries.fits([plain, row])


def test_a_gradient_that_vanished_after_the_choice_counts_as_zero() -> None:
    rows = rows_of([((3,), 3), ((2, 2), 2)], torch.float32, 0)
    kept = flat_gradient(rows[1].parameter)[:2]
    rows[0].parameter.grad = None
    for kind in (DenseEntries, GeneralEntries):
        assert torch.equal(kind(rows).read_gradients(), torch.cat([torch.zeros(3), kept]))

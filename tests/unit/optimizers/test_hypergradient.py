"""The two derivatives of the next loss through the last perturbation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_qsgd.optimizers.learning import strength_hypergradient, weights_hypergradient

VECTORS = st.lists(st.floats(-10, 10), min_size=4, max_size=4)


def modulate(weights: Tensor) -> Tensor:
    """Four entries of two weights."""
    return torch.sin(torch.cat([weights, 0.5 * weights.flip(0)]) + torch.arange(4.0))


@given(VECTORS, VECTORS)
def test_strength_follows_the_cosine(left: list[float], right: list[float]) -> None:
    g, q = torch.tensor(left, dtype=torch.float64), torch.tensor(right, dtype=torch.float64)
    expected = float(torch.nan_to_num(g.dot(q) / (g.norm() * q.norm()), 0.0))
    if min(g.norm(), q.norm()) > 1e-100:
        assert strength_hypergradient(g, q) == pytest.approx(expected, abs=1e-12)


@given(VECTORS, st.floats(-30, 30), st.floats(-30, 30))
def test_neither_size_matters(values: list[float], left: float, right: float) -> None:
    g = torch.tensor(values)
    c = torch.tensor([1.0, -2.0, 3.0, 0.5])
    if g.abs().max() < 1e-3:
        return
    weights = torch.tensor([0.2, 0.7])
    scaled = (g * 10.0**left, c * 10.0**right)
    assert strength_hypergradient(*scaled) == pytest.approx(strength_hypergradient(g, c), abs=1e-5)
    torch.testing.assert_close(
        weights_hypergradient(*scaled, modulate, weights),
        weights_hypergradient(g, c, modulate, weights),
        atol=1e-5,
        rtol=1e-5,
    )


@given(VECTORS, VECTORS)
def test_no_weight_is_asked_to_move_by_more_than_one(left: list[float], right: list[float]) -> None:
    g, c = torch.tensor(left), torch.tensor(right)
    result = weights_hypergradient(g, c, lambda w: torch.sin(w * torch.ones(4)), torch.zeros(1))
    assert result.abs().item() <= 1 + 1e-6


def test_weights_follow_the_derivative_of_the_inner_product() -> None:
    generator = torch.Generator().manual_seed(0)
    g, c = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    weights = torch.tensor([0.2, 0.7], dtype=torch.float64)

    def inner(values: Tensor) -> Tensor:
        return (g * c * modulate(values)).sum() / (g.norm() * c.norm())

    found = weights_hypergradient(g, c, modulate, weights)
    for index in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[index] = 1e-5
        numeric = (inner(weights + step) - inner(weights - step)) / 2e-5
        assert found[index] == pytest.approx(float(numeric), abs=1e-9)


@pytest.mark.parametrize("bad", [0.0, torch.nan, torch.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_defined_changes_nothing(bad: float, place: int) -> None:
    vectors = [torch.ones(4), torch.ones(4)]
    vectors[place] = torch.zeros(4)
    vectors[place][1] = bad
    weights = torch.tensor([0.2, 0.7])
    assert strength_hypergradient(*vectors) == 0.0
    assert torch.equal(weights_hypergradient(*vectors, modulate, weights), torch.zeros(2))


def test_an_infinite_derivative_of_the_circuit_changes_nothing() -> None:
    ones = torch.ones(2)
    found = weights_hypergradient(ones, ones, torch.sqrt, torch.zeros(2))
    assert torch.equal(found, torch.zeros(2))


def test_a_readout_without_gradient_is_refused() -> None:
    ones = torch.ones(2)
    with pytest.raises(TypeError, match=r"readout carries no gradient.*Set `weights_rate` to 0"):
        weights_hypergradient(ones, ones, torch.Tensor.detach, torch.zeros(2))


def test_a_readout_with_the_gradient_of_something_else_is_refused() -> None:
    ones, other = torch.ones(2), torch.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=r"readout carries no gradient.*Set `weights_rate` to 0"):
        weights_hypergradient(ones, ones, lambda weights: weights.detach() * other, torch.zeros(2))


def test_it_works_where_gradients_are_switched_off_and_leaves_the_weights_alone() -> None:
    weights = torch.tensor([0.2, 0.7])
    with torch.no_grad():
        found = weights_hypergradient(torch.ones(4), torch.ones(4), modulate, weights)
    assert found.abs().min() > 0
    assert not weights.requires_grad
    assert not found.requires_grad

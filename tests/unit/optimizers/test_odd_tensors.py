"""Tensors of every shape, layout and type: the right entries change, and nothing else."""

from collections.abc import Callable
from math import inf, nan, pi, sin

import pytest
import torch
from torch import Tensor
from torch.nn.functional import embedding

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    FirstOfModel,
    LargestGradient,
    Perturbation,
    RandomEntries,
)
from tests.cases import COORDINATES, INJECTIONS
from tests.reference import ReferenceOptimizer, read


def ramp(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    count = int(torch.Size(shape).numel())
    return torch.linspace(0.1, 0.9, max(count, 1), dtype=dtype)[:count].reshape(shape)


def complex_pair() -> tuple[Tensor, Tensor]:
    return torch.complex(ramp(3), -ramp(3)), torch.complex(ramp(3) + 1, ramp(3) - 2)


CASES: dict[str, Callable[[], list[tuple[Tensor, Tensor | None]]]] = {
    "0-dim": lambda: [(ramp().clone(), torch.tensor(1.5).double())],
    "fewer than n entries": lambda: [(ramp(2), ramp(2) + 1), (ramp(5), ramp(5) + 1)],
    "empty": lambda: [(ramp(0), ramp(0)), (ramp(0, 3), ramp(0, 3)), (ramp(3), ramp(3) + 1)],
    "transposed": lambda: [(ramp(3, 4).t(), (ramp(3, 4) + 1).t())],
    "transposed, gradient not": lambda: [(ramp(3, 4).t(), ramp(4, 3) + 1)],
    "gradient transposed, tensor not": lambda: [(ramp(4, 3), (ramp(3, 4) + 1).t())],
    "strided": lambda: [(ramp(3, 8)[:, ::2], ramp(3, 4) + 1)],
    "part of a larger buffer": lambda: [(ramp(20)[7:13], (ramp(20) + 1)[3:9])],
    "channels last": lambda: [
        (
            ramp(2, 3, 2, 2).to(memory_format=torch.channels_last),
            (ramp(2, 3, 2, 2) + 1).to(memory_format=torch.channels_last),
        )
    ],
    "complex": lambda: [complex_pair(), (ramp(3), ramp(3) + 1)],
    "frozen between": lambda: [(ramp(3), ramp(3) + 1), (ramp(2), None), (ramp(4), ramp(4) - 2)],
    "frozen first": lambda: [(ramp(3), None), (ramp(4), ramp(4) + 1)],
    "dtypes mixed": lambda: [(ramp(3).float(), ramp(3).float() + 1), (ramp(3), ramp(3) + 1)],
}


def parameters_of(name: str) -> list[Tensor]:
    parameters: list[Tensor] = []
    for value, gradient in CASES[name]():
        parameter = torch.nn.Parameter(value, requires_grad=gradient is not None)
        parameter.grad = gradient
        parameters.append(parameter)
    return parameters


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("name", CASES)
def test_the_entries_of_odd_tensors_change_as_in_the_reference(
    name: str, injection: str, coordinates: str
) -> None:
    wrapped, expected = parameters_of(name), parameters_of(name)
    perturbation = Perturbation(
        injection=INJECTIONS[injection], coordinates=COORDINATES[coordinates]
    )
    optimizer = PerturbedOptimizer(torch.optim.SGD(wrapped, lr=0.1, momentum=0.9), perturbation)
    oracle = ReferenceOptimizer(
        torch.optim.SGD(expected, lr=0.1, momentum=0.9), injection, coordinates
    )
    gradients = [None if p.grad is None else p.grad.clone() for p in wrapped]
    for _ in range(3):
        optimizer.step()
        oracle.step()
        for parameter, gradient in zip(expected, gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
    for left, right, gradient in zip(wrapped, expected, gradients, strict=True):
        assert read(left) == pytest.approx(
            read(right), abs=1e-6 if left.dtype.itemsize < 8 else 1e-12
        )
        assert gradient is None or torch.equal(left.grad, gradient)


@pytest.mark.parametrize("name", CASES)
def test_only_the_chosen_entries_differ_from_the_base_step(name: str) -> None:
    wrapped, plain = parameters_of(name), parameters_of(name)
    PerturbedOptimizer(torch.optim.SGD(wrapped, lr=0.1), Perturbation()).step()
    torch.optim.SGD(plain, lr=0.1).step()
    for left, right in zip(wrapped, plain, strict=True):
        moved = [
            index
            for index, (a, b) in enumerate(zip(read(left), read(right), strict=True))
            if a != b
        ]
        touched = [] if left.grad is None else list(range(min(4, len(read(left)))))
        assert moved == touched


@pytest.mark.parametrize("theta", [nan, inf, 0.5])
@pytest.mark.parametrize("gradient", [nan, inf, -inf])
@pytest.mark.parametrize(
    "backend", [None, SamplerBackend(SuperpositionCircuit(3))], ids=["sine", "circuit"]
)
def test_nothing_is_added_where_the_gradient_is_not_finite(
    theta: float, gradient: float, backend: SamplerBackend | None
) -> None:
    runs = []
    for wrap in (True, False):
        parameter = torch.nn.Parameter(torch.tensor([0.3, theta, 0.4]))
        parameter.grad = torch.tensor([1.0, gradient, 1.0])
        optimizer: torch.optim.Optimizer = torch.optim.SGD([parameter], lr=0.1)
        if wrap:
            perturbation = Perturbation(backend=backend) if backend else Perturbation()
            optimizer = PerturbedOptimizer(optimizer, perturbation)
        optimizer.step()
        runs.append(parameter.detach())
    wrapped, plain = runs
    torch.testing.assert_close(wrapped[1], plain[1], rtol=0, atol=0, equal_nan=True)
    assert (wrapped[[0, 2]].isfinite()).all()
    assert (wrapped[[0, 2]] != plain[[0, 2]]).all()


@pytest.mark.parametrize("injection", INJECTIONS)
def test_a_nan_parameter_spoils_no_other_entry(injection: str) -> None:
    parameter = torch.nn.Parameter(torch.tensor([0.3, nan, 0.4]))
    parameter.grad = torch.ones(3)
    perturbation = Perturbation(injection=INJECTIONS[injection])
    PerturbedOptimizer(torch.optim.SGD([parameter], lr=0.1), perturbation).step()
    expected = [value - 0.1 * (1 + 0.5 * sin(pi * value)) for value in (0.3, nan, 0.4)]
    assert parameter.tolist() == pytest.approx(expected, nan_ok=True)


def sparse_table(injection: str) -> tuple[Tensor, Tensor, PerturbedOptimizer]:
    table = torch.nn.Parameter(ramp(4, 3))
    other = torch.nn.Parameter(ramp(5))
    perturbation = Perturbation(injection=INJECTIONS[injection])
    return table, other, PerturbedOptimizer(torch.optim.SGD([table, other], lr=0.1), perturbation)


@pytest.mark.parametrize("injection", ["update", "relative"])
def test_sparse_gradients_are_perturbed_where_they_are_stored(injection: str) -> None:
    table, other, optimizer = sparse_table(injection)
    theta = table.detach().clone()
    tokens = torch.tensor([0, 3, 0, 1])  # token 0 twice: the gradient is not coalesced
    (embedding(tokens, table, sparse=True).sum() + other.sum()).backward()
    assert table.grad.is_sparse
    assert not table.grad.is_coalesced()
    gradient = table.grad.to_dense()
    optimizer.step()
    expected = theta - 0.1 * gradient
    expected.view(-1)[:4] -= 0.1 * 0.5 * (torch.sin(pi * theta) * gradient).view(-1)[:4]
    torch.testing.assert_close(table.detach(), expected)


def test_gradient_injection_refuses_sparse_gradients_and_moves_nothing() -> None:
    table, other, optimizer = sparse_table("gradient")
    (embedding(torch.tensor([0, 1]), table, sparse=True).sum() + other.sum()).backward()
    before = (table.detach().clone(), other.detach().clone(), other.grad.clone())
    with pytest.raises(ValueError, match=r"Cannot inject into a sparse gradient: .*sparse=False"):
        optimizer.step()
    assert torch.equal(table, before[0])
    assert torch.equal(other, before[1])
    assert torch.equal(other.grad, before[2])
    assert optimizer.own_state.steps == 0


def test_gradient_injection_refuses_sparse_gradients_at_learning_rate_zero_alike() -> None:
    table, other, optimizer = sparse_table("gradient")
    (embedding(torch.tensor([0, 1]), table, sparse=True).sum() + other.sum()).backward()
    optimizer.param_groups[0]["lr"] = 0.0
    with pytest.raises(ValueError, match="Cannot inject into a sparse gradient"):
        optimizer.step()


@pytest.mark.parametrize("coordinates", [LargestGradient(), RandomEntries(), AllEntries()], ids=str)
def test_chosen_entries_of_sparse_gradients_are_perturbed(coordinates: AllEntries) -> None:
    table = torch.nn.Parameter(ramp(6, 4))
    base = torch.optim.SparseAdam([table], lr=0.1)
    optimizer = PerturbedOptimizer(base, Perturbation(coordinates=coordinates))
    embedding(torch.tensor([5, 2]), table, sparse=True).sum().backward()
    before = table.detach().clone()
    optimizer.step()
    rows = (table.detach() != before).any(dim=1).tolist()
    assert rows == [False, False, True, False, False, True]
    assert optimizer.own_state.applied == 1


def test_a_tied_tensor_is_perturbed_once() -> None:
    layer = torch.nn.Linear(3, 3, bias=False)
    model = torch.nn.Sequential(layer, torch.nn.Tanh(), layer)
    optimizer = PerturbedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    model(torch.ones(2, 3)).sum().backward()
    theta, gradient = layer.weight.detach().clone().view(-1), layer.weight.grad.view(-1)
    optimizer.step()
    expected = theta - 0.1 * gradient
    expected[:4] -= 0.1 * 0.5 * (torch.sin(pi * theta) * gradient)[:4]
    torch.testing.assert_close(layer.weight.detach().view(-1), expected)


def test_a_step_without_any_gradient_is_counted_but_not_applied() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = PerturbedOptimizer(torch.optim.SGD([parameter], lr=0.1))
    optimizer.step()
    state = optimizer.own_state
    assert (state.steps, state.due, state.applied) == (1, 1, 0)
    assert parameter.tolist() == [1, 1, 1]


def test_an_entry_of_the_model_keeps_its_qubit_when_a_tensor_before_it_is_frozen() -> None:
    backend = SamplerBackend(SuperpositionCircuit(4, reps=1, entanglement="linear"), weight_seed=0)
    added = []
    for frozen_gradient in (None, torch.zeros(2)):
        first = torch.nn.Parameter(torch.zeros(2))
        second = torch.nn.Parameter(torch.tensor([0.3, 0.4]))
        first.grad, second.grad = frozen_gradient, torch.ones(2)
        perturbation = Perturbation(backend=backend, coordinates=FirstOfModel())
        base = torch.optim.SGD([first, second], lr=0.1)
        PerturbedOptimizer(base, perturbation).step()
        added.append(second.detach().clone())
    torch.testing.assert_close(*added)

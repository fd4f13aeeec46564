"""Eq. 1 and Eq. 2 to the letter against loops over lists."""

from math import nan
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_qsgd.optimizers import PaperAdam, SuperpositionalAdam
from lightning_qsgd.perturbations import AllEntries
from tests.cases import dense_problem
from tests.reference import paper_adam_step, read

LR = 1e-2


def by_loop(steps: int, strength: float, num_qubits: int, **settings: Any) -> list[float]:
    problem = dense_problem()
    theta = [value for p in problem.parameters for value in read(p)]
    m, v = [0.0] * len(theta), [0.0] * len(theta)
    for _ in range(steps):
        problem.backward()
        gradient = [value for p in problem.parameters for value in read(p.grad)]  # type: ignore[arg-type]
        paper_adam_step(
            theta, gradient, m, v, LR, strength=strength, num_qubits=num_qubits, **settings
        )
        for parameter, part in zip(
            problem.parameters,
            torch.split(torch.tensor(theta, dtype=torch.float64), [12, 2, 9]),
            strict=True,
        ):
            parameter.data.copy_(part.reshape(parameter.shape))
    return theta


@pytest.mark.parametrize("settings", [{}, {"betas": (0.5, 0.7), "eps": 0.1}], ids=["paper", "own"])
def test_paper_adam_is_equation_one_without_the_quantum_term(settings: dict[str, Any]) -> None:
    problem = dense_problem()
    optimizer = PaperAdam(problem.parameters, lr=LR, **settings)
    for _ in range(8):
        optimizer.step(problem.backward)
    assert problem.flat().tolist() == pytest.approx(by_loop(8, 0.0, 4, **settings), abs=1e-12)


@pytest.mark.parametrize("strength", [0.1, 0.5])
@pytest.mark.parametrize("num_entries", [4, 1000])
def test_superpositional_adam_is_both_equations_to_the_letter(
    num_entries: int, strength: float
) -> None:
    problem = dense_problem()
    coordinates = None if num_entries == 4 else AllEntries()
    optimizer = SuperpositionalAdam(
        problem.parameters, lr=LR, strength=strength, coordinates=coordinates
    )
    for _ in range(8):
        problem.backward()
        optimizer.step()
    expected = by_loop(8, strength, num_entries)
    assert problem.flat().tolist() == pytest.approx(expected, abs=1e-12)
    unperturbed = by_loop(8, 0.0, 4)
    assert max(abs(a - b) for a, b in zip(expected, unperturbed, strict=True)) > 1e-4


def test_paper_adam_differs_from_torchs_adam_as_documented() -> None:
    values = []
    for cls in (PaperAdam, torch.optim.Adam):
        theta = torch.nn.Parameter(torch.tensor([1.0]))
        theta.grad = torch.tensor([2.0])
        cls([theta], lr=0.1).step()
        values.append(theta.item())
    assert values == pytest.approx([1 - 0.1 * 0.2 / 0.004**0.5, 0.9], abs=1e-5)


def test_paper_adam_resumes_from_its_state() -> None:
    whole, half = dense_problem(), dense_problem()
    optimizer = PaperAdam(whole.parameters, lr=LR)
    for _ in range(6):
        optimizer.step(whole.backward)
    first = PaperAdam(half.parameters, lr=LR)
    for _ in range(3):
        first.step(half.backward)
    second = PaperAdam(half.parameters, lr=LR)
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second.step(half.backward)
    assert torch.equal(whole.flat(), half.flat())


def test_paper_adam_skips_parameters_without_gradient_and_returns_the_loss() -> None:
    problem = dense_problem()
    frozen = torch.nn.Parameter(torch.ones(2))
    optimizer = PaperAdam([*problem.parameters, frozen], lr=LR)
    expected = problem.loss(problem.parameters).item()
    assert optimizer.step(problem.backward).item() == expected
    assert frozen.tolist() == [1, 1]
    assert optimizer.step() is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -0.1}, r"Expected `lr` to be non-negative and finite, got -0.1"),
        ({"lr": nan}, r"Expected `lr` to be non-negative and finite, got nan"),
        ({"betas": (1.0, 0.9)}, r"Expected both `betas` in \[0, 1\), got \(1.0, 0.9\)"),
        ({"betas": (0.9, -0.1)}, r"Expected both `betas` in \[0, 1\)"),
        ({"betas": (0.9, nan)}, r"Expected both `betas` in \[0, 1\)"),
        ({"eps": 0.0}, r"Expected `eps` to be positive, got 0.0"),
        ({"eps": nan}, r"Expected `eps` to be positive, got nan"),
    ],
)
@pytest.mark.parametrize("cls", [PaperAdam, SuperpositionalAdam])
def test_settings_out_of_range_are_refused(
    cls: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cls([torch.nn.Parameter(torch.ones(2))], **settings)


def test_superpositional_adam_refuses_a_negative_strength() -> None:
    with pytest.raises(ValueError, match=r"Expected `strength` to be non-negative"):
        SuperpositionalAdam([torch.nn.Parameter(torch.ones(2))], strength=-0.5)


def sparse_gradient() -> Tensor:
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3).to_sparse()
    return parameter


def complex_gradient() -> Tensor:
    parameter = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    parameter.grad = torch.ones_like(parameter)
    return parameter


@pytest.mark.parametrize("make", [sparse_gradient, complex_gradient])
def test_paper_adam_refuses_what_equation_one_does_not_cover(make: Any) -> None:
    with pytest.raises(
        TypeError, match=r"PaperAdam takes dense real gradients only: .*sparse=False"
    ):
        PaperAdam([make()]).step()

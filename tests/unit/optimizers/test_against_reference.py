"""The wrapper equals the hand-written loop around every optimizer of torch."""

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import MuonWithAdamW, PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation, UpdateInjection
from tests import reference
from tests.cases import BASE_CASES, COORDINATES, INJECTIONS, BaseCase, Problem, dense_problem
from tests.reference import ReferenceOptimizer, circuit_readout

RUNS = [
    pytest.param(case, injection, closure, id=f"{case.name}-{injection}-{closure=}")
    for case in BASE_CASES
    for injection in INJECTIONS
    for closure in (False, True)
    if closure or not case.needs_closure
    if not (case.name == "SparseAdam" and injection == "gradient")  # refused: test_odd_tensors
]


def run(problem: Problem, optimizer: Any, with_closure: bool, steps: int = 10) -> torch.Tensor:
    for _ in range(steps):
        if with_closure:
            optimizer.step(problem.backward)
        else:
            problem.backward()
            optimizer.step()
    return problem.flat()


def largest_difference(left: torch.Tensor, right: torch.Tensor) -> float:
    return (left - right).abs().max().item()


def test_the_oracle_imports_nothing_of_the_package() -> None:
    tree = ast.parse(Path(reference.__file__).read_text())
    names = [
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    assert names
    assert not [n for n in names if n.split(".")[0] in ("lightning_qsgd", "tests")]


def test_every_optimizer_of_torch_is_a_case() -> None:
    classes = {
        cls
        for _, cls in inspect.getmembers(torch.optim, inspect.isclass)
        if issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer
    }
    assert classes == {case.cls for case in BASE_CASES} - {MuonWithAdamW}


@pytest.mark.parametrize(("case", "injection", "with_closure"), RUNS)
def test_wrapped_run_agrees_with_the_reference_loop(
    case: BaseCase, injection: str, with_closure: bool
) -> None:
    plain, expected, wrapped = case.problem(), case.problem(), case.problem()
    perturbation = Perturbation(injection=INJECTIONS[injection], strength=0.5)
    optimizer = PerturbedOptimizer(case.make(wrapped.parameters), perturbation)
    oracle = ReferenceOptimizer(case.make(expected.parameters), injection, strength=0.5)

    unperturbed = run(plain, case.make(plain.parameters), with_closure, case.steps)
    by_loop = run(expected, oracle, with_closure, case.steps)
    by_wrapper = run(wrapped, optimizer, with_closure, case.steps)

    assert largest_difference(by_wrapper, by_loop) <= 1e-7
    assert optimizer.own_state.applied == optimizer.own_state.steps == case.steps
    if case.cancels_gradient_scale and injection == "gradient":
        assert largest_difference(by_wrapper, unperturbed) == 0.0  # signs cannot flip: |s u| < 1
    else:
        assert largest_difference(by_wrapper, unperturbed) > 1e-4


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_every_reading_of_the_coordinates_agrees_with_the_loop(
    injection: str, coordinates: str
) -> None:
    expected, wrapped = dense_problem(), dense_problem()
    perturbation = Perturbation(
        injection=INJECTIONS[injection], coordinates=COORDINATES[coordinates]
    )
    optimizer = PerturbedOptimizer(torch.optim.AdamW(wrapped.parameters, lr=1e-2), perturbation)
    base = torch.optim.AdamW(expected.parameters, lr=1e-2)
    by_loop = run(expected, ReferenceOptimizer(base, injection, coordinates), False)
    assert largest_difference(run(wrapped, optimizer, False), by_loop) <= 1e-7


@pytest.mark.parametrize("num_qubits", [1, 3, 5])
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_entangled_circuits_agree_with_the_loop_block_by_block(
    coordinates: str, num_qubits: int
) -> None:
    expected = dense_problem(shapes=((2,), (7,), ()))
    wrapped = dense_problem(shapes=((2,), (7,), ()))
    backend = SamplerBackend(SuperpositionCircuit(num_qubits, reps=2), weight_seed=7)
    weights = backend.initial_weights().tolist()
    perturbation = Perturbation(backend=backend, coordinates=COORDINATES[coordinates])
    optimizer = PerturbedOptimizer(torch.optim.SGD(wrapped.parameters, lr=1e-2), perturbation)
    oracle = ReferenceOptimizer(
        torch.optim.SGD(expected.parameters, lr=1e-2),
        coordinates=coordinates,
        num_qubits=num_qubits,
        readout=lambda block: circuit_readout(block, 2, "linear", weights),
    )
    by_loop = run(expected, oracle, False, steps=2)
    assert largest_difference(run(wrapped, optimizer, False, steps=2), by_loop) <= 1e-9


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_float32_parameters_agree_with_the_loop(injection: str, fused: bool) -> None:
    expected, wrapped = dense_problem(torch.float32), dense_problem(torch.float32)
    base = torch.optim.AdamW(expected.parameters, lr=1e-2, fused=fused)
    optimizer = PerturbedOptimizer(
        torch.optim.AdamW(wrapped.parameters, lr=1e-2, fused=fused),
        Perturbation(injection=INJECTIONS[injection]),
    )
    by_loop = run(expected, ReferenceOptimizer(base, injection), False)
    # Parameters lie within [-1, 1]: two roundings of 6e-8 at each of 10 steps, mostly cancelling.
    assert largest_difference(run(wrapped, optimizer, False), by_loop) <= 6e-7


def test_perturbation_with_its_own_step_size_ignores_the_learning_rate() -> None:
    problem = dense_problem(shapes=((3,),))
    problem.backward()
    theta = problem.parameters[0].detach().clone()
    gradient = problem.parameters[0].grad.clone()
    base = torch.optim.SGD(problem.parameters, lr=1e-2)
    PerturbedOptimizer(base, Perturbation(injection=UpdateInjection(step_size=0.3))).step()
    q = torch.sin(torch.pi * theta) * gradient
    torch.testing.assert_close(problem.flat(), theta - 1e-2 * gradient - 0.3 * 0.5 * q)

"""Controls inside the optimizer: compared with the perturbation that they replace."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    Control,
    FirstOfEachTensor,
    FirstOfModel,
    GaussianControl,
    GradientInjection,
    Injection,
    NoiseInjection,
    NudgeInjection,
    PermutedControl,
    Perturbation,
    RandomEntries,
    RandomSignControl,
    RelativeInjection,
    RescaledStepControl,
    UpdateInjection,
)
from tests.cases import Problem, dense_problem

CONTROLS: list[Control] = [
    GaussianControl(),
    RandomSignControl(),
    PermutedControl(),
    RescaledStepControl(),
]
every_control = pytest.mark.parametrize("control", CONTROLS, ids=lambda c: type(c).__name__)
every_kind = pytest.mark.parametrize("kind", [UpdateInjection, RelativeInjection])


@every_control
def test_a_control_of_the_gradient_keeps_the_norm_that_was_added_to_it(control: Control) -> None:
    def seen_by_base(injection: Injection) -> Tensor:
        problem = dense_problem()
        problem.backward()
        before, gradient = problem.flat(), torch.cat([p.grad.flatten() for p in problem.parameters])
        base = SGD(problem.parameters, lr=1.0)
        PerturbedOptimizer(base, Perturbation(injection=injection)).step()
        assert torch.equal(torch.cat([p.grad.flatten() for p in problem.parameters]), gradient)
        return before - problem.flat() - gradient

    plain, controlled = (
        seen_by_base(GradientInjection()),
        seen_by_base(GradientInjection(control=control)),
    )
    assert float(controlled.norm()) == pytest.approx(float(plain.norm()), rel=1e-6)
    assert not torch.allclose(controlled, plain)


def adam(parameters: Any) -> Optimizer:
    return Adam(parameters, lr=0.01)


def sgd_of_two_groups(parameters: list[Tensor]) -> Optimizer:
    groups = [{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:], "lr": 0.03}]
    return SGD(groups, momentum=0.9)


def after(steps: int, problem: Problem, optimizer: Optimizer) -> list[Tensor]:
    for _ in range(steps):
        problem.backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in problem.parameters]


def added_at_first_step(perturbation: Perturbation, make: Any = adam) -> list[Tensor]:
    """What a perturbation adds to each tensor: the difference to the bare base."""
    bare, perturbed = dense_problem(), dense_problem()
    plain = after(1, bare, make(bare.parameters))
    moved = after(1, perturbed, PerturbedOptimizer(make(perturbed.parameters), perturbation))
    return [one - other for one, other in zip(moved, plain, strict=True)]


@every_control
@every_kind
@pytest.mark.parametrize("coordinates", [FirstOfEachTensor(), FirstOfModel(), AllEntries()])
@pytest.mark.parametrize("make", [adam, sgd_of_two_groups])
def test_norm_of_each_tensor_is_that_of_the_perturbation(
    make: Any, coordinates: Any, kind: Any, control: Control
) -> None:
    expected = added_at_first_step(Perturbation(coordinates=coordinates, injection=kind()), make)
    controlled = Perturbation(coordinates=coordinates, injection=kind(control=control))
    got = added_at_first_step(controlled, make)
    for one, other in zip(got, expected, strict=True):
        assert float(one.norm()) == pytest.approx(float(other.norm()), rel=1e-6)
    assert any(not torch.allclose(*pair) for pair in zip(got, expected, strict=True))
    untouched = [other == 0 for other in expected]
    assert all((one[zero] == 0).all() for one, zero in zip(got, untouched, strict=True))


@every_kind
def test_random_signs_change_signs_alone(kind: Any) -> None:
    perturbation = Perturbation(coordinates=AllEntries(), injection=kind())
    signed = Perturbation(coordinates=AllEntries(), injection=kind(control=RandomSignControl()))
    pairs = zip(added_at_first_step(signed), added_at_first_step(perturbation), strict=True)
    for got, expected in pairs:
        torch.testing.assert_close(got.abs(), expected.abs(), rtol=1e-12, atol=1e-17)


@every_kind
def test_rescaled_step_is_parallel_to_the_base_step(kind: Any) -> None:
    controlled = Perturbation(
        coordinates=AllEntries(), injection=kind(control=RescaledStepControl())
    )
    problem = dense_problem()
    start = [parameter.detach().clone() for parameter in problem.parameters]
    moved = after(1, problem, adam(problem.parameters))
    steps = [one - other for one, other in zip(moved, start, strict=True)]
    for got, base in zip(added_at_first_step(controlled), steps, strict=True):
        cosine = torch.cosine_similarity(got.flatten(), base.flatten(), dim=0)
        assert float(cosine) == pytest.approx(1.0, abs=1e-9)


@every_kind
def test_permuting_equal_readouts_is_the_perturbation_itself(kind: Any) -> None:
    def moved(injection: Injection) -> Tensor:
        theta = torch.nn.Parameter(torch.full((4,), 0.3, dtype=torch.float64))
        theta.grad = torch.tensor([1.0, -2.0, 0.5, 3.0]).double()
        PerturbedOptimizer(SGD([theta], lr=0.1), Perturbation(injection=injection)).step()
        return theta.detach()

    torch.testing.assert_close(moved(kind(control=PermutedControl())), moved(kind()))


INJECTIONS: list[Injection] = [
    *(UpdateInjection(control=control) for control in CONTROLS),
    *(RelativeInjection(control=control) for control in CONTROLS),
    NoiseInjection(),
    NudgeInjection(size=1e-3),
]
every_injection = pytest.mark.parametrize("injection", INJECTIONS, ids=repr)


@every_injection
def test_strength_zero_is_the_base_bit_for_bit(injection: Injection) -> None:
    bare, off = dense_problem(), dense_problem()
    perturbation = Perturbation(strength=0.0, injection=injection)
    expected = after(5, bare, adam(bare.parameters))
    got = after(5, off, PerturbedOptimizer(adam(off.parameters), perturbation))
    assert all(torch.equal(*pair) for pair in zip(got, expected, strict=True))


@every_injection
def test_a_resumed_run_draws_what_the_uninterrupted_one_draws(injection: Injection) -> None:
    perturbation = Perturbation(coordinates=RandomEntries(), injection=injection)
    whole, part = dense_problem(), dense_problem()
    expected = after(6, whole, PerturbedOptimizer(adam(whole.parameters), perturbation))
    first = PerturbedOptimizer(adam(part.parameters), perturbation)
    after(3, part, first)
    resumed = PerturbedOptimizer(adam(part.parameters), perturbation)
    resumed.load_state_dict(deepcopy(first.state_dict()))
    got = after(3, part, resumed)
    assert all(torch.equal(*pair) for pair in zip(got, expected, strict=True))


@every_injection
def test_runs_repeat_and_leave_the_global_generator_alone(injection: Injection) -> None:
    runs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        problem = dense_problem()
        perturbation = Perturbation(injection=injection)
        runs.append(after(4, problem, PerturbedOptimizer(adam(problem.parameters), perturbation)))
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))


@pytest.mark.parametrize(
    "injection", [i for i in INJECTIONS if "Rescaled" not in repr(i)], ids=repr
)
def test_another_seed_and_another_step_draw_anew(injection: Injection) -> None:
    def drawn(seed: int, steps: int) -> Tensor:
        problem = dense_problem()
        perturbation = Perturbation(coordinates=AllEntries(), injection=injection, seed=seed)
        optimizer = PerturbedOptimizer(SGD(problem.parameters, lr=0.1), perturbation)
        optimizer.own_state.steps = steps
        after(1, problem, optimizer)
        return problem.flat()

    assert not torch.equal(drawn(0, 0), drawn(1, 0))
    assert not torch.equal(drawn(0, 0), drawn(0, 1))


def test_a_control_takes_its_size_from_the_circuit() -> None:
    backend = SamplerBackend(SuperpositionCircuit(2))
    circuit = Perturbation(backend)
    controlled = Perturbation(backend, injection=UpdateInjection(control=GaussianControl()))
    pairs = zip(added_at_first_step(controlled), added_at_first_step(circuit), strict=True)
    for got, expected in pairs:
        assert float(got.norm()) == pytest.approx(float(expected.norm()), rel=1e-6)


@every_control
def test_what_was_added_is_reported(control: Control) -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(
        SGD(problem.parameters, lr=0.1), Perturbation(injection=UpdateInjection(control=control))
    )
    after(1, problem, optimizer)
    report = optimizer.report
    assert report is not None
    assert report.relative_size > 0
    if isinstance(control, RescaledStepControl):
        assert report.cosine > 0.9


@every_control
def test_a_gradient_that_is_not_finite_spoils_no_other_entry(control: Control) -> None:
    problem = dense_problem()
    injection = UpdateInjection(control=control)
    optimizer = PerturbedOptimizer(
        SGD(problem.parameters, lr=0.1), Perturbation(injection=injection)
    )
    problem.backward()
    first = problem.parameters[0]
    assert first.grad is not None
    first.grad[0, 1] = torch.nan
    optimizer.step()
    assert torch.isfinite(first).logical_not().nonzero().tolist() == [[0, 1]]
    assert optimizer.report is not None
    assert optimizer.report.zero_share == 0.1  # all other entries are perturbed


ACCELERATORS = [
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    ),
    pytest.param(
        "mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs MPS")
    ),
]


@every_injection
@pytest.mark.parametrize("device", ACCELERATORS)
def test_a_run_on_an_accelerator_equals_the_run_on_the_cpu(
    device: str, injection: Injection
) -> None:
    def run(where: str) -> Tensor:
        problem = dense_problem(torch.float32)
        start = [p.detach().clone() for p in problem.parameters]
        moved = [torch.nn.Parameter(value.to(where)) for value in start]
        perturbation = Perturbation(coordinates=AllEntries(), injection=injection)
        optimizer = PerturbedOptimizer(SGD(moved, lr=0.1), perturbation)
        for _ in range(3):
            optimizer.zero_grad()
            sum((p**3).sum() for p in moved).backward()  # type: ignore[union-attr]
            optimizer.step()
        return torch.cat([p.detach().cpu().flatten() for p in moved])

    torch.testing.assert_close(run(device), run("cpu"), rtol=1e-4, atol=1e-5)

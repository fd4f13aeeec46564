"""A step that fails leaves parameters and gradients as they were, and training goes on."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_qsgd.backends import Backend
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import GaussianControl, Injection, Perturbation
from lightning_qsgd.perturbations.step import TouchedStep
from tests.cases import INJECTIONS, Problem, dense_problem
from tests.reference import ReferenceOptimizer


@dataclass(frozen=True)
class FaultyBackend(Backend):
    """A sine that fails when told to."""

    num_qubits: int = 4
    faults: list[str] = field(default_factory=list)

    def readout(self, inputs: Tensor, keys: np.ndarray | None = None) -> Tensor:
        match self.faults.pop() if self.faults else "":
            case "raise":
                raise OSError("the simulator is gone")
            case "nan":
                return torch.full_like(inputs, torch.nan)
            case "inf":
                return torch.full_like(inputs, torch.inf)
        return torch.sin(torch.pi * inputs)


class FaultySGD(torch.optim.SGD):
    """An SGD whose step fails when told to."""

    fail = False

    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else torch.enable_grad()(closure)()
        if self.fail:
            raise RuntimeError("out of memory")
        super().step()
        return loss


def gradients(problem: Problem) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in problem.parameters]).clone()  # type: ignore[union-attr]


def assert_next_step_is_the_first_of_the_reference(
    problem: Problem, optimizer: PerturbedOptimizer, injection: str
) -> None:
    expected = dense_problem()
    expected.backward()
    ReferenceOptimizer(torch.optim.SGD(expected.parameters, lr=1e-2), injection).step()
    assert optimizer.own_state.steps == 0
    problem.backward()
    optimizer.step()
    torch.testing.assert_close(problem.flat(), expected.flat(), rtol=0, atol=1e-12)
    assert optimizer.own_state.applied == optimizer.own_state.steps == 1


@pytest.mark.parametrize("with_closure", [False, True])
@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("raise", OSError, "the simulator is gone"),
        ("nan", FloatingPointError, r"FaultyBackend returned .* not finite at step 0: .*check the"),
        ("inf", FloatingPointError, r"FaultyBackend returned .* not finite at step 0"),
    ],
)
def test_failing_backend_leaves_parameters_and_gradients_untouched(
    fault: str, error: type[Exception], message: str, injection: str, with_closure: bool
) -> None:
    problem = dense_problem()
    backend = FaultyBackend(faults=[fault])
    perturbation = Perturbation(backend=backend, injection=INJECTIONS[injection])
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=1e-2), perturbation)
    problem.backward()
    before = (problem.flat(), gradients(problem))
    with pytest.raises(error, match=message):
        optimizer.step(*([problem.backward] if with_closure else []))
    assert torch.equal(problem.flat(), before[0])
    assert torch.equal(gradients(problem), before[1])
    assert_next_step_is_the_first_of_the_reference(problem, optimizer, injection)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_failing_closure_leaves_parameters_untouched(
    error: type[BaseException], injection: str
) -> None:
    problem = dense_problem()
    perturbation = Perturbation(injection=INJECTIONS[injection])
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=1e-2), perturbation)
    before = problem.flat()

    def closure() -> Tensor:
        problem.backward()
        raise error("stop")

    with pytest.raises(error, match="stop"):
        optimizer.step(closure)
    assert torch.equal(problem.flat(), before)
    assert_next_step_is_the_first_of_the_reference(problem, optimizer, injection)


@pytest.mark.parametrize("with_closure", [False, True])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_failing_base_step_leaves_parameters_untouched_and_restores_gradients(
    injection: str, with_closure: bool
) -> None:
    problem = dense_problem()
    base = FaultySGD(problem.parameters, lr=1e-2)
    optimizer = PerturbedOptimizer(base, Perturbation(injection=INJECTIONS[injection]))
    problem.backward()
    before = (problem.flat(), gradients(problem))
    base.fail = True
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(*([problem.backward] if with_closure else []))
    assert torch.equal(problem.flat(), before[0])
    assert torch.equal(gradients(problem), before[1])
    base.fail = False
    assert_next_step_is_the_first_of_the_reference(problem, optimizer, injection)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_gradients_are_as_before_after_a_step_that_succeeds(injection: str) -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(
        torch.optim.SGD(problem.parameters, lr=1e-2), Perturbation(injection=INJECTIONS[injection])
    )
    problem.backward()
    before = gradients(problem)
    optimizer.step()
    assert torch.equal(gradients(problem), before)


class OneTooFew(Injection):
    """An injection of a user's that returns the wrong shape."""

    def coefficients(self, step: TouchedStep) -> Tensor:
        return step.gradient[1:]


@pytest.mark.parametrize("control", [None, GaussianControl()])
def test_coefficients_of_the_wrong_shape_are_refused_before_anything_moves(control: Any) -> None:
    problem = dense_problem()
    problem.backward()
    before = problem.flat()
    base = torch.optim.SGD(problem.parameters, lr=1e-2)
    optimizer = PerturbedOptimizer(base, Perturbation(injection=OneTooFew(control=control)))
    with pytest.raises(ValueError, match=r"OneTooFew to return shape \(10,\), got \(9,\): .*ret"):
        optimizer.step()
    assert torch.equal(problem.flat(), before)


@pytest.mark.parametrize("name", ["gradient", "base_step"])
def test_what_was_not_asked_for_cannot_be_read_by_mistake(name: str) -> None:
    class Forgetful(Injection):
        needs_gradient = False

        def coefficients(self, step: TouchedStep) -> Tensor:
            return getattr(step, name)  # type: ignore[no-any-return]

    problem = dense_problem()
    problem.backward()
    base = torch.optim.SGD(problem.parameters, lr=1e-2)
    optimizer = PerturbedOptimizer(base, Perturbation(injection=Forgetful()))
    with pytest.raises(RuntimeError, match=rf"`{name}` of this step was not read.*needs_{name} ="):
        optimizer.step()


def test_what_an_injection_needs_may_change_during_a_training() -> None:
    class Later(Injection):
        """Adds to the gradient's step first, and to the base's from the third step on."""

        now = 0

        @property
        def needs_base_step(self) -> bool:  # type: ignore[override]
            return self.now >= 2

        def coefficients(self, step: TouchedStep) -> Tensor:
            return 0.5 * step.base_step if self.needs_base_step else -0.1 * step.gradient

    problems = dense_problem(), dense_problem()
    kept = PerturbedOptimizer(
        torch.optim.SGD(problems[0].parameters, lr=0.1), Perturbation(injection=Later())
    )
    for Later.now in range(4):
        anew = PerturbedOptimizer(
            torch.optim.SGD(problems[1].parameters, lr=0.1), Perturbation(injection=Later())
        )
        for problem, optimizer in zip(problems, (kept, anew), strict=True):
            problem.backward()
            optimizer.step()
    assert torch.equal(problems[0].flat(), problems[1].flat())

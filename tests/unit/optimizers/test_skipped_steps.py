"""Steps whose circuits fail: taken without their perturbation, whole, and counted."""

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_qsgd.backends import Backend, SamplerBackend, SineBackend, SkippedStep
from lightning_qsgd.backends.evaluation import CircuitLimitReached
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    Alignment,
    AllEntries,
    Learning,
    Perturbation,
    RelativeInjection,
    RenormalisedInjection,
)
from tests.cases import INJECTIONS, Problem, dense_problem


@dataclass(frozen=True, eq=False)
class Failing(Backend):
    """The sine, which asks to skip at the calls that are named."""

    calls: tuple[int, ...]
    limit: int = 10
    made: list[int] = field(default_factory=list)
    num_qubits: int = 2

    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        self.made.append(1)
        if len(self.made) - 1 in self.calls:
            raise SkippedStep("no device", self.limit)
        return SineBackend().readout(inputs)


def train(problem: Problem, optimizer: torch.optim.Optimizer, steps: int) -> Tensor:
    for _ in range(steps):
        problem.backward()
        optimizer.step()
    return problem.flat()


def perturbed(backend: Backend, problem: Problem, injection: str = "update") -> PerturbedOptimizer:
    perturbation = Perturbation(backend, AllEntries(), injection=INJECTIONS[injection])
    return PerturbedOptimizer(torch.optim.AdamW(problem.parameters, lr=1e-2), perturbation)


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("closure", [False, True])
def test_skipped_step_is_the_base_optimizers_own_bit_for_bit(injection: str, closure: bool) -> None:
    problem, plain = dense_problem(), dense_problem()
    optimizer = perturbed(Failing((0,)), problem, injection)
    base = torch.optim.AdamW(plain.parameters, lr=1e-2)
    if closure:
        optimizer.step(problem.backward)
    else:
        train(problem, optimizer, 1)
    assert torch.equal(problem.flat(), train(plain, base, 1))
    state = optimizer.own_state
    assert (state.steps, state.due, state.applied, state.skipped) == (1, 1, 0, 1)
    assert optimizer.report is None
    train(problem, optimizer, 1)
    assert not torch.equal(problem.flat(), train(plain, base, 1))
    assert (state.applied, state.skipped) == (1, 1)


def test_step_after_the_last_allowed_skip_raises_before_anything_moves() -> None:
    problem = dense_problem()
    optimizer = perturbed(Failing((1, 2, 4), limit=2), problem)
    before = train(problem, optimizer, 4)
    message = r"failed at 2 steps before, and the limit of SkipOnFailure is 2.*no device.*repair"
    with pytest.raises(RuntimeError, match=message):
        train(problem, optimizer, 1)
    assert torch.equal(problem.flat(), before)
    assert (optimizer.own_state.steps, optimizer.own_state.skipped) == (4, 2)


def test_skipped_steps_are_saved_and_count_after_a_resume() -> None:
    optimizer = perturbed(Failing((0,), limit=1), problem := dense_problem())
    train(problem, optimizer, 1)
    resumed = perturbed(Failing((0,), limit=1), again := dense_problem())
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.own_state.skipped == 1
    with pytest.raises(RuntimeError, match="Cannot skip another step"):
        train(again, resumed, 1)


def test_skipped_step_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    problem = dense_problem()
    with caplog.at_level(logging.WARNING):
        train(problem, perturbed(Failing((1,)), problem), 3)
    message = "Step 1 is taken without its perturbation (1 skipped so far): no device"
    assert caplog.messages == [message]


def test_learning_goes_on_after_a_skipped_step() -> None:
    problem = dense_problem()
    perturbation = Perturbation(
        Failing((2,)),
        AllEntries(),
        injection=RelativeInjection(),
        learning=Learning(strength_rate=0.02),
    )
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=1e-2), perturbation)
    train(problem, optimizer, 3)
    assert optimizer.own_state.learned is not None
    assert optimizer.own_state.learned.pending is None  # nothing was added to learn from
    train(problem, optimizer, 2)
    assert optimizer.own_state.learned.pending is not None
    assert (optimizer.own_state.skipped, optimizer.own_state.applied) == (1, 4)


def test_step_that_would_exceed_the_limit_raises_before_anything_moves() -> None:
    problem = dense_problem(shapes=((4,), (2,)))
    backend = SamplerBackend(SuperpositionCircuit(2), max_circuits=7)  # 3 circuits per step
    optimizer = perturbed(backend, problem)
    before = train(problem, optimizer, 2)
    assert optimizer.own_state.circuits == 6
    message = r"3 more circuits: 6 were evaluated, and `max_circuits` is 7.*No parameter was"
    with pytest.raises(CircuitLimitReached, match=message):
        train(problem, optimizer, 1)
    assert torch.equal(problem.flat(), before)
    assert (optimizer.own_state.steps, optimizer.own_state.circuits) == (2, 6)


def test_circuits_are_saved_and_count_after_a_resume() -> None:
    backend = SamplerBackend(SuperpositionCircuit(2), max_circuits=7)
    optimizer = perturbed(backend, problem := dense_problem(shapes=((4,), (2,))))
    train(problem, optimizer, 2)
    resumed: Any = perturbed(backend, again := dense_problem(shapes=((4,), (2,))))
    resumed.load_state_dict(optimizer.state_dict())
    with pytest.raises(CircuitLimitReached, match="6 were evaluated"):
        train(again, resumed, 1)


def aligned(backend: Backend, problem: Problem) -> PerturbedOptimizer:
    """Ask the backend at every step, when the base has moved."""
    perturbation = Perturbation(
        backend, AllEntries(), injection=RenormalisedInjection(), features=Alignment()
    )
    return PerturbedOptimizer(torch.optim.AdamW(problem.parameters, lr=1e-2), perturbation)


def test_a_backend_asked_after_the_base_has_moved_skips_as_well() -> None:
    """Alignment is known only then, and a backend that describes no circuit is asked each step."""
    problem, plain = dense_problem(), dense_problem()
    optimizer = aligned(Failing((0, 3), limit=2, num_qubits=1), problem)
    base = torch.optim.AdamW(plain.parameters, lr=1e-2)
    assert torch.equal(train(problem, optimizer, 1), train(plain, base, 1))
    state = optimizer.own_state
    assert (state.steps, state.due, state.applied, state.skipped) == (1, 1, 0, 1)
    assert optimizer.report is None
    assert not torch.equal(train(problem, optimizer, 1), train(plain, base, 1))
    assert (state.steps, state.applied, state.skipped) == (2, 1, 1)


def test_the_last_skip_after_the_base_has_moved_says_so() -> None:
    problem = dense_problem()
    optimizer = aligned(Failing((0, 1), limit=1, num_qubits=1), problem)
    train(problem, optimizer, 1)
    with pytest.raises(RuntimeError, match=r"limit of SkipOnFailure is 1.*The base has taken its"):
        train(problem, optimizer, 1)
    assert (optimizer.own_state.steps, optimizer.own_state.skipped) == (2, 1)

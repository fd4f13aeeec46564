"""Strength and circuit weights follow the next loss."""

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_qsgd.backends import CompiledBackend, SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    Coordinates,
    CyclicEntries,
    FirstOfModel,
    Injection,
    LargestGradient,
    Learning,
    LinearDecay,
    Perturbation,
    RandomEntries,
    RelativeInjection,
    Strength,
    UpdateInjection,
)
from tests.cases import BASE_CASES, BaseCase, dense_problem
from tests.learning_cases import Entangled, TurnedSine, entangled_readout, quadratic, train
from tests.reference import ReferenceLearner, circuit_readout

BOTH = Learning(strength_rate=0.05, weights_rate=0.3)
INJECTIONS: dict[str, Injection] = {"update": UpdateInjection(), "relative": RelativeInjection()}
LEARNED = Perturbation(Entangled(), AllEntries(), learning=BOTH)


def learned(optimizer: PerturbedOptimizer) -> Any:
    found = optimizer.own_state.learned
    assert found is not None
    return found


def runs_of(coordinates: Coordinates, sizes: list[int], step: int) -> list[list[int]]:
    """Touched entries of the flat vector, by hand, for blocks of two."""
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    if isinstance(coordinates, FirstOfModel):
        return [[0, 1]]
    if isinstance(coordinates, AllEntries):
        return [[start + i for i in range(n)] for start, n in zip(starts, sizes, strict=True)]
    return [
        [start + (step * min(2, n) + i) % n for i in range(min(2, n))]
        for start, n in zip(starts, sizes, strict=True)
    ]


def compare_with_finite_differences(
    coordinates: Coordinates, injection: Injection, rates: tuple[float, float], maximize: bool
) -> ReferenceLearner:
    """Train three tensors in two groups of other learning rates, and by the oracle."""
    start = [[0.4, -0.3, 0.8], [0.2], [-0.7, 0.6]]
    sizes = [len(tensor) for tensor in start]
    problem = quadratic(start, curvature=1.5, target=0.9)
    sign = -1.0 if maximize else 1.0
    loss = problem.loss
    problem = replace(problem, loss=lambda values: sign * loss(values))
    groups = [
        {"params": problem.parameters[:2], "lr": rates[0]},
        {"params": problem.parameters[2:], "lr": rates[1]},
    ]
    base = torch.optim.SGD(groups, maximize=maximize)
    optimizer = PerturbedOptimizer(
        base, replace(LEARNED, coordinates=coordinates, injection=injection)
    )
    oracle = ReferenceLearner(
        loss=lambda theta: sum(0.75 * (t - 0.9) ** 2 for t in theta),
        runs=lambda step: runs_of(coordinates, sizes, step),
        readout=entangled_readout,
        num_qubits=2,
        learning_rates=[rates[0]] * 4 + [rates[1]] * 2,
        strength=0.5,
        rates=(BOTH.strength_rate, BOTH.weights_rate),
        theta=[entry for tensor in start for entry in tensor],
        weights=[0.3, 0.3],
    )
    for _ in range(6):
        train(problem, optimizer, 1)
        oracle.step()
        assert problem.flat().tolist() == pytest.approx(oracle.theta, abs=1e-7)
        assert learned(optimizer).factor == pytest.approx(oracle.factor, abs=1e-6)
        assert learned(optimizer).weights.tolist() == pytest.approx(oracle.weights, abs=1e-6)
    return oracle


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("coordinates", [AllEntries(), CyclicEntries(), FirstOfModel()], ids=str)
def test_learning_follows_finite_differences_of_the_next_loss(
    coordinates: Coordinates, injection: str, maximize: bool
) -> None:
    oracle = compare_with_finite_differences(
        coordinates, INJECTIONS[injection], (0.1, 0.03), maximize
    )
    assert abs(oracle.factor - 1) > 1e-3
    assert abs(oracle.weights[0] - 0.3) > 1e-3


def test_the_papers_circuit_learns_as_the_loop_does() -> None:
    backend = CompiledBackend(SuperpositionCircuit(2, reps=2), weight_seed=3)
    problem = quadratic([[0.4, -0.3, 0.8]], curvature=1.5, target=0.9)
    optimizer = PerturbedOptimizer(
        torch.optim.SGD(problem.parameters, lr=0.1), replace(LEARNED, backend=backend)
    )
    oracle = ReferenceLearner(
        loss=lambda theta: sum(0.75 * (t - 0.9) ** 2 for t in theta),
        runs=lambda step: [[0, 1, 2]],
        readout=lambda block, weights: circuit_readout(block, 2, "linear", weights),
        num_qubits=2,
        learning_rates=[0.1] * 3,
        strength=0.5,
        rates=(BOTH.strength_rate, BOTH.weights_rate),
        theta=[0.4, -0.3, 0.8],
        weights=backend.initial_weights().tolist(),
    )
    train(problem, optimizer, 5)
    for _ in range(5):
        oracle.step()
    assert problem.flat().tolist() == pytest.approx(oracle.theta, abs=1e-7)
    assert learned(optimizer).weights.tolist() == pytest.approx(oracle.weights, abs=1e-6)
    assert float((learned(optimizer).weights - backend.initial_weights()).norm()) > 1e-2


@given(st.floats(1e-3, 0.3), st.floats(1e-3, 0.3), st.sampled_from(sorted(INJECTIONS)))
def test_any_learning_rates_of_the_groups_agree_with_finite_differences(
    first: float, second: float, injection: str
) -> None:
    # How much is learned depends on the rates, and may be next to nothing.
    compare_with_finite_differences(
        AllEntries(), INJECTIONS[injection], (first, second), maximize=False
    )


def always(value: float) -> TurnedSine:
    """A backend whose readout hardly depends on the parameters."""
    return TurnedSine(start=math.asin(value))


@pytest.mark.parametrize("injection", INJECTIONS)
def test_a_strength_that_helps_grows(injection: str) -> None:
    problem = quadratic([[0.01, 0.011, 0.012, 0.013]], target=1e-4)
    perturbation = Perturbation(  # u is about 1: steps are longer than the base's cautious ones
        always(0.99),
        AllEntries(),
        injection=INJECTIONS[injection],
        learning=Learning(strength_rate=0.05),
    )
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.01), perturbation)
    train(problem, optimizer, 21)
    # Each of the 20 lessons says with a cosine of almost -1 that the step was too short.
    assert learned(optimizer).factor == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_a_strength_that_hurts_goes_to_zero_and_the_run_becomes_the_bases(injection: str) -> None:
    start = [[0.01, 0.011, 0.012, 0.013]]
    problem = quadratic(start)
    perturbation = Perturbation(  # u is about -1: it holds the base back
        always(-0.99),
        AllEntries(),
        injection=INJECTIONS[injection],
        learning=Learning(strength_rate=0.05),
    )
    base = torch.optim.SGD(problem.parameters, lr=0.01, momentum=0.5)
    optimizer = PerturbedOptimizer(base, perturbation)
    factors = []
    for _ in range(40):
        train(problem, optimizer, 1)
        factors.append(learned(optimizer).factor)
    off = factors.index(0.0)
    assert 15 < off < 25
    assert set(factors[off:]) == {0.0}
    counters = optimizer.own_state
    assert (counters.steps, counters.due, counters.applied) == (40, 40, off)
    # From then on every step is the base's own, bit for bit.
    bare = quadratic([problem.flat().tolist()])
    plain = torch.optim.SGD(bare.parameters, lr=0.01, momentum=0.5)
    plain.load_state_dict(deepcopy(base.state_dict()))
    train(problem, optimizer, 10)
    train(bare, plain, 10)
    assert torch.equal(problem.flat(), bare.flat())
    assert learned(optimizer).factor == 0.0


def test_at_a_strength_of_zero_no_parameter_is_written_but_by_the_base() -> None:
    problem, bare = quadratic([[0.01, 0.012]]), quadratic([[0.01, 0.012]])
    perturbation = Perturbation(always(-0.99), AllEntries(), learning=Learning(0.5))
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.01), perturbation)
    train(problem, optimizer, 5)
    writes = []
    for trained, by in ((problem, optimizer), (bare, torch.optim.SGD(bare.parameters, lr=0.01))):
        before = trained.parameters[0]._version
        train(trained, by, 1)
        writes.append(trained.parameters[0]._version - before)
    assert learned(optimizer).factor == 0.0
    assert writes[0] == writes[1]


def test_a_strength_of_zero_comes_back_where_the_perturbation_helps_again() -> None:
    problem = quadratic([[0.01, 0.012]])
    perturbation = Perturbation(always(-0.99), AllEntries(), learning=Learning(strength_rate=0.5))
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.01), perturbation)
    train(problem, optimizer, 5)
    assert learned(optimizer).factor == 0.0
    for step in range(4):  # gradients of changing sign: steps that are held back are better
        for parameter in problem.parameters:
            parameter.grad = torch.full_like(parameter, (-1.0) ** step)
        optimizer.step()
    assert learned(optimizer).factor > 0.5


def test_weights_turn_the_circuit_to_where_it_helps() -> None:
    problem = quadratic([[0.01, 0.012]])
    perturbation = Perturbation(always(0.0), AllEntries(), learning=Learning(weights_rate=0.1))
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=1e-3), perturbation)
    train(problem, optimizer, 100)
    u = torch.sin(learned(optimizer).weights)
    assert u.min() > 0.95
    assert learned(optimizer).factor == 1.0


@pytest.mark.parametrize("injection", INJECTIONS)
def test_rates_of_almost_nothing_are_the_run_without_learning(injection: str) -> None:
    plain, slow = dense_problem(), dense_problem()
    perturbation = replace(LEARNED, injection=INJECTIONS[injection], learning=None)
    train(plain, PerturbedOptimizer(torch.optim.AdamW(plain.parameters), perturbation), 10)
    barely = replace(perturbation, learning=Learning(1e-300, 1e-300))
    train(slow, PerturbedOptimizer(torch.optim.AdamW(slow.parameters), barely), 10)
    torch.testing.assert_close(slow.flat(), plain.flat(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("case", BASE_CASES, ids=lambda case: case.name)
def test_every_optimizer_of_torch_can_be_learned_around(case: BaseCase, injection: str) -> None:
    problem = case.problem()
    perturbation = replace(LEARNED, injection=INJECTIONS[injection])
    optimizer = PerturbedOptimizer(case.make(problem.parameters), perturbation)
    for _ in range(3):
        if case.needs_closure:
            optimizer.step(problem.backward)
        else:
            train(problem, optimizer, 1)
    assert learned(optimizer).factor != 1.0
    assert not torch.equal(learned(optimizer).weights, Entangled().initial_weights())
    assert bool(torch.isfinite(problem.flat()).all())


@pytest.mark.parametrize("injection", INJECTIONS)
def test_a_closure_teaches_by_its_first_evaluation(injection: str) -> None:
    by_hand, by_closure = dense_problem(), dense_problem()
    perturbation = replace(LEARNED, injection=INJECTIONS[injection])
    optimizers = [
        PerturbedOptimizer(torch.optim.SGD(p.parameters, lr=0.1), perturbation)
        for p in (by_hand, by_closure)
    ]
    train(by_hand, optimizers[0], 4)
    for _ in range(4):
        optimizers[1].step(by_closure.backward)
    assert torch.equal(by_hand.flat(), by_closure.flat())
    assert learned(optimizers[0]).factor == learned(optimizers[1]).factor != 1.0


def test_sizes_of_loss_learning_rate_and_strength_do_not_matter_to_what_is_learned() -> None:
    found = []
    for scale in (1.0, 1e-6):
        problem = dense_problem()
        loss = problem.loss
        problem = replace(problem, loss=lambda v, s=scale, f=loss: s * f(v))
        base = torch.optim.SGD(problem.parameters, lr=1e-9 / scale)  # parameters hardly move
        optimizer = PerturbedOptimizer(base, replace(LEARNED, strength=0.5 * scale))
        train(problem, optimizer, 3)
        found.append((learned(optimizer).factor, learned(optimizer).weights.tolist()))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-6)
    assert found[0][0] != 1.0


def test_a_step_that_is_not_due_still_teaches() -> None:
    problem = dense_problem()
    perturbation = replace(LEARNED, strength=Strength(0.5, every=3))
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1), perturbation)
    factors = []
    for with_closure in (False, True):
        for _ in range(3):
            optimizer.step(problem.backward) if with_closure else train(problem, optimizer, 1)
            factors.append(learned(optimizer).factor)
    first, taught, idle, again, taught_again, idle_again = factors
    assert first == 1.0
    assert taught == idle == again != 1.0
    assert taught_again == idle_again != taught
    assert (optimizer.own_state.due, optimizer.own_state.applied) == (2, 2)


def test_the_factor_multiplies_the_schedule() -> None:
    problem = quadratic([[0.5, 0.5]])
    schedule = Strength(0.5, decay=LinearDecay(10))
    perturbation = Perturbation(
        TurnedSine(), AllEntries(), schedule, learning=Learning(strength_rate=0.1)
    )
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1), perturbation)
    train(problem, optimizer, 4)
    theta = problem.flat()
    problem.backward()
    optimizer.step()
    added = -0.1 * 0.5 * 0.6 * learned(optimizer).factor * torch.sin(torch.pi * theta + 0.3) * theta
    torch.testing.assert_close(problem.flat(), 0.9 * theta + added)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_teaches_nothing(bad: float) -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1), LEARNED)
    train(problem, optimizer, 2)
    before = learned(optimizer)
    problem.backward()
    problem.parameters[0].grad[0, 0] = bad  # type: ignore[index]
    optimizer.step()
    assert learned(optimizer).factor == before.factor
    assert torch.equal(learned(optimizer).weights, before.weights)


def test_steps_without_gradients_teach_nothing() -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1), LEARNED)
    train(problem, optimizer, 2)
    before = learned(optimizer)
    for parameter in problem.parameters:
        parameter.grad = None
    optimizer.step()
    assert learned(optimizer).factor == before.factor
    assert torch.equal(learned(optimizer).weights, before.weights)
    assert learned(optimizer).pending is None
    train(problem, optimizer, 2)
    assert learned(optimizer).factor != before.factor


def test_a_tensor_whose_gradient_is_missing_counts_as_zero() -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1), LEARNED)
    train(problem, optimizer, 1)
    problem.backward()
    problem.parameters[1].grad = None
    optimizer.step()
    zeroed = dense_problem()
    other = PerturbedOptimizer(torch.optim.SGD(zeroed.parameters, lr=0.1), LEARNED)
    train(zeroed, other, 1)
    zeroed.backward()
    zeroed.parameters[1].grad.zero_()  # type: ignore[union-attr]
    other.step()
    assert learned(optimizer).factor == learned(other).factor != 1.0


def test_a_step_that_a_gradient_scaler_skips_leaves_no_trace() -> None:
    found = []
    for has_overflow in (False, True):
        problem = dense_problem()
        optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1), LEARNED)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for step in range(5 if has_overflow else 4):
            optimizer.zero_grad()
            scaler.scale(problem.loss(problem.parameters)).backward()
            if has_overflow and step == 2:
                problem.parameters[0].grad[0, 0] = math.inf  # type: ignore[index]
            scaler.step(optimizer)
            scaler.update()
        found.append((problem.flat().tolist(), learned(optimizer).factor))
        assert optimizer.own_state.steps == 4
    assert found[0] == found[1]


def test_clipping_by_norm_hardly_changes_what_is_learned_from_a_gradient() -> None:
    found = []
    for limit in (math.inf, 1e-3):
        problem = dense_problem()
        optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=1e-6), LEARNED)
        for _ in range(3):
            problem.backward()
            torch.nn.utils.clip_grad_norm_(problem.parameters, limit)
            optimizer.step()
        found.append(learned(optimizer).factor)
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[0] != 1.0


class FaultySGD(torch.optim.SGD):
    fail = False

    def step(self, closure: Any = None) -> Any:
        if self.fail:
            raise RuntimeError("out of memory")
        return super().step(closure)


def test_a_step_that_fails_teaches_nothing_and_can_be_taken_again() -> None:
    whole, problem = dense_problem(), dense_problem()
    expected = PerturbedOptimizer(torch.optim.SGD(whole.parameters, lr=0.1), LEARNED)
    train(whole, expected, 4)
    base = FaultySGD(problem.parameters, lr=0.1)
    optimizer = PerturbedOptimizer(base, LEARNED)
    train(problem, optimizer, 2)
    base.fail = True
    with pytest.raises(RuntimeError, match="out of memory"):
        train(problem, optimizer, 1)
    base.fail = False
    train(problem, optimizer, 2)
    assert torch.equal(problem.flat(), whole.flat())
    assert learned(optimizer).factor == learned(expected).factor


@pytest.mark.parametrize("kind", ["resized", "removed", "replaced"])
def test_parameters_that_were_exchanged_teach_nothing(kind: str) -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1), LEARNED)
    train(problem, optimizer, 2)
    before = learned(optimizer).factor
    parameters = optimizer.param_groups[0]["params"]
    if kind == "resized":
        parameters[1].data = torch.zeros(5, dtype=torch.float64)
        parameters[1].grad = None
    elif kind == "removed":
        del parameters[1:]
    else:
        parameters[1] = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert learned(optimizer).factor == before
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert learned(optimizer).factor != before


def test_parameters_that_moved_in_memory_teach_as_before() -> None:
    whole, problem = dense_problem(), dense_problem()
    expected = PerturbedOptimizer(torch.optim.SGD(whole.parameters, lr=0.1), LEARNED)
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1), LEARNED)
    for _ in range(4):
        train(whole, expected, 1)
        train(problem, optimizer, 1)
        for parameter in problem.parameters:
            parameter.data = parameter.data.clone()
    assert torch.equal(problem.flat(), whole.flat())
    assert learned(optimizer).factor == learned(expected).factor


@pytest.mark.parametrize(
    "coordinates", [AllEntries(), RandomEntries(), LargestGradient(), CyclicEntries()], ids=str
)
def test_float32_learns_what_float64_learns(coordinates: Coordinates) -> None:
    found = []
    for dtype in (torch.float32, torch.float64):
        problem = dense_problem(dtype)
        optimizer = PerturbedOptimizer(
            torch.optim.AdamW(problem.parameters, lr=1e-2),
            replace(LEARNED, coordinates=coordinates),
        )
        train(problem, optimizer, 5)
        found.append(torch.tensor([learned(optimizer).factor, *learned(optimizer).weights]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5)


def test_the_report_says_what_was_learned_and_what_it_cost() -> None:
    problem = dense_problem()  # 12, 2 and 9 entries: 6 + 1 + 5 blocks of two
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1), LEARNED)
    optimizer.measure_every = 1
    train(problem, optimizer, 1)
    report = optimizer.report
    assert report is not None
    assert (report.circuits, report.strength_factor, report.weights_change) == (12, 1.0, 0.0)
    train(problem, optimizer, 1)
    report = optimizer.report
    state = learned(optimizer)
    assert report.circuits == 24
    assert report.strength_factor == state.factor
    assert report.weights_change == pytest.approx(float((state.weights - 0.3).norm()))
    assert report.weights_change > 0


def test_the_reference_learns_what_the_compiled_circuit_does_and_counts_its_shifts() -> None:
    circuit = SuperpositionCircuit(2)  # 2 inputs and 8 weights: 2 blocks of the 3 entries
    found = []
    for backend in (CompiledBackend(circuit, weight_seed=1), SamplerBackend(circuit, 1)):
        problem = quadratic([[0.4, -0.3, 0.8]])
        optimizer = PerturbedOptimizer(
            torch.optim.SGD(problem.parameters, lr=0.1), replace(LEARNED, backend=backend)
        )
        optimizer.measure_every = 1
        train(problem, optimizer, 3)
        found.append(learned(optimizer).weights)
        report = optimizer.report
        assert report is not None
        if isinstance(backend, CompiledBackend):
            assert report.circuits == 2 + 2
        else:
            assert report.circuits == 2 + 2 + 2 * 2 * 8
            assert optimizer.own_state.circuits == 2 + 2 * report.circuits
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-10)


def test_the_report_leaves_out_what_is_not_learned() -> None:
    for learning in (Learning(strength_rate=0.1), Learning(weights_rate=0.1)):
        problem = dense_problem()
        optimizer = PerturbedOptimizer(
            torch.optim.SGD(problem.parameters, lr=0.1), replace(LEARNED, learning=learning)
        )
        optimizer.measure_every = 1
        train(problem, optimizer, 2)
        report = optimizer.report
        assert report is not None
        assert (report.strength_factor is None) == (learning.strength_rate == 0)
        assert (report.weights_change is None) == (learning.weights_rate == 0)
        assert report.circuits == (24 if learning.weights_rate else 12)


def test_a_strength_learned_to_be_zero_is_reported_without_a_warning() -> None:
    problem = quadratic([[0.01, 0.012]])
    perturbation = Perturbation(always(-0.99), AllEntries(), learning=Learning(0.5))
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.01), perturbation)
    optimizer.measure_every = 1
    train(problem, optimizer, 30)  # a warning would be an error here
    report = optimizer.report
    assert report is not None
    assert (report.strength_factor, report.relative_size, report.zero_share) == (0.0, 0.0, 1.0)


def test_a_perturbation_that_learns_nothing_carries_nothing() -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(torch.optim.SGD(problem.parameters, lr=0.1))
    train(problem, optimizer, 2)
    assert optimizer.own_state.learned is None
    assert "learned" not in optimizer.own_state.to_dict()


def test_keys_of_the_last_step_are_used_to_learn_from_it() -> None:
    seen: list[np.ndarray] = []

    class Recording(Entangled):
        stochastic = True

        def readout(
            self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
        ) -> Tensor:
            assert keys is not None
            seen.append(keys)
            return super().readout(inputs, keys, weights)

    problem = dense_problem()
    optimizer = PerturbedOptimizer(
        torch.optim.SGD(problem.parameters, lr=0.1), replace(LEARNED, backend=Recording())
    )
    train(problem, optimizer, 3)
    first, first_again, second, second_again, third = seen
    assert np.array_equal(first, first_again)
    assert np.array_equal(second, second_again)
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)

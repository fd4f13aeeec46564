"""What the circuit sees: the laws of features and of renormalised steps, and the plain loops."""

import pickle
from collections.abc import Callable
from copy import deepcopy
from itertools import accumulate
from math import inf, nan, pi, sin
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, AdamW, NAdam, Optimizer
from torch.profiler import ProfilerActivity, profile

from lightning_qsgd.backends import (
    Backend,
    CautiousTwin,
    ClassicalTwin,
    CompiledBackend,
    LazyTwin,
    LinearBackend,
    SamplerBackend,
    ShotSampling,
    SineBackend,
)
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer, StepReport
from lightning_qsgd.optimizers import entries as entries_module
from lightning_qsgd.perturbations import (
    Alignment,
    AllEntries,
    EntryFeatures,
    FirstOfEachTensor,
    GaussianControl,
    Gradient,
    GradientInjection,
    Injection,
    Learning,
    PermutedFeatures,
    Perturbation,
    Progress,
    RelativeInjection,
    RenormalisedInjection,
    Step,
    Together,
    UpdateInjection,
    Weight,
)
from lightning_qsgd.perturbations import features as features_module
from lightning_qsgd.perturbations.entry_features import SHORT, relative, rms
from lightning_qsgd.perturbations.step import CHUNK, TouchedStep
from tests.cases import BASE_CASES, BaseCase, Problem, dense_problem
from tests.reference import ReferenceFeatures, circuit_readout

FEATURES: dict[str, EntryFeatures] = {
    "alignment": Alignment(),
    "gradient": Gradient(),
    "step": Step(),
    "weight": Weight(),
    "progress": Progress(10),
    "permuted": PermutedFeatures(Alignment()),
    "together": Together([Alignment(), Gradient(), Step(), Weight()]),
}
every_feature = pytest.mark.parametrize("name", FEATURES)


def circuit(num_qubits: int = 1, reps: int = 1, **settings: Any) -> CompiledBackend:
    return CompiledBackend(SuperpositionCircuit(num_qubits, reps=reps), **settings)


def described(name: str = "alignment", **settings: Any) -> Perturbation:
    features = settings.pop("features", FEATURES.get(name))
    backend = circuit(4, weight_seed=3) if name == "together" else circuit()
    defaults = {"backend": backend, "coordinates": AllEntries(), "features": features}
    return Perturbation(**{**defaults, "injection": RenormalisedInjection(), **settings})


def run(problem: Problem, optimizer: Any, steps: int = 5, closure: bool = False) -> Tensor:
    for _ in range(steps):
        if closure:
            optimizer.step(problem.backward)
        else:
            problem.backward()
            optimizer.step()
    return problem.flat()


def adamw(parameters: Any) -> AdamW:
    return AdamW(parameters, lr=1e-2, weight_decay=0.1)


def largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


DENSE = [case for case in BASE_CASES if case.name != "SparseAdam"]


@pytest.mark.parametrize("case", DENSE, ids=lambda case: case.name)
def test_every_optimizer_with_alignment_agrees_with_the_plain_loop(case: BaseCase) -> None:
    expected, got, plain = case.problem(), case.problem(), case.problem()
    oracle = ReferenceFeatures(
        case.make(expected.parameters), ["alignment"], lambda f: sin(pi / 2 * f[0])
    )
    optimizer = PerturbedOptimizer(case.make(got.parameters), described())
    steps = case.steps
    by_loop = run(expected, oracle, steps, case.needs_closure)
    assert largest(run(got, optimizer, steps, case.needs_closure), by_loop) <= 1e-7
    # Rprop and the like move all entries of a tensor alike; some of them it moves apart
    assert largest(run(plain, case.make(plain.parameters), steps, case.needs_closure), by_loop) > 0
    assert optimizer.own_state.applied == steps


@pytest.mark.parametrize("floor", [None, 0.1, 0.9])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("reps", [1, 2])
def test_four_entangled_features_agree_with_one_circuit_per_entry(
    reps: int, groups: int, floor: float | None
) -> None:
    names = ["alignment", "gradient", "progress", "weight"]
    backend = circuit(4, reps, weight_seed=5)
    weights = backend.initial_weights().tolist()

    def readout(features: list[float]) -> float:
        return sum(circuit_readout([f / 2 for f in features], reps, "linear", weights)) / 4

    def base(parameters: list[Tensor]) -> Optimizer:
        split = [{"params": parameters[:groups], "lr": 0.1}, {"params": parameters[groups:]}]
        return AdamW(split if groups == 2 else parameters, lr=0.03, weight_decay=0.2)

    expected, got = (dense_problem(shapes=((2,), (3,), (2, 2))) for _ in range(2))
    features = [Alignment(), Gradient(), Progress(4), Weight()]
    injection: Injection = RelativeInjection() if floor is None else RenormalisedInjection(floor)
    oracle = ReferenceFeatures(base(expected.parameters), names, readout, 0.8, floor, 4)
    perturbation = described(features=features, backend=backend, injection=injection, strength=0.8)
    by_loop = run(expected, oracle, 3)
    by_package = run(got, PerturbedOptimizer(base(got.parameters), perturbation), 3)
    assert largest(by_package, by_loop) <= 1e-9


def scaled_problem(loss_scale: float, tensor_scale: float) -> Problem:
    """The same landscape with the loss, and the first tensor, in other units."""
    problem = dense_problem()
    inner, first = problem.loss, problem.parameters[0]
    with torch.no_grad():
        first.mul_(tensor_scale)

    def loss(values: list[Tensor]) -> Tensor:
        return loss_scale * inner([values[0] / tensor_scale, *values[1:]])

    return Problem(problem.parameters, loss)


def modulation_of(name: str, problem: Problem, optimizer: Optimizer) -> list[Tensor]:
    """The features of one step, seen by a twin that keeps them."""
    kept: list[Tensor] = []

    class Keeping(SineBackend):
        def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
            kept.append(inputs.clone())
            return super().readout(inputs)

    perturbation = described(name, backend=Keeping())
    wrapped = PerturbedOptimizer(optimizer, perturbation)
    run(problem, wrapped, 2)
    return kept


@every_feature
@given(st.floats(1e-4, 1e4), st.floats(1e-3, 1e3))
def test_no_feature_knows_the_unit_of_loss_or_tensor(
    name: str, loss_scale: float, tensor_scale: float
) -> None:
    plain, scaled = scaled_problem(1.0, 1.0), scaled_problem(loss_scale, tensor_scale)
    # A rate per tensor that makes the two runs the same but for the units.
    one = SGD([{"params": [p], "lr": 0.01} for p in plain.parameters], momentum=0.9)
    rates = [0.01 * tensor_scale**2 / loss_scale, *[0.01 / loss_scale] * 2]
    pairs = zip(scaled.parameters, rates, strict=True)
    other = SGD([{"params": [p], "lr": rate} for p, rate in pairs], momentum=0.9)
    pairs_of_features = zip(
        modulation_of(name, plain, one), modulation_of(name, scaled, other), strict=True
    )
    for expected, got in pairs_of_features:
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)


@every_feature
def test_strength_zero_is_the_base_to_the_last_bit(name: str) -> None:
    bare, wrapped = dense_problem(), dense_problem()
    perturbation = described(name, strength=0.0)
    got = run(wrapped, PerturbedOptimizer(adamw(wrapped.parameters), perturbation))
    assert torch.equal(got, run(bare, adamw(bare.parameters)))


@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("value", [-0.8, 0.5, 1.0])
def test_a_constant_modulation_changes_nothing(value: float, strength: float) -> None:
    class Constant(ClassicalTwin):
        def of_features(self, features: Tensor) -> Tensor:
            return torch.full_like(features, value)

    bare, wrapped = dense_problem(), dense_problem()
    optimizer = PerturbedOptimizer(
        adamw(wrapped.parameters), described(backend=Constant(), strength=strength)
    )
    assert largest(run(wrapped, optimizer), run(bare, adamw(bare.parameters))) <= 1e-12


def test_a_tensor_that_is_switched_off_shrinks_and_does_not_explode() -> None:
    class Off(ClassicalTwin):
        def of_features(self, features: Tensor) -> Tensor:
            return torch.full_like(features, -0.95)

    problem = dense_problem()
    start = problem.flat()
    optimizer = PerturbedOptimizer(
        SGD(problem.parameters, lr=0.1), described(backend=Off(), strength=1.0)
    )
    problem.backward()
    gradient = torch.cat([p.grad.flatten() for p in problem.parameters if p.grad is not None])
    optimizer.step()
    torch.testing.assert_close(problem.flat(), start - 0.1 * gradient * (0.05 / 0.1))


@every_feature
def test_shots_repeat_and_a_resumed_run_is_exact(name: str) -> None:
    qubits = 4 if name == "together" else 1
    backend = SamplerBackend(SuperpositionCircuit(qubits, reps=1), sampling=ShotSampling(50))
    perturbation = described(name, backend=backend)
    whole, again, part = dense_problem(), dense_problem(), dense_problem()
    expected = run(whole, PerturbedOptimizer(adamw(whole.parameters), perturbation), 4)
    repeated = run(again, PerturbedOptimizer(adamw(again.parameters), perturbation), 4)
    first = PerturbedOptimizer(adamw(part.parameters), perturbation)
    run(part, first, 2)
    resumed = PerturbedOptimizer(adamw(part.parameters), perturbation)
    resumed.load_state_dict(deepcopy(first.state_dict()))
    assert torch.equal(repeated, expected)
    assert torch.equal(run(part, resumed, 2), expected)


@pytest.mark.parametrize("place", [entries_module, features_module])
@pytest.mark.parametrize("name", ["together", "permuted"])
@pytest.mark.parametrize(
    "injection",
    [RenormalisedInjection(), RelativeInjection(), RelativeInjection(control=GaussianControl())],
)
def test_large_models_in_chunks_move_as_in_one_piece(
    injection: Injection, name: str, place: Any, monkeypatch: Any
) -> None:
    def moved() -> tuple[Tensor, Tensor]:
        problem = dense_problem(shapes=((3,), (5, 2), (4,), (2, 3)))
        split = [{"params": problem.parameters[:3]}, {"params": problem.parameters[3:], "lr": 0.1}]
        base = AdamW(split, lr=0.03, weight_decay=0.1)
        optimizer = PerturbedOptimizer(base, described(name, injection=injection))
        optimizer.measure_every = 1
        flat = run(problem, optimizer)
        return flat, cast(StepReport, optimizer.report).sums

    expected, sums = moved()
    monkeypatch.setattr(place, "CHUNK", 7)
    got, measured = moved()
    assert largest(got, expected) <= 1e-15
    torch.testing.assert_close(measured, sums, rtol=1e-12, atol=0)


def test_a_large_model_takes_memory_for_two_numbers_per_entry_and_a_run_of_tensors() -> None:
    """Counted is what the allocator gives out in a step beside parameters and gradients."""
    tensors, entries = 60, 2**16
    parameters = [nn.Parameter(torch.rand(entries)) for _ in range(tensors)]
    optimizer = PerturbedOptimizer(SGD(parameters, lr=0.1), described())
    optimizer.measure_every = 0
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.rand(entries)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            optimizer.step()
    events = profiled.profiler.kineto_results.events()
    changes = [event for event in events if event.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    most = max(accumulate(event.nbytes() for event in changes))
    assert 2 <= most / 4 / (tensors * entries) <= 2 + 6 * CHUNK / (tensors * entries)


@pytest.mark.parametrize("learning", [Learning(0.1), Learning(0.0, 0.3), Learning(0.1, 0.3)])
def test_learned_weights_of_features_follow_the_next_loss(learning: Learning) -> None:
    problem, part = dense_problem(), dense_problem()
    features = [Alignment(), Weight()]
    backend = circuit(2, weight_seed=1)
    perturbation = described(features=features, backend=backend, learning=learning)
    optimizer = PerturbedOptimizer(SGD(problem.parameters, lr=0.1), perturbation)
    expected = run(problem, optimizer, 4)
    first = PerturbedOptimizer(SGD(part.parameters, lr=0.1), perturbation)
    run(part, first, 2)
    resumed = PerturbedOptimizer(SGD(part.parameters, lr=0.1), perturbation)
    resumed.load_state_dict(deepcopy(first.state_dict()))
    assert torch.equal(run(part, resumed, 2), expected)
    learned = optimizer.own_state.learned
    assert learned is not None
    if learning.strength_rate > 0:
        assert learned.factor != 1.0
    if learned.weights is not None:
        assert largest(learned.weights, backend.initial_weights()) > 1e-3


def test_learned_weights_go_down_the_loss_of_the_step_that_they_made() -> None:
    """The change has the sign of a finite difference of the loss after the step."""
    backend = circuit(2, weight_seed=1)
    rate = 1e-3

    def loss_after(weights: Tensor) -> float:
        class Given(CompiledBackend):
            def initial_weights(self) -> Tensor:
                return weights

        problem = dense_problem()
        given = Given(SuperpositionCircuit(2, reps=1))
        perturbation = described(features=[Alignment(), Weight()], backend=given)
        run(problem, PerturbedOptimizer(SGD(problem.parameters, lr=0.05), perturbation), 1)
        return float(problem.loss(problem.parameters).detach())

    problem = dense_problem()
    perturbation = described(
        features=[Alignment(), Weight()], backend=backend, learning=Learning(0.0, rate)
    )
    optimizer = PerturbedOptimizer(SGD(problem.parameters, lr=0.05), perturbation)
    run(problem, optimizer, 2)
    start = backend.initial_weights()
    change = optimizer.own_state.learned.weights - start  # type: ignore[union-attr,operator]
    slopes = []
    for index in range(len(start)):
        nudge = torch.zeros_like(start)
        nudge[index] = 1e-5
        slopes.append((loss_after(start + nudge) - loss_after(start - nudge)) / 2e-5)
    assert float(torch.cosine_similarity(change, -torch.tensor(slopes).double(), dim=0)) > 0.9999


@every_feature
@pytest.mark.parametrize("spoiled", [nan, inf])
def test_a_gradient_that_is_not_finite_adds_nothing_to_its_tensor(
    name: str, spoiled: float
) -> None:
    def stepped(wrap: Callable[[Optimizer], Optimizer]) -> list[Tensor]:
        problem = dense_problem()
        optimizer = wrap(SGD(problem.parameters, lr=0.1))
        problem.backward()
        problem.parameters[0].grad[0, 1] = spoiled  # type: ignore[index]
        optimizer.step()
        return [p.detach() for p in problem.parameters]

    bare = stepped(lambda base: base)
    got = stepped(lambda base: PerturbedOptimizer(base, described(name)))
    known = bare[0].isfinite()
    if name in ("alignment", "step", "permuted", "together"):
        assert torch.equal(got[0][known], bare[0][known])
    assert torch.isfinite(got[0][known]).all()
    if name != "progress":
        assert not torch.equal(got[1], bare[1])


@pytest.mark.parametrize("backend", [LinearBackend(0.5), circuit(2, weight_seed=3)], ids=repr)
def test_an_infinite_gradient_adds_nothing_whatever_the_circuit_reads_at_zero(
    backend: Backend,
) -> None:
    seen = [Progress(5), Gradient()] if backend.num_qubits == 2 else Gradient()
    injection = RelativeInjection()
    moved = []
    for strength in (0.0, 0.9):
        touched = torch.nn.Parameter(torch.ones(3))
        touched.grad = torch.tensor([1.0, -inf, 2.0])
        perturbation = described(
            features=seen, backend=backend, injection=injection, strength=strength
        )
        PerturbedOptimizer(SGD([touched], lr=0.1), perturbation).step()
        moved.append(touched.detach())
    assert torch.equal(*moved)


# float16 holds no smaller eps: torch itself divides 0 by 0 then.
DECAYED = {
    "loop": lambda ps: AdamW(ps, lr=1e-2, weight_decay=0.1, eps=1e-4, foreach=False),
    "foreach": lambda ps: AdamW(ps, lr=1e-2, weight_decay=0.1, eps=1e-4, foreach=True),
    "fused": lambda ps: AdamW(ps, lr=1e-2, weight_decay=0.1, eps=1e-4, fused=True),
    "tensor rate": lambda ps: AdamW(ps, lr=torch.tensor(1e-2), weight_decay=0.1, eps=1e-4),
    "rounded away": lambda ps: AdamW(ps, lr=1e-6, weight_decay=1e-4, eps=1e-4),
    "nadam": lambda ps: NAdam(ps, lr=1e-2, weight_decay=0.1, eps=1e-4, decoupled_weight_decay=True),
    "groups": lambda ps: AdamW(
        [{"params": ps[:1], "weight_decay": 0.3}, {"params": ps[1:], "weight_decay": 0.0}],
        lr=1e-2,
        eps=1e-4,
    ),
}


class Shown(Step):
    """Keeps what is shown."""

    def values(self, step: TouchedStep) -> Tensor:
        SHOWN.append(super().values(step).clone())
        return SHOWN[-1]


SHOWN: list[Tensor] = []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", DECAYED)
@pytest.mark.filterwarnings("ignore:.*rounded away")
def test_a_tensor_that_its_decay_alone_moves_has_taken_no_step(
    name: str, dtype: torch.dtype
) -> None:
    """Rounding of the decay, measured by its own size, looked like steps in any direction."""
    if name == "foreach" and dtype == torch.float16:
        pytest.skip("torch's foreach rounds the factor itself to float16 on a CPU")
    torch.manual_seed(0)
    still, moved = (torch.nn.Parameter(torch.randn(50, 7).to(dtype)) for _ in range(2))
    perturbation = described(features=Shown(), backend=LinearBackend(), strength=0.5)
    optimizer = PerturbedOptimizer(DECAYED[name]([still, moved]), perturbation)
    for _ in range(3):
        still.grad, moved.grad = torch.zeros_like(still), torch.randn_like(moved)
        SHOWN.clear()
        optimizer.step()
        at_rest, stepped = SHOWN[0].split(350)
        assert (at_rest == 0).all()
        if name != "rounded away":
            assert (stepped != 0).float().mean() > 0.5


def test_a_tiny_step_without_decay_is_still_a_step() -> None:
    touched = torch.nn.Parameter(torch.full((4,), 1.5, dtype=torch.float64))
    touched.grad = torch.tensor([1.0, -1.0, 2.0, 1.0], dtype=torch.float64)
    decayed = torch.nn.Parameter(torch.ones(2))
    decayed.grad = torch.ones(2)
    groups = [{"params": [touched], "weight_decay": 0.0}, {"params": [decayed]}]
    base = AdamW(groups, lr=2**-50)
    SHOWN.clear()
    PerturbedOptimizer(base, described(features=Shown(), backend=LinearBackend())).step()
    assert (SHOWN[0][:4] != 0).all()


def test_cases_of_zero_are_defined() -> None:
    still, moved = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    still.grad, moved.grad = torch.zeros(3), torch.tensor([1.0, 0.0, -2.0])
    for name in FEATURES:
        optimizer = PerturbedOptimizer(SGD([still, moved], lr=0.1), described(name))
        optimizer.step()
        assert torch.equal(still.detach(), torch.ones(3)), name
        assert torch.isfinite(moved).all()


def test_a_lazy_twin_leaves_entries_without_gradient_where_they_are() -> None:
    theta = torch.nn.Parameter(torch.ones(4))
    base = AdamW([theta], lr=0.1, weight_decay=0.5)
    lazy = described(
        features=Gradient(), backend=LazyTwin(), injection=RelativeInjection(), strength=1.0
    )
    optimizer = PerturbedOptimizer(base, lazy)
    theta.grad = torch.ones(4)
    optimizer.step()
    before = theta.detach().clone()
    theta.grad = torch.tensor([1.0, 0.0, -1.0, 0.0])
    optimizer.step()
    assert (theta.detach() == before).tolist() == [False, True, False, True]


def test_a_cautious_twin_moves_only_down_the_gradient_and_bounds_its_mean() -> None:
    theta = torch.nn.Parameter(torch.zeros(20, dtype=torch.float64))
    base = SGD([theta], lr=1.0, momentum=0.9)
    cautious = described(backend=CautiousTwin(), strength=1.0)
    optimizer = PerturbedOptimizer(base, cautious)
    theta.grad = torch.ones_like(theta)
    optimizer.step()
    before = theta.detach().clone()
    theta.grad = torch.full_like(theta, -0.1)
    theta.grad[0] = 1.0  # one of 20 still goes down: a mean of 0.05, bounded at 0.1
    optimizer.step()
    moved = theta.detach() - before
    assert moved[0] == pytest.approx(-1.9 / 0.1)
    assert torch.equal(moved[1:], torch.zeros_like(moved[1:]))


def test_permuted_features_are_those_of_the_same_tensor_and_never_stay() -> None:
    plain, permuted = dense_problem(), dense_problem()
    expected = modulation_of("alignment", plain, adamw(plain.parameters))[0].split([12, 2, 9])
    got = modulation_of("permuted", permuted, adamw(permuted.parameters))[0].split([12, 2, 9])
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one.flatten().sort().values, other.flatten().sort().values)
        assert (one != other).all()


def test_frozen_circuits_are_evaluated_once_and_counted_so() -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(adamw(problem.parameters), described("together"))
    optimizer.measure_every = 1
    counts = []
    for _ in range(3):
        run(problem, optimizer, 1)
        assert optimizer.report is not None
        counts.append(optimizer.report.circuits)
    assert counts == [81, 0, 0]


def test_a_fault_of_the_backend_leaves_parameters_where_they_are() -> None:
    class Broken(CompiledBackend):
        def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
            return super().readout(inputs) * nan

    problem = dense_problem()
    backend = Broken(SuperpositionCircuit(1, reps=1))
    optimizer = PerturbedOptimizer(adamw(problem.parameters), described(backend=backend))
    problem.backward()
    before = problem.flat()
    with pytest.raises(FloatingPointError, match="Broken returned a readout that is not finite"):
        optimizer.step()
    assert torch.equal(problem.flat(), before)


def test_float16_parameters_keep_their_features_finite() -> None:
    theta = torch.nn.Parameter(torch.full((8,), 0.5, dtype=torch.float16))
    theta.grad = torch.full((8,), 1e-6, dtype=torch.float16)
    theta.grad[0] = 1e-3
    with pytest.warns(UserWarning, match="stored in bfloat16 or float16"):
        optimizer = PerturbedOptimizer(SGD([theta], lr=1.0), described(strength=1.0))
    optimizer.step()
    assert torch.isfinite(theta).all()
    assert optimizer.report is not None
    assert optimizer.report.zero_share < 1


def test_sparse_gradients_show_zero_where_nothing_is_stored() -> None:
    def table() -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).view(4, 3))

    dense, sparse = table(), table()
    tokens = torch.tensor([0, 2, 2])
    for each, is_sparse in ((dense, False), (sparse, True)):
        optimizer = PerturbedOptimizer(SGD([each], lr=0.1), described())
        for _ in range(3):
            optimizer.zero_grad()
            rows = torch.nn.functional.embedding(tokens, each, sparse=is_sparse)
            (rows**2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(sparse.detach(), dense.detach(), rtol=0, atol=1e-14)


def test_fewer_coordinates_see_their_own_mean_square() -> None:
    problem = dense_problem(shapes=((6,),))
    start = problem.flat()
    problem.backward()
    gradient = problem.parameters[0].grad.clone()  # type: ignore[union-attr]
    perturbation = described(
        features=Gradient(),
        coordinates=FirstOfEachTensor(2),
        backend=LinearBackend(factor=2.0),
        injection=UpdateInjection(step_size=0.5),
        strength=1.0,
    )
    PerturbedOptimizer(SGD(problem.parameters, lr=0.1), perturbation).step()
    touched = gradient[:2]
    x = touched / touched.square().mean().sqrt()
    expected = start - 0.1 * gradient
    expected[:2] -= 0.5 * touched * x / (1 + x**2).sqrt()
    torch.testing.assert_close(problem.flat(), expected)


def test_features_are_part_of_the_description() -> None:
    perturbation = described(features=[Alignment(2.0), Gradient()], backend=circuit(2))
    assert pickle.loads(pickle.dumps(perturbation)) == perturbation
    assert perturbation.seen == Together([Alignment(2.0), Gradient()])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"features": "alignment"}, TypeError, r"Expected `features` to be Features or a list of"),
        ({"features": [4]}, TypeError, r"hold features of entries, got int: .*Pass e\.g\."),
        ({"features": []}, ValueError, r"hold one feature at least, got none: .*Pass e\.g\."),
        (
            {"features": Alignment(), "injection": GradientInjection()},
            ValueError,
            r"GradientInjection changes the gradient before.*Use RenormalisedInjection",
        ),
        (
            {"backend": circuit(2)},
            ValueError,
            r"shows each circuit 1 feature, and the circuit of CompiledBackend has 2 inputs\. Give",
        ),
        (
            {"backend": circuit(4, 3), "features": [Alignment()] * 4},
            ValueError,
            r"degrees 3, 3, 3, 3 in its inputs, which takes 2,401 points, over the limit of 625",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        described(**settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Alignment(0.0), r"Expected `sharpness` to be positive and finite, got 0\.0: .*Us"),
        (lambda: Progress(0), r"Expected `total_steps` to be at least 1, got 0: .*Give the number"),
        (lambda: RenormalisedInjection(0.0), r"Expected `floor` to lie in \(0, 1\], got 0\.0: .*U"),
        (lambda: LazyTwin(0), r"Expected `num_qubits` to be at least 1, got 0: .*Leave it out"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_backend_that_describes_no_circuit_is_asked_for_every_entry() -> None:
    class Cubic(Backend):
        num_qubits = 2

        def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
            return (2 * inputs) ** 3

    expected, got = dense_problem(), dense_problem()
    oracle = ReferenceFeatures(
        adamw(expected.parameters), ["gradient", "step"], lambda f: (f[0] ** 3 + f[1] ** 3) / 2
    )
    perturbation = described(features=[Gradient(), Step()], backend=Cubic())
    by_loop = run(expected, oracle)
    optimizer = PerturbedOptimizer(adamw(got.parameters), perturbation)
    assert largest(run(got, optimizer), by_loop) < 1e-9


@pytest.mark.parametrize("strength", [1e-12, 0.3, 1.0, 30.0])
@pytest.mark.parametrize("sizes", [(5,), (3, 1, 4)])
def test_renormalising_is_the_formula_and_carries_its_derivative(
    sizes: tuple[int, ...], strength: float
) -> None:
    generator = torch.Generator().manual_seed(len(sizes))
    u = torch.rand(sum(sizes), dtype=torch.float64, generator=generator) * 2 - 1.2
    injection = RenormalisedInjection()

    def plainly(u: Tensor) -> Tensor:
        ws = [1 + strength * piece for piece in u.split(list(sizes))]
        return torch.cat([(w / w.mean().clamp(min=0.1) - 1) / strength for w in ws])

    shaped = injection.shaped(u, sizes, strength)
    # Written plainly, it rounds 1 + strength * u before it divides by the strength.
    torch.testing.assert_close(shaped, plainly(u), rtol=1e-12, atol=1e-15 / min(1.0, strength))
    free = u.clone().requires_grad_()
    torch.testing.assert_close(injection.shaped(free, sizes, strength).detach(), shaped)
    weights = torch.arange(1.0, sum(sizes) + 1, dtype=torch.float64)
    (got,) = torch.autograd.grad(injection.shaped(free, sizes, strength) @ weights, free)
    (expected,) = torch.autograd.grad(plainly(free) @ weights, free)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=2e-15 / min(1.0, strength))


def moved_at(scale: float, name: str, dtype: torch.dtype) -> list[Tensor]:
    """What a perturbed step adds to the base's, in units of the scale, at one gradient."""
    generator = torch.Generator().manual_seed(1)
    starts = [torch.randn(size, generator=generator).to(dtype) * scale for size in (40, 7, 1)]
    gradients = [torch.randn(len(start), generator=generator).to(dtype) for start in starts]
    results = []
    for wrap in (lambda base: PerturbedOptimizer(base, described(name)), lambda base: base):
        parameters = [nn.Parameter(start.clone()) for start in starts]
        optimizer = wrap(SGD(parameters, lr=0.1, momentum=0.9))  # type: ignore[no-untyped-call]
        for turn in (1.0, -0.5):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = (gradient + turn * gradient.roll(1)) * scale
            optimizer.step()
        results.append([parameter.detach().double() for parameter in parameters])
    return [(got - expected) / scale for got, expected in zip(*results, strict=True)]


@pytest.mark.filterwarnings("ignore:overflow encountered in reduceat:RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1e-20, 1e-16, 1e-12, 1e12, 1e19, 1e25, 1e30])
@pytest.mark.parametrize("name", ["alignment", "gradient", "step", "weight", "together"])
def test_a_feature_is_the_same_in_any_unit_that_the_type_can_hold(
    name: str, scale: float, dtype: torch.dtype
) -> None:
    plain = moved_at(1.0, name, dtype)
    assert float(plain[0].abs().max()) > 1e-3
    for got, expected in zip(moved_at(scale, name, dtype), plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scales", [(1e-25, 1.0), (0.0, 1e20), (1.0, 1e25), (1e-17, 1e-25)])
def test_tensors_in_units_far_apart_are_each_seen_in_their_own(scales: tuple[float, float]) -> None:
    values = torch.linspace(-1, 2, 5)
    both = torch.cat([values * scale for scale in scales])
    got = relative(both, (5, 5)).split(5)
    alone = relative(values, (5,))
    for scale, each in zip(scales, got, strict=True):
        torch.testing.assert_close(each, alone * (scale > 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sharpness", [0.5, 4.0, 100.0])
@pytest.mark.parametrize("still", [0, 1], ids=["gradient", "step"])
def test_alignment_of_a_tensor_that_stands_still_is_zero(sharpness: float, still: int) -> None:
    gradient, delta = torch.tensor([1.0, 2.0, 1.0, 1.0]), torch.tensor([-0.1, -0.2, 0.1, 0.1])
    (gradient, delta)[still][2:] = 0.0
    step = SimpleNamespace(gradient=gradient, without_decay=lambda: delta, sizes=[2, 2])
    seen = Alignment(sharpness).values(cast(TouchedStep, step))
    assert (seen[:2] != 0).all()
    assert (seen[2:] == 0).all()


@pytest.mark.parametrize("sizes", [(3 * 10**6 + 1,), (2**15, 2**15 + 1, 5, 10**6)])
def test_the_rms_of_a_large_tensor_loses_no_squares(sizes: tuple[int, ...]) -> None:
    """Added up in single precision all along, 3e6 squares of a normal draw lose 5e-5."""
    values = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(1))
    exact = [each.double().square().mean().sqrt() for each in values.split(sizes)]
    torch.testing.assert_close(rms(values, sizes).double(), torch.stack(exact), rtol=5e-7, atol=0)
    tiny = rms(values * 1e-30, sizes).double()
    torch.testing.assert_close(tiny, torch.stack(exact) * 1e-30, rtol=5e-6, atol=0)


def test_features_without_an_order_are_refused() -> None:
    given: Any = {Alignment(), Gradient()}
    with pytest.raises(TypeError, match=r"Expected `features` in an order, got a set: .* a list"):
        Together(given)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [3, SHORT - 1, SHORT, 2 * SHORT + 1])
def test_short_and_long_tensors_have_one_rms(size: int, kind: torch.dtype) -> None:
    sizes = [size, size, size + 1, 1]
    units = [1e-30, 1e30, 1.0, 0.0]
    drawn = torch.Generator().manual_seed(size)
    pieces = [
        torch.randn(n, generator=drawn, dtype=torch.float64).mul(unit).to(kind)
        for n, unit in zip(sizes, units, strict=True)
    ]
    exact = torch.stack([piece.double().square().mean().sqrt() for piece in pieces])
    found = rms(torch.cat(pieces), sizes)
    assert found.dtype == kind
    torch.testing.assert_close(found.double(), exact, rtol=5e-7, atol=0)
    pieces[0][-1] = nan
    pieces[2][0] = inf
    assert rms(torch.cat(pieces), sizes).isnan().tolist() == [True, False, True, False]

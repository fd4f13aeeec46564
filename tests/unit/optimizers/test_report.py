"""The numbers of a step report against hand computation, and the warning about invisible ones."""

import warnings
from itertools import chain
from math import isnan, nan, pi, sin, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import (
    InvisiblePerturbationWarning,
    PerturbedOptimizer,
    StepReport,
    motion,
)
from lightning_qsgd.optimizers.entries import GeneralEntries
from lightning_qsgd.optimizers.report import PATIENCE
from lightning_qsgd.perturbations import (
    AllEntries,
    FirstOfEachTensor,
    FirstOfModel,
    HiddenMatrices,
    Perturbation,
    RelativeInjection,
)
from tests.cases import INJECTIONS

LR, STRENGTH = 0.1, 0.5
THETA = [0.5, 0.25, 0.0, 0.8, 0.3, 0.7]
GRADIENT = [1.0, -2.0, 3.0, 0.0, 5.0, -1.0]
TOUCHED = range(4)


def stepped(injection: str, dtype: torch.dtype = torch.float64) -> StepReport:
    theta = nn.Parameter(torch.tensor(THETA, dtype=dtype))
    theta.grad = torch.tensor(GRADIENT, dtype=dtype)
    perturbation = Perturbation(injection=INJECTIONS[injection], strength=STRENGTH)
    optimizer = PerturbedOptimizer(torch.optim.SGD([theta], lr=LR), perturbation)
    optimizer.measure_model_every = 1
    optimizer.step()
    assert optimizer.report is not None
    return optimizer.report


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_report_agrees_with_hand_computation(injection: str, dtype: torch.dtype) -> None:
    u = [sin(pi * THETA[i]) for i in TOUCHED]
    scale = 1.0 if injection == "gradient" else -LR
    base = [scale * GRADIENT[i] for i in TOUCHED]
    added = [STRENGTH * u_i * b for u_i, b in zip(u, base, strict=True)]

    def norm(values: list[float]) -> float:
        return sqrt(sum(value * value for value in values))

    report = stepped(injection, dtype)
    inner = sum(a * b for a, b in zip(added, base, strict=True))
    assert report.relative_size == pytest.approx(norm(added) / norm(base), rel=1e-5)
    assert report.cosine == pytest.approx(inner / norm(added) / norm(base), rel=1e-5)
    assert report.zero_share == 0.5  # theta is 0 at one entry, g at another
    assert report.touched_share == pytest.approx(4 / 6)
    assert (report.touched, report.total, report.circuits) == (4, 6, 0)
    assert report.seconds > 0
    if injection != "gradient":
        assert report.model_relative_size == pytest.approx(
            norm(added) / (LR * norm(GRADIENT)), rel=1e-5
        )


def test_a_gradient_injection_is_not_compared_with_the_step_of_the_model() -> None:
    report = stepped("gradient")
    u = [sin(pi * THETA[i]) for i in TOUCHED]
    added = sqrt(sum((STRENGTH * a * GRADIENT[i]) ** 2 for i, a in enumerate(u)))
    gradient = sqrt(sum(GRADIENT[i] ** 2 for i in TOUCHED))
    assert report.relative_size == pytest.approx(added / gradient, rel=1e-5)
    assert report.model_relative_size is None


def test_model_relative_size_keeps_small_steps_of_double_parameters() -> None:
    theta = nn.Parameter(torch.full((4,), 0.5, dtype=torch.float64))
    theta.grad = torch.ones(4, dtype=torch.float64)
    optimizer = PerturbedOptimizer(torch.optim.SGD([theta], lr=1e-9))
    optimizer.measure_model_every = 1
    optimizer.step()
    assert optimizer.report is not None
    assert optimizer.report.relative_size == pytest.approx(0.5, rel=1e-5)
    assert optimizer.report.model_relative_size == pytest.approx(0.5, rel=1e-5)


def test_circuits_and_entries_are_counted_over_all_tensors() -> None:
    parameters = [nn.Parameter(torch.full((size,), 0.3)) for size in (5, 2)]
    parameters.append(nn.Parameter(torch.full((2,), 0.3 + 0.1j)))
    for each in parameters:
        each.grad = torch.ones_like(each)
    backend = SamplerBackend(SuperpositionCircuit(2))
    perturbation = Perturbation(backend=backend, coordinates=AllEntries())
    optimizer = PerturbedOptimizer(torch.optim.SGD(parameters, lr=0.1), perturbation)
    optimizer.step()
    assert optimizer.report is not None
    assert (optimizer.report.circuits, optimizer.report.touched) == (3 + 1 + 2, 11)
    assert optimizer.report.touched_share == 1.0


@pytest.mark.parametrize(
    ("sums", "relative", "cosine"),
    [
        ([4.0, 16.0, -8.0, 0.0], 0.5, -1.0),
        ([0.0, 4.0, 0.0, 2.0], 0.0, nan),
        ([1.0, 0.0, 0.0, 0.0], float("inf"), nan),
        ([0.0, 0.0, 0.0, 2.0], 0.0, nan),
    ],
)
def test_ratios_of_zero_are_defined(sums: list[float], relative: float, cosine: float) -> None:
    report = StepReport(2, 4, 1, 0.0, torch.tensor(sums))
    assert report.relative_size == relative
    assert report.cosine == cosine or (isnan(cosine) and isnan(report.cosine))
    assert report.model_relative_size is None


def test_measuring_follows_its_intervals() -> None:
    theta = nn.Parameter(torch.full((3,), 0.5))
    theta.grad = torch.ones(3)
    optimizer = PerturbedOptimizer(torch.optim.SGD([theta], lr=0.01))
    optimizer.measure_every = 4
    optimizer.measure_model_every = 6
    assert optimizer.report is None
    measured = []
    for step in range(13):
        before = optimizer.report
        optimizer.step()
        if optimizer.report is not before:
            measured.append((step, optimizer.report.model_relative_size is not None))
    assert measured == [(0, True), (4, False), (6, True), (8, False), (12, True)]


def one_step(parameters: list[nn.Parameter], **settings: Any) -> PerturbedOptimizer:
    optimizer = PerturbedOptimizer(torch.optim.SGD(parameters, lr=0.1))
    for name, value in settings.items():
        setattr(optimizer, name, value)
    return optimizer


@pytest.mark.parametrize(
    ("settings", "model", "expected"),
    [
        ({}, True, (True, True)),
        ({}, False, (True, False)),
        ({"measure_every": 0}, True, (False, False)),
        ({"measure_model_every": 0}, True, (True, False)),
        ({"measure_every": 1000, "measure_model_every": 1000}, True, (True, True)),
    ],
)
def test_asking_measures_the_next_step_alone_and_a_zero_of_the_user_wins(
    settings: dict[str, Any], model: bool, expected: tuple[bool, bool]
) -> None:
    theta = nn.Parameter(torch.full((3,), 0.5))
    theta.grad = torch.ones(3)
    optimizer = one_step([theta], **settings)
    optimizer.step()
    optimizer.report = None
    optimizer.measure_next(model)
    seen = []
    for _ in range(2):
        optimizer.step()
        report = optimizer.report
        whole = None if report is None else report.model_relative_size
        seen.append((report is not None, whole is not None))
        optimizer.report = None
    assert seen == [expected, (False, False)]
    assert {name: getattr(optimizer, name) for name in settings} == settings


def large_parameters(scale: float = 1.0) -> list[nn.Parameter]:
    torch.manual_seed(3)
    shapes = ((300, 200), (40_000,), (50, 3, 20))
    parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    for each in parameters:
        each.grad = scale * torch.randn_like(each) ** 3
    return parameters


def test_step_of_a_large_model_is_estimated_without_bias_and_with_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parameters = large_parameters()
    true = sum(float((0.1 * p.grad).double().square().sum()) for p in parameters)  # type: ignore[operator]
    scores, errors = [], []
    for seed in range(60):
        monkeypatch.setattr(motion, "SEED", seed)
        monkeypatch.setattr(motion, "SAMPLE", 2000)
        sample = motion.MotionSample().start([{"params": parameters, "lr": 0.1}])
        with torch.no_grad():
            torch._foreach_sub_(parameters, [0.1 * p.grad for p in parameters])  # type: ignore[operator]
            estimate = sample.squared_distance()
            torch._foreach_add_(parameters, [0.1 * p.grad for p in parameters])  # type: ignore[operator]
        scores.append((float(estimate.total) - true) / float(estimate.error))
        errors.append(float(estimate.total) - true)
    assert abs(sum(scores) / 60) < 0.6  # tails are heavy: errors of small sums come out small
    assert 0.6 < torch.tensor(scores).std() < 1.6
    assert abs(sum(errors) / 60) < 4 * torch.tensor(errors).std() / 60**0.5


def test_report_of_a_large_model_is_near_the_truth_and_says_how_near() -> None:
    parameters = large_parameters()
    optimizer = one_step(parameters)
    optimizer.measure_next(model=True)
    before = [p.detach().clone() for p in parameters]
    base = sqrt(sum(float((0.1 * p.grad).square().sum()) for p in parameters))  # type: ignore[operator]
    optimizer.step()
    added = sqrt(
        sum(
            float((p.detach() - old + 0.1 * p.grad).square().sum())  # type: ignore[operator]
            for p, old in zip(parameters, before, strict=True)
        )
    )
    assert optimizer.report is not None
    size = optimizer.report.model_relative_size
    error = optimizer.report.model_relative_size_error
    assert size is not None
    assert error is not None
    assert 0 < error < 0.1 * size
    assert size == pytest.approx(added / base, abs=4 * error)


def test_a_small_model_is_looked_at_whole() -> None:
    theta = nn.Parameter(torch.full((7,), 0.5))
    theta.grad = torch.ones(7)
    optimizer = one_step([theta])
    optimizer.measure_next(model=True)
    optimizer.step()
    assert optimizer.report is not None
    assert optimizer.report.model_relative_size_error == 0.0


def test_measuring_the_model_takes_less_than_a_megabyte() -> None:
    parameters = [nn.Parameter(torch.empty(1000, 700)) for _ in range(20)]
    for each in parameters:
        each.grad = torch.zeros_like(each)
    sample = motion.MotionSample()
    snapshot = sample.start([{"params": parameters, "lr": 0.1}])
    rows = sample._entries
    assert isinstance(rows, GeneralEntries)
    kept = [snapshot._before, *(row.chosen for row in rows.rows), *chain(*rows._indices)]
    size = sum(each.numel() * each.element_size() for each in kept if isinstance(each, Tensor))
    assert rows.total == motion.SAMPLE
    assert size + 3 * snapshot._before.numel() * 4 < 1e6


def test_measuring_changes_no_number() -> None:
    def run(every: int, model_every: int, injection: str) -> Tensor:
        theta = nn.Parameter(torch.tensor(THETA))
        perturbation = Perturbation(injection=INJECTIONS[injection])
        optimizer = PerturbedOptimizer(torch.optim.AdamW([theta], lr=0.01), perturbation)
        optimizer.measure_every, optimizer.measure_model_every = every, model_every
        for _ in range(5):
            theta.grad = torch.tensor(GRADIENT)
            optimizer.step()
        return theta.detach()

    for injection in INJECTIONS:
        assert torch.equal(run(1, 1, injection), run(1000, 0, injection))


def embedding_run(
    coordinates: Any, steps: int, loss_scale: float = 1.0, **settings: Any
) -> list[warnings.WarningMessage]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(32, 3))
    perturbation = Perturbation(coordinates=coordinates, **settings)
    optimizer = PerturbedOptimizer(torch.optim.Adam(model.parameters(), lr=1e-3), perturbation)
    optimizer.measure_every = 1
    tokens = torch.arange(1, 17).view(4, 4)
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter("always")
        for _ in range(steps):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(tokens), torch.tensor([0, 1, 2, 0]))
            (loss_scale * loss).backward()
            optimizer.step()
    return log


def test_a_perturbation_of_exactly_zero_warns_once_with_the_remedy() -> None:
    log = embedding_run(FirstOfModel(), steps=3 * PATIENCE)
    assert [each.category for each in log] == [InvisiblePerturbationWarning]
    assert "exactly zero" in str(log[0].message)
    assert "token that may never occur" in str(log[0].message)
    assert "FirstOfEachTensor or RandomEntries" in str(log[0].message)
    assert log[0].filename == __file__


def test_a_perturbation_too_small_to_matter_warns_once_with_the_remedy() -> None:
    # The paper's settings. Adam's step does not depend on the gradient's scale, the perturbation
    # does; the paper's transformer has gradients of about 1e-4 per entry, this model of 1e-1.
    log = embedding_run(FirstOfEachTensor(), steps=3 * PATIENCE, loss_scale=1e-3, strength=0.5)
    assert [each.category for each in log] == [InvisiblePerturbationWarning]
    assert "stayed below" in str(log[0].message)
    assert "RelativeInjection" in str(log[0].message)


@pytest.mark.parametrize("frozen_steps", [PATIENCE - 1, PATIENCE, 3 * PATIENCE])
def test_a_perturbation_that_is_never_applied_says_so_long_before_the_end(
    frozen_steps: int,
) -> None:
    frozen, trained = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    base = torch.optim.SGD([frozen, trained], lr=0.1)
    optimizer = PerturbedOptimizer(base, Perturbation(coordinates=FirstOfModel()))
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter("always")
        for step in range(4 * PATIENCE):
            trained.grad = torch.ones(4)
            frozen.grad = torch.ones(4) if step >= frozen_steps else None
            optimizer.step()
    assert [each.category for each in log] == [InvisiblePerturbationWarning] * (
        frozen_steps >= PATIENCE
    )
    assert all("choose other coordinates" in str(each.message) for each in log)
    assert all(each.filename == __file__ for each in log)
    assert optimizer.own_state.applied == 4 * PATIENCE - frozen_steps


NETWORKS = {
    "two linear layers": lambda: [nn.Linear(4, 3), nn.Linear(3, 2)],
    "one linear layer": lambda: [nn.Linear(4, 3)],
    "no matrix": lambda: [nn.BatchNorm1d(4)],
}


def warned(optimizer: PerturbedOptimizer, model: nn.Module, steps: int) -> list[Any]:
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter("always")
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.rand(5, 4)).square().sum().backward()
            optimizer.step()
    return log


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_coordinates_that_choose_nothing_warn_once_at_the_first_step(layers: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*layers())
    perturbation = Perturbation(coordinates=HiddenMatrices())
    optimizer = PerturbedOptimizer(torch.optim.AdamW(model.parameters()), perturbation)
    log = warned(optimizer, model, steps=1)
    assert [each.category for each in log] == [InvisiblePerturbationWarning]
    assert "choose no entry of any parameter: every step is the base" in str(log[0].message)
    assert "HiddenMatrices(others=[-1])" in str(log[0].message)
    assert log[0].filename == __file__
    assert warned(optimizer, model, steps=2 * PATIENCE) == []
    assert optimizer.own_state.applied == 0


def test_choosing_nothing_at_strength_zero_is_silent() -> None:
    model = nn.Linear(4, 3)
    perturbation = Perturbation(coordinates=HiddenMatrices(), strength=0.0)
    optimizer = PerturbedOptimizer(torch.optim.AdamW(model.parameters()), perturbation)
    assert warned(optimizer, model, steps=1) == []


@pytest.mark.parametrize("way", ["not used yet", "frozen", "added"])
def test_what_is_chosen_later_is_not_taken_for_nothing(way: str) -> None:
    torch.manual_seed(0)
    hidden = nn.LazyLinear(4) if way == "not used yet" else nn.Linear(4, 4)
    ends = nn.Linear(4, 4), nn.Linear(4, 2)
    if way == "frozen":
        hidden.requires_grad_(False)
    middle = () if way == "not used yet" else (hidden,)
    model = nn.Sequential(ends[0], *middle, ends[1])
    own = [*ends[0].parameters(), *ends[1].parameters()]
    perturbation = Perturbation(coordinates=HiddenMatrices(), injection=RelativeInjection())
    if way != "added":
        own[2:2] = hidden.parameters()
    optimizer = PerturbedOptimizer(torch.optim.SGD(own, lr=0.01), perturbation)
    if way == "added":
        optimizer.add_param_group({"params": [*nn.Linear(4, 2).parameters()]})
    assert warned(optimizer, model, steps=2) == []


def test_no_warning_before_patience_is_over() -> None:
    assert embedding_run(FirstOfModel(), steps=PATIENCE - 1) == []


def test_a_healthy_size_never_warns() -> None:
    assert embedding_run(AllEntries(), 3 * PATIENCE, injection=RelativeInjection()) == []


def test_one_visible_step_among_many_is_no_reason_for_a_warning() -> None:
    theta = nn.Parameter(torch.full((3,), 0.5))
    optimizer = PerturbedOptimizer(torch.optim.SGD([theta], lr=0.01))
    optimizer.measure_every = 1
    for step in range(4 * PATIENCE):
        theta.data.fill_(0.5 if step % PATIENCE == 0 else 0.0)
        theta.grad = torch.ones(3)
        optimizer.step()


def test_a_step_that_is_never_measured_leaves_no_report() -> None:
    theta = nn.Parameter(torch.full((4,), 0.5))
    theta.grad = torch.ones(4)
    optimizer = PerturbedOptimizer(torch.optim.SGD([theta], lr=0.1))
    optimizer.measure_every = 0
    optimizer.step()
    assert optimizer.report is None
    assert optimizer.own_state.applied == 1


def test_a_parameter_that_is_nan_makes_the_size_undefined() -> None:
    theta = nn.Parameter(torch.tensor([nan, 0.5]))
    theta.grad = torch.ones(2)
    optimizer = PerturbedOptimizer(torch.optim.SGD([theta], lr=0.1))
    optimizer.step()
    assert optimizer.report is not None
    assert isnan(optimizer.report.relative_size)


def test_a_report_can_be_read() -> None:
    sums = torch.tensor([1.0, 4.0, 1.0, 0.0])

    assert repr(StepReport(2_000, 4_000, 7, 0.0123, sums)) == (
        "StepReport(2,000 of 4,000 entries perturbed, by 0.5 of the step there, cosine 0.50; "
        "7 circuits, 12 ms)"
    )

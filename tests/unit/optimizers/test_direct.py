"""Eq. 1 written out takes the same steps as its parts do: to the last bit."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from lightning_qsgd import (
    AllEntries,
    Backend,
    CompiledBackend,
    GaussianControl,
    LinearBackend,
    Perturbation,
    PerturbedOptimizer,
    RandomEntries,
    RelativeInjection,
    SamplerBackend,
    SineBackend,
    Strength,
    SuperpositionCircuit,
    UpdateInjection,
    Weight,
)
from lightning_qsgd.optimizers import injector
from lightning_qsgd.perturbations import Coordinates, Learning

SHAPES = ((3, 4), (5,), (), (2, 3, 2), (7, 1))
Base = Callable[[list[Parameter]], torch.optim.Optimizer]


def two_rates(parameters: list[Parameter]) -> torch.optim.Optimizer:
    groups = [
        {"params": parameters[:2]},
        {"params": parameters[2:], "lr": 0.3, "weight_decay": 0.0, "maximize": True},
    ]
    return torch.optim.AdamW(groups, lr=0.01)


class WithD(torch.optim.SGD):
    """Tells an estimate of the step size in its groups, as Prodigy does."""

    def __init__(self, parameters: list[Parameter]) -> None:
        super().__init__(parameters, lr=0.5)
        self.param_groups[0].update(d=0.1, d0=0.1)


BASES: dict[str, Base] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "maximize": lambda p: torch.optim.Adam(p, lr=0.1, maximize=True),
    "two rates": two_rates,
    "tensor rate": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01, dtype=torch.float64)),
    "rate of shape 1": lambda p: torch.optim.SGD(p, lr=torch.tensor([0.1], dtype=torch.float64)),
    "numpy rate": lambda p: torch.optim.SGD(p, lr=np.float64(0.1)),
    "d": WithD,
}


def parameters_of(dtype: torch.dtype) -> list[Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


@dataclass
class Run:
    """One of the two ways, with a problem of its own."""

    parameters: list[Parameter]
    optimizer: PerturbedOptimizer

    @classmethod
    def of(cls, base: Base, perturbation: Perturbation, direct: bool, dtype: torch.dtype) -> "Run":
        parameters = parameters_of(dtype)
        optimizer = PerturbedOptimizer(base(parameters), perturbation)
        assert optimizer._cache.is_direct
        optimizer._cache.is_direct = direct
        optimizer.measure_every = 2
        return cls(parameters, optimizer)

    def gradients(self, step: int, spoil: Callable[[list[Parameter]], None]) -> None:
        generator = torch.Generator().manual_seed(step)
        for parameter in self.parameters:
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.grad = drawn.to(parameter.dtype)
        spoil(self.parameters)


def nothing(parameters: list[Parameter]) -> None:
    """Leave the gradients as they are."""


def compare(
    base: Base,
    coordinates: Coordinates | None = None,
    dtype: torch.dtype = torch.float32,
    spoil: Callable[[list[Parameter]], None] = nothing,
    closure: bool = False,
    backend: Backend | None = None,
) -> list[Tensor]:
    chosen: dict[str, Any] = {"backend": backend or SineBackend()}
    if coordinates is not None:
        chosen["coordinates"] = coordinates
    perturbation = Perturbation(strength=Strength(0.7, warmup_steps=2), **chosen)
    runs = [Run.of(base, perturbation, direct, dtype) for direct in (True, False)]
    before = [parameter.detach().clone() for parameter in runs[0].parameters]
    for step in range(5):
        for run in runs:
            run.gradients(step, spoil)
            if closure:
                run.optimizer.step(partial(run.gradients, step + 100, spoil))
            else:
                run.optimizer.step()
        for direct, general in zip(runs[0].parameters, runs[1].parameters, strict=True):
            assert torch.equal(direct.nan_to_num(7.0), general.nan_to_num(7.0))
        reports = [run.optimizer.report for run in runs]
        assert reports[0] is not None
        assert reports[1] is not None
        sums = [report.sums for report in reports if report is not None]
        assert torch.equal(sums[0].nan_to_num(7.0), sums[1].nan_to_num(7.0))
        assert len({report.circuits for report in reports if report is not None}) == 1
    assert runs[0].optimizer.own_state.applied == runs[1].optimizer.own_state.applied == 5
    return [p.detach() - old for p, old in zip(runs[0].parameters, before, strict=True)]


@pytest.mark.filterwarnings("ignore:A parameter group is in bfloat16 or float16")
@pytest.mark.filterwarnings("ignore:.*bfloat16 or float16")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("base", BASES)
def test_bases_and_types(base: str, dtype: torch.dtype) -> None:
    compare(BASES[base], dtype=dtype)


@pytest.mark.parametrize("coordinates", [AllEntries(), RandomEntries(6)], ids=repr)
@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("base", ["sgd", "two rates"])
def test_coordinates_and_closures(base: str, coordinates: Coordinates, closure: bool) -> None:
    compare(BASES[base], coordinates, closure=closure)


class Sine(SineBackend):
    """May read something else."""


SMALL = SuperpositionCircuit(num_qubits=3)
BACKENDS = {
    "compiled": CompiledBackend(SMALL),
    "shots": SamplerBackend(SMALL, sampling=16),
    "twin": LinearBackend(),
    "own": Sine(),
}


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
@pytest.mark.parametrize("closure", [False, True])
def test_backends(backend: Backend, closure: bool) -> None:
    compare(BASES["two rates"], backend=backend, closure=closure)
    compare(BASES["sgd"], AllEntries(), backend=backend, spoil=infinite, closure=closure)


def infinite(parameters: list[Parameter]) -> None:
    with torch.no_grad():
        parameters[0].view(-1)[:2] = torch.tensor([float("nan"), float("inf")])


def poisoned(parameters: list[Parameter]) -> None:
    infinite(parameters)
    with torch.no_grad():
        parameters[1][0] = 3e38  # times pi, it overflows
    parameters[3].grad.view(-1)[:2] = torch.tensor([float("nan"), -float("inf")])  # type: ignore[union-attr]


def missing(parameters: list[Parameter]) -> None:
    parameters[1].grad = None


def transposed(parameters: list[Parameter]) -> None:
    gradient = parameters[0].grad
    assert gradient is not None
    parameters[0].grad = gradient.t().contiguous().t()


@pytest.mark.parametrize("spoil", [poisoned, missing, transposed])
def test_odd_values(spoil: Callable[[list[Parameter]], None]) -> None:
    moved = compare(BASES["sgd"], spoil=spoil)
    assert (~moved[3].isfinite()).sum() == (2 if spoil is poisoned else 0)


class Update(UpdateInjection):
    """May add something else."""


OTHERS: dict[str, dict[str, Any]] = {
    "injection": {"injection": RelativeInjection()},
    "subclass": {"injection": Update()},
    "features": {"features": [Weight()], "backend": LinearBackend()},
    "control": {"injection": UpdateInjection(control=GaussianControl())},
    "step size": {"injection": UpdateInjection(step_size=0.1)},
    "learning": {"learning": Learning(strength_rate=0.1)},
}


@pytest.mark.parametrize("parts", OTHERS.values(), ids=OTHERS)
def test_other_parts_are_asked(parts: dict[str, Any]) -> None:
    assert Perturbation().is_direct
    assert Perturbation(Sine(), AllEntries(), strength=0.1, seed=3).is_direct
    assert not Perturbation(**parts).is_direct
    assert Perturbation().is_sine
    assert not Perturbation(Sine()).is_sine


def test_a_method_that_was_replaced_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SineBackend, "readout", lambda self, inputs, *_: inputs * 0)
    assert not Perturbation().is_sine
    monkeypatch.setattr(UpdateInjection, "coefficients", lambda self, step: step.gradient * 0)
    assert not Perturbation().is_direct


def test_the_default_takes_the_direct_way(monkeypatch: pytest.MonkeyPatch) -> None:
    parameter = Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    asked = []
    monkeypatch.setattr(injector.DirectInjector, "before_base_step", lambda *_: asked.append(1))
    monkeypatch.setattr(injector.DirectInjector, "after_base_step", lambda *_: asked.append(2))
    optimizer = PerturbedOptimizer(torch.optim.SGD([parameter], lr=0.1))
    optimizer.measure_every = 0
    optimizer.step()
    assert asked == [1, 2]

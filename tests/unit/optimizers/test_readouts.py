"""What a user's backend, injection or control returns is checked before it is believed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_qsgd.backends import Backend
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    GradientInjection,
    Injection,
    PermutedControl,
    Perturbation,
    RelativeInjection,
    UpdateInjection,
)
from lightning_qsgd.perturbations.controls import Control, Replaced
from lightning_qsgd.perturbations.step import TouchedStep

INJECTIONS: dict[str, Injection] = {
    "update": UpdateInjection(),
    "gradient": GradientInjection(),
    "relative": RelativeInjection(),
    "control": UpdateInjection(control=PermutedControl()),
}


@dataclass(frozen=True)
class Own(Backend):
    """A user's backend; `made` returns its readout."""

    made: Callable[[Tensor], Any]
    separable: bool = False
    num_qubits: int = 2

    def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Any:
        return self.made(inputs)


def sine(inputs: Tensor) -> Tensor:
    return torch.sin(torch.pi * inputs)


FAULTS: dict[str, tuple[Callable[[Tensor], Any], type[Exception], str]] = {
    "one number": (lambda x: sine(x).mean(), ValueError, r"shape \(\) for inputs of shape"),
    "too few": (lambda x: sine(x)[:-1], ValueError, "each input needs one readout.*return a"),
    "too many": (lambda x: torch.cat([sine(x)] * 2), ValueError, "each input needs one readout"),
    "transposed": (lambda x: sine(x)[..., None], ValueError, "each input needs one readout"),
    "an array": (lambda x: np.sin(x.numpy()), TypeError, "of type ndarray at step 0.*like `inputs"),
    "nothing": (lambda x: None, TypeError, "of type NoneType at step 0, instead of a dense"),
    "integers": (lambda x: x.sign().long(), TypeError, "of type torch.int64 at step 0"),
    "complex": (lambda x: sine(x).to(torch.cfloat), TypeError, "of type torch.complex64"),
    "sparse": (lambda x: sine(x).to_sparse(), TypeError, "of type torch.float32 at step 0, inst"),
    "NaN": (lambda x: sine(x) * torch.nan, FloatingPointError, "not finite at step 0.*check the"),
    "infinite": (lambda x: sine(x) / 0.0, FloatingPointError, "not finite at step 0"),
    "out of range": (lambda x: 3.0 * sine(x), ValueError, r"between .* at step 0.*divide the obs"),
    "below": (lambda x: -1.5 * sine(x), ValueError, r"between -1\.\d+ and .*clip what"),
    "one NaN": (lambda x: sine(x).where(x > x.min(), torch.nan), FloatingPointError, "not finite"),
    "huge": (lambda x: 3e38 + 0 * x, ValueError, r"P\(1\) - P\(0\) lies in \[-1, 1\]"),
}


def made(backend: Backend, injection: Injection) -> tuple[nn.Parameter, PerturbedOptimizer]:
    parameter = nn.Parameter(torch.linspace(0.1, 0.8, 7))
    perturbation = Perturbation(backend, AllEntries(), injection=injection)
    optimizer = PerturbedOptimizer(torch.optim.SGD([parameter], lr=0.1), perturbation)
    parameter.grad = torch.ones(7)
    return parameter, optimizer


@pytest.mark.parametrize("measure_every", [0, 1])
@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_readout_that_is_none_is_refused_before_anything_moves(
    fault: str, injection: str, separable: bool, measure_every: int
) -> None:
    readout, error, message = FAULTS[fault]
    parameter, optimizer = made(Own(readout, separable), INJECTIONS[injection])
    optimizer.measure_every = measure_every
    before = parameter.detach().clone()
    with pytest.raises(error, match=f"Own returned a readout .*{message}"):
        optimizer.step()
    assert torch.equal(parameter, before)
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, torch.ones(7))
    assert (optimizer.own_state.steps, optimizer.own_state.applied) == (0, 0)


ACCEPTED: dict[str, Callable[[Tensor], Tensor]] = {
    "float64": lambda x: torch.from_numpy(np.sin(np.pi * x.numpy().astype(np.float64))),
    "float16": lambda x: sine(x).half(),
    "rounded a little": lambda x: sine(x) * (1 + 1e-6),
    "not contiguous": lambda x: torch.stack([sine(x)] * 2, -1)[..., 0],
    "in place": lambda x: x.mul_(torch.pi).sin_(),
    "carries a gradient": lambda x: sine(x) * torch.ones((), requires_grad=True),
}


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("name", ACCEPTED)
def test_other_precisions_and_layouts_of_a_readout_are_taken(
    name: str, injection: str, separable: bool
) -> None:
    results = []
    for readout in (ACCEPTED[name], sine):
        parameter, optimizer = made(Own(readout, separable), INJECTIONS[injection])
        optimizer.step()
        assert optimizer.own_state.applied == 1
        results.append(parameter.detach().clone())
    torch.testing.assert_close(*results, rtol=0, atol=1e-4)


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_what_a_backend_returns_is_never_written_into(injection: str, separable: bool) -> None:
    kept: list[Tensor] = []

    def remembered(inputs: Tensor) -> Tensor:
        if not kept:
            kept.append(sine(inputs.clone()))
        return kept[0]

    _, optimizer = made(Own(remembered, separable), INJECTIONS[injection])
    optimizer.step()
    first = kept[0].clone()
    optimizer.step()
    assert torch.equal(kept[0], first)


def test_a_control_of_the_wrong_shape_is_refused_and_the_step_counted_as_taken() -> None:
    class Short(Control):
        def replace(self, replaced: Replaced) -> Tensor:
            return replaced.added[:-1]

    parameter, optimizer = made(Own(sine), UpdateInjection(control=Short()))
    with pytest.raises(ValueError, match=r"`replace` of Short to return shape \(7,\), got \(6,\)"):
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.linspace(0.1, 0.8, 7) - 0.1)
    assert (optimizer.own_state.steps, optimizer.own_state.applied) == (1, 0)


def test_a_control_that_returns_what_is_not_finite_is_refused_and_nothing_is_added() -> None:
    class Infinite(Control):
        def replace(self, replaced: Replaced) -> Tensor:
            return torch.full_like(replaced.added, torch.inf)

    parameter, optimizer = made(Own(sine), UpdateInjection(control=Infinite()))
    with pytest.raises(ValueError, match="Infinite returned a norm of inf in tensor 0"):
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.linspace(0.1, 0.8, 7) - 0.1)


def test_coefficients_of_the_wrong_shape_move_nothing() -> None:
    class Scalar(UpdateInjection):
        def coefficients(self, step: TouchedStep) -> Tensor:
            return step.gradient.mean()

    parameter, optimizer = made(Own(sine), Scalar())
    before = parameter.detach().clone()
    with pytest.raises(ValueError, match=r"`coefficients` of Scalar to return shape \(7,\)"):
        optimizer.step()
    assert torch.equal(parameter, before)

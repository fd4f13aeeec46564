"""What a user's feature, injection, control or backend returns beside features is checked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from lightning_qsgd.backends import Backend, CautiousTwin, CompiledBackend, LazyTwin
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    Alignment,
    AllEntries,
    EntryFeatures,
    Feature,
    Gradient,
    Injection,
    PermutedFeatures,
    Perturbation,
    Progress,
    RelativeInjection,
    RenormalisedInjection,
    Step,
    UpdateInjection,
)
from lightning_qsgd.perturbations.controls import Control, Replaced
from lightning_qsgd.perturbations.step import TouchedStep

Made = Callable[[TouchedStep], Any]


def ramp(step: TouchedStep) -> Tensor:
    return torch.linspace(-1, 1, step.theta.numel()).to(step.theta)


@dataclass(frozen=True)
class Early(Feature):
    """A user's feature; `made` returns its values before the base has moved."""

    made: Made = field(hash=False)

    def values(self, step: TouchedStep) -> Any:
        return self.made(step)


class Late(Early):
    """The same once the base has moved."""

    needs_base_step = True


def qubits(count: int = 1) -> CompiledBackend:
    return CompiledBackend(SuperpositionCircuit(count, reps=1), weight_seed=0)


def stepped(
    features: Any, entries: int = 10, dtype: torch.dtype = torch.float32, **settings: Any
) -> Tensor:
    """Return what one perturbed step adds to the base's."""
    start = torch.linspace(-0.5, 2.0, entries).to(dtype)
    settings = {"backend": qubits(), "injection": RenormalisedInjection(), **settings}
    perturbation = Perturbation(coordinates=AllEntries(), features=features, **settings)
    parameter = nn.Parameter(start.clone())
    optimizer = PerturbedOptimizer(SGD([parameter], lr=0.1), perturbation)
    parameter.grad = torch.ones(entries, dtype=dtype)
    optimizer.step()
    assert optimizer.own_state.applied == 1
    return parameter.detach() - (start - 0.1)


TAKEN: dict[str, tuple[Made, Made]] = {
    "float64": (lambda s: ramp(s).double(), ramp),
    "float16": (lambda s: ramp(s).half(), ramp),
    "integers": (lambda s: (s.theta > 0).long(), lambda s: (s.theta > 0).to(s.theta)),
    "booleans": (lambda s: s.theta > 0, lambda s: (s.theta > 0).to(s.theta)),
    "carries a gradient": (lambda s: ramp(s).requires_grad_(), ramp),
    "a tensor of one number": (lambda s: torch.tensor(0.3), lambda s: 0.3),
    "a number of numpy": (lambda s: np.float32(0.25), lambda s: 0.25),
    "an integer": (lambda s: 1, lambda s: 1.0),
}


@pytest.mark.parametrize("entries", [10, 70_000])
@pytest.mark.parametrize("kind", [Early, Late])
@pytest.mark.parametrize("name", TAKEN)
def test_features_in_other_precisions_act_as_those_of_the_parameters(
    name: str, kind: Any, entries: int
) -> None:
    with torch.inference_mode(False):
        got, expected = (stepped(kind(made), entries) for made in TAKEN[name])
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-4)
    if name in ("float64", "float16", "integers", "booleans", "carries a gradient"):
        assert float(got.abs().max()) > 1e-3


@dataclass(frozen=True)
class Scaled(Injection):
    """A user's injection in another precision."""

    dtype: torch.dtype = torch.float64

    def coefficients(self, step: TouchedStep) -> Tensor:
        return (-0.1 * step.gradient).to(self.dtype)


@dataclass(frozen=True)
class Negated(Control):
    """A user's control in another precision."""

    dtype: torch.dtype = torch.float64

    def replace(self, replaced: Replaced) -> Tensor:
        return -replaced.added.to(self.dtype)


@dataclass(frozen=True)
class Sine(Backend):
    """A user's backend without a circuit to describe."""

    dtype: torch.dtype = torch.float64
    num_qubits: int = 1
    made: Callable[[Tensor], Any] | None = field(default=None, hash=False)

    def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Any:
        return torch.sin(3 * inputs).to(self.dtype) if self.made is None else self.made(inputs)


PARTS: dict[str, Callable[[torch.dtype], dict[str, Any]]] = {
    "injection": lambda dtype: {"features": Early(ramp), "injection": Scaled(dtype=dtype)},
    "control": lambda dtype: {
        "features": Early(ramp),
        "injection": UpdateInjection(control=Negated(dtype)),
    },
    "backend": lambda dtype: {"features": Early(ramp), "backend": Sine(dtype)},
}


@pytest.mark.parametrize("of", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("entries", [10, 70_000])
@pytest.mark.parametrize("part", PARTS)
def test_parts_in_other_precisions_act_as_those_of_the_parameters(
    part: str, entries: int, dtype: torch.dtype, of: torch.dtype
) -> None:
    got, expected = (stepped(entries=entries, dtype=of, **PARTS[part](d)) for d in (dtype, of))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    assert float(got.abs().max()) > 1e-3


FAULTS: dict[str, tuple[Made, type[Exception], str]] = {
    "one entry": (
        lambda s: ramp(s)[:1],
        ValueError,
        r"of shape \(1,\) for entries of shape \(7,\)",
    ),
    "too few": (lambda s: ramp(s)[:-1], ValueError, r"of shape \(6,\).*each entry has one"),
    "a column": (lambda s: ramp(s)[:, None], ValueError, r"of shape \(7, 1\) for entries of"),
    "an array": (lambda s: ramp(s).numpy(), TypeError, "of type ndarray: .*or one number for all"),
    "nothing": (lambda s: None, TypeError, "of type NoneType: the circuit sees numbers"),
    "complex": (lambda s: ramp(s).to(torch.cfloat), TypeError, "of type torch.strided torch.compl"),
    "sparse": (lambda s: ramp(s).to_sparse(), TypeError, "of type torch.sparse_coo"),
    "NaN in some": (
        lambda s: torch.where(s.theta > 0.4, ramp(s), torch.nan),
        FloatingPointError,
        "not finite at step 0, which is finite itself.*guard quotients",
    ),
    "infinite": (lambda s: ramp(s) / 0, FloatingPointError, "not finite at step 0"),
    "a number that is none": (lambda s: torch.nan, FloatingPointError, "not finite at step 0"),
    "out of range": (lambda s: 50 * ramp(s), ValueError, "between -50 and 50 at step 0.*squash"),
    "a large number": (lambda s: 3.0, ValueError, "between 3 and 3 at step 0"),
}


SETTINGS: dict[str, Callable[[Feature], Any]] = {
    "alone": lambda feature: feature,
    "permuted": PermutedFeatures,
    "beside another": lambda feature: [Progress(4), feature],
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", [Early, Late])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_feature_that_is_none_is_refused_and_says_what_has_moved(
    fault: str, kind: Any, setting: str
) -> None:
    made, error, message = FAULTS[fault]
    features = SETTINGS[setting](kind(made))
    is_late = kind is Late
    start = torch.linspace(0.1, 0.8, 7)
    parameter = nn.Parameter(start.clone())
    backend = qubits(2 if setting == "beside another" else 1)
    injection = RenormalisedInjection() if is_late else UpdateInjection()
    perturbation = Perturbation(backend, AllEntries(), features=features, injection=injection)
    optimizer = PerturbedOptimizer(SGD([parameter], lr=0.1), perturbation)
    parameter.grad = torch.ones(7)
    state = "The base has taken its step, and nothing is" if is_late else "No parameter was changed"
    with pytest.raises(error, match=message) as raised:
        optimizer.step()
    assert str(raised.value).startswith(f"{kind.__name__} returned")
    assert state in str(raised.value)
    assert torch.equal(parameter.detach(), start - 0.1 if is_late else start)
    assert (optimizer.own_state.steps, optimizer.own_state.applied) == (int(is_late), 0)


def test_a_subclass_with_values_of_its_own_does_not_inherit_that_they_are_bounded() -> None:
    class Larger(Gradient):
        def values(self, step: TouchedStep) -> Tensor:
            return 3 * super().values(step)

    class Sharper(Alignment):
        pass

    assert (Gradient.bounded, Larger.bounded, Sharper.bounded) == (True, False, True)
    with pytest.raises(ValueError, match="Larger returned features between"):
        stepped(Larger())


def test_features_that_see_what_is_not_finite_are_not_blamed_for_it() -> None:
    class Slope(Feature):
        needs_gradient = True

        def values(self, step: TouchedStep) -> Tensor:
            return step.gradient / (1 + step.gradient.square()).sqrt()

    parameters = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    perturbation = Perturbation(
        qubits(), AllEntries(), features=Slope(), injection=RenormalisedInjection()
    )
    optimizer = PerturbedOptimizer(SGD(parameters, lr=0.1), perturbation)
    parameters[0].grad = torch.tensor([1.0, torch.nan, 2.0])
    parameters[1].grad = torch.tensor([1.0, 0.0, 2.0])
    optimizer.step()
    bare = torch.tensor([1.0, 1.0, 1.0]) - 0.1 * torch.tensor([1.0, torch.nan, 2.0])
    torch.testing.assert_close(parameters[0].detach(), bare, equal_nan=True)
    assert not torch.equal(parameters[1].detach(), 1 - 0.1 * parameters[1].grad)


READOUTS: dict[str, tuple[Callable[[Tensor], Any], type[Exception], str]] = {
    "NaN in one": (
        lambda x: torch.where(x > 0.4, torch.nan, x),
        FloatingPointError,
        "that is not finite: the circuit cannot be trusted",
    ),
    "out of range": (lambda x: 50 * torch.sign(x), ValueError, r"between -50 and 50: P\(1\) - P"),
    "two readouts": (lambda x: torch.cat([x, x], 1), ValueError, r"shape \(7, 2\) for inputs of"),
    "too few": (lambda x: x[:-1], ValueError, r"shape \(6, 1\) for inputs of shape \(7, 1\): each"),
    "a vector": (lambda x: x[:, 0], ValueError, r"shape \(7,\) for inputs of shape \(7, 1\)"),
    "nothing": (lambda x: None, TypeError, "of type NoneType, instead of a dense tensor"),
    "a list": (lambda x: x.tolist(), TypeError, "of type list, instead of a dense tensor"),
    "integers": (lambda x: x.sign().long(), TypeError, "of type torch.int64"),
}


@pytest.mark.parametrize("feature", [Early(ramp), Late(ramp)], ids=["early", "late"])
@pytest.mark.parametrize("fault", READOUTS)
def test_a_readout_of_features_that_is_none_is_refused(fault: str, feature: EntryFeatures) -> None:
    made, error, message = READOUTS[fault]
    parameter = nn.Parameter(torch.zeros(7))
    injection = RelativeInjection() if feature.needs_base_step else UpdateInjection()
    perturbation = Perturbation(
        Sine(made=made), AllEntries(), features=feature, injection=injection
    )
    optimizer = PerturbedOptimizer(SGD([parameter], lr=0.1), perturbation)
    parameter.grad = torch.ones(7)
    state = "The base has taken" if feature.needs_base_step else "No parameter was changed"
    with pytest.raises(error, match=f"Sine returned a readout .*{message}.*{state}"):
        optimizer.step()
    moved = 0.1 if feature.needs_base_step else 0.0
    torch.testing.assert_close(parameter.detach(), torch.full((7,), -moved))
    assert optimizer.own_state.applied == 0


@pytest.mark.parametrize("twin", [CautiousTwin(), LazyTwin(), Sine(torch.float32)])
def test_backends_without_a_circuit_never_see_what_is_not_finite(twin: Backend) -> None:
    parameters = [nn.Parameter(torch.ones(4)) for _ in range(2)]
    perturbation = Perturbation(
        twin, AllEntries(), features=Step(), injection=RenormalisedInjection()
    )
    optimizer = PerturbedOptimizer(SGD(parameters, lr=0.1), perturbation)
    parameters[0].grad = torch.tensor([1.0, torch.nan, -2.0, 0.0])
    parameters[1].grad = torch.tensor([1.0, 3.0, -2.0, 0.0])
    optimizer.step()
    bare = torch.ones(4) - 0.1 * torch.tensor([1.0, torch.nan, -2.0, 0.0])
    torch.testing.assert_close(parameters[0].detach(), bare, equal_nan=True)
    assert not torch.equal(parameters[1].detach(), 1 - 0.1 * parameters[1].grad)


@pytest.mark.parametrize(
    ("returned", "error", "got"),
    [
        (lambda s: None, TypeError, "got NoneType: one real"),
        (lambda s: s.theta.numpy(), TypeError, "got ndarray"),
        (lambda s: s.theta.to(torch.cfloat), TypeError, "got torch.complex64"),
        (lambda s: s.theta.mean(), ValueError, r"got \(\): one real number per touched entry"),
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_coefficients_that_are_none_are_refused(
    returned: Made, error: type[Exception], got: str, is_late: bool
) -> None:
    class Odd(Injection):
        needs_base_step = is_late

        def coefficients(self, step: TouchedStep) -> Any:
            return returned(step)

    parameter = nn.Parameter(torch.zeros(7))
    perturbation = Perturbation(Sine(num_qubits=1), AllEntries(), injection=Odd())
    optimizer = PerturbedOptimizer(SGD([parameter], lr=0.1), perturbation)
    parameter.grad = torch.ones(7)
    state = "The base has taken its step" if is_late else "No parameter was changed"
    message = rf"`coefficients` of Odd to return shape \(7,\), {got}.*{state}.*like `step.theta`"
    with pytest.raises(error, match=message):
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.full((7,), -0.1 * is_late))

"""What a user's own coordinates, decay, backend, injection or control returns is looked at.

Before this was so, each of these cases touched other entries than it said, added nothing, or added
too much, and the steps counted as perturbed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from lightning_qsgd import (
    Alignment,
    AllEntries,
    GradientInjection,
    Perturbation,
    PerturbedOptimizer,
    RelativeInjection,
    RenormalisedInjection,
    Strength,
    UpdateInjection,
)
from lightning_qsgd.backends import Backend, LinearBackend, SineBackend
from lightning_qsgd.perturbations import Control, Coordinates, Decay, Injection, Learning
from lightning_qsgd.perturbations.controls import Replaced
from lightning_qsgd.perturbations.coordinates import Occasion, TensorSpec
from lightning_qsgd.perturbations.step import TouchedStep

Choice = Callable[[TensorSpec, Occasion, Callable[[], Tensor]], Any]


def choosing(choose: Choice, changes: bool = False) -> Coordinates:
    """Return coordinates of a user's that choose so."""

    class Mine(Coordinates):
        def choose(
            self, spec: TensorSpec, occasion: Occasion, gradient: Callable[[], Tensor]
        ) -> Any:
            return choose(spec, occasion, gradient)

        def num_chosen(self, spec: TensorSpec, num_qubits: int) -> int:
            return min(num_qubits, spec.numel)

    Mine.changes = changes
    return Mine()


def moved(perturbation: Perturbation, steps: int = 1) -> list[list[int]]:
    """Return which entries of a matrix of 3 x 4 a perturbation moved at each step."""
    parameter = nn.Parameter(torch.linspace(0.1, 0.4, 12).view(3, 4))
    optimizer = PerturbedOptimizer(SGD([parameter], lr=0.0), perturbation)
    found = []
    for step in range(steps):
        before = parameter.detach().clone()
        parameter.grad = torch.arange(12.0).roll(step).view(3, 4) + 1.0
        try:
            optimizer.step()
        except Exception:
            assert torch.equal(parameter.detach(), before)
            assert optimizer.own_state.steps == step
            raise
        found.append((parameter.detach() != before).flatten().nonzero().flatten().tolist())
    return found


def of(coordinates: Coordinates) -> Perturbation:
    return Perturbation(coordinates=coordinates, injection=UpdateInjection(step_size=0.1))


@pytest.mark.parametrize(
    ("choose", "error", "message"),
    [
        (lambda spec, *_: slice(8, 20), ValueError, "slice.8, 20, None. for a tensor of 12"),
        (lambda spec, *_: slice(0, 12, 3), ValueError, r"torch.arange\(start, stop, step\)"),
        (lambda spec, *_: slice(-4, None), ValueError, "a slice has two bounds"),
        (lambda spec, *_: slice(None, 4), ValueError, "a slice has two bounds"),
        (lambda spec, *_: slice(8, 4), ValueError, "a slice has two bounds"),
        (lambda spec, *_: torch.tensor([3, 12]), ValueError, "indices from 3 to 12"),
        (lambda spec, *_: torch.tensor([-1]), ValueError, "indices from -1 to -1"),
        (lambda spec, *_: torch.tensor([1, 2, 1]), ValueError, "returned an index twice"),
        (lambda spec, *_: torch.tensor([[1, 2]]), TypeError, r"torch.int64 of shape \(1, 2\)"),
        (lambda spec, *_: torch.tensor([1.0]), TypeError, "torch.float32 of shape"),
        (lambda spec, *_: torch.arange(12) < 4, TypeError, "of a mask"),
        (lambda spec, *_: torch.eye(3).to_sparse(), TypeError, "a slice or a vector"),
        (lambda spec, *_: [1, 2], TypeError, "returned list"),
        (lambda spec, *_: None, TypeError, "returned NoneType"),
    ],
)
@pytest.mark.parametrize("changes", [False, True])
def test_a_choice_that_is_none_is_refused_before_anything_moves(
    choose: Choice, error: type[Exception], message: str, changes: bool
) -> None:
    with pytest.raises(error, match=message) as raised:
        moved(of(choosing(choose, changes)))
    assert str(raised.value).startswith("`choose` of Mine returned")
    assert "No parameter was changed" in str(raised.value)


@pytest.mark.parametrize(
    ("choose", "touched"),
    [
        (lambda spec, *_: slice(2, 4), [2, 3]),
        (lambda spec, *_: slice(np.int64(0), np.int64(2), 1), [0, 1]),
        (lambda spec, *_: torch.tensor([11, 3], dtype=torch.int32), [3, 11]),
        (lambda spec, *_: torch.tensor([], dtype=torch.int64), []),
        (lambda spec, *_: slice(12, 12), []),
        (lambda spec, occasion, _: slice(0, occasion.num_qubits + occasion.seed), [0, 1, 2, 3]),
    ],
)
def test_a_choice_in_any_usual_form_is_taken(choose: Choice, touched: list[int]) -> None:
    for changes in (False, True):
        assert moved(of(choosing(choose, changes))) == [touched]


@pytest.mark.parametrize(
    ("choose", "what"),
    [
        (lambda spec, occasion, _: torch.tensor([occasion.step % 12]), "the step"),
        (lambda spec, _, gradient: gradient().topk(2).indices, "the gradient"),
    ],
)
def test_a_choice_that_looks_at_the_step_must_say_that_it_changes(
    choose: Choice, what: str
) -> None:
    with pytest.raises(ValueError, match=f"looks at {what}, and its `changes` is False"):
        moved(of(choosing(choose)))
    first, second = moved(of(choosing(choose, changes=True)), steps=2)
    assert first
    assert first != second


SAME = object()


@dataclass(frozen=True)
class Factor(Decay):
    value: Any = 1.0
    late: Any = SAME

    def factor(self, step: int) -> Any:
        return self.value if step == 0 or self.late is SAME else self.late


@pytest.mark.parametrize("factor", [nan, inf, -0.5, 1.5, 1e9, None, "x", torch.ones(2)])
def test_a_decay_that_leaves_its_range_is_refused_where_it_does(factor: Any) -> None:
    with pytest.raises(
        ValueError, match=r"Factor returned .* at step 0: a decay says what is left"
    ):
        Strength(0.5, decay=Factor(factor))
    late = Strength(0.5, decay=Factor(1.0, late=factor))
    coordinates = choosing(lambda *_: slice(0, 2))
    with pytest.raises(ValueError, match=r"Factor returned .* at step 1"):
        moved(Perturbation(coordinates=coordinates, strength=late), steps=2)


@pytest.mark.parametrize("factor", [0.5, torch.tensor(0.5), np.float32(0.5), 1, 1.0 + 1e-9])
def test_a_decay_may_return_any_number(factor: Any) -> None:
    strength = Strength(0.5, decay=Factor(factor)).at(3)
    assert type(strength) is float
    assert strength == pytest.approx(0.5 * float(factor))


@pytest.mark.parametrize("parent", [SineBackend, LinearBackend])
@pytest.mark.parametrize("factor", [100.0, nan])
def test_a_backend_with_a_readout_of_its_own_does_not_inherit_that_it_is_bounded(
    parent: type[Backend], factor: float
) -> None:
    class Mine(parent):  # type: ignore[misc, valid-type]
        def readout(self, inputs: Tensor, *given: Any, **named: Any) -> Tensor:
            return inputs * factor

    class Renamed(parent):  # type: ignore[misc, valid-type]
        pass

    class Promised(Mine):
        bounded = True

        def readout(self, inputs: Tensor, *given: Any, **named: Any) -> Tensor:
            readout: Tensor = super().readout(inputs).clamp(-1.0, 1.0)
            return readout

    assert (Mine.bounded, Renamed.bounded, Promised.bounded) == (False, True, True)
    with pytest.raises((ValueError, FloatingPointError), match="Mine returned a readout"):
        moved(Perturbation(backend=Mine()))


@pytest.mark.parametrize("parent", [RelativeInjection, RenormalisedInjection])
def test_an_injection_with_coefficients_of_its_own_sees_all_tensors_together(
    parent: type[Injection], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mine(parent):  # type: ignore[misc, valid-type]
        def coefficients(self, step: TouchedStep) -> Tensor:
            length: Tensor = step.base_step.norm()
            return step.base_step / length

    class Declared(Mine):
        by_tensor = True

        def coefficients(self, step: TouchedStep) -> Tensor:
            return step.base_step

    def stepped() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        matrices = [nn.Parameter(torch.randn(3, 4, generator=generator)) for _ in range(3)]
        perturbation = Perturbation(
            LinearBackend(), AllEntries(), injection=Mine(), features=Alignment()
        )
        optimizer = PerturbedOptimizer(SGD(matrices, lr=0.1), perturbation)
        for matrix in matrices:
            matrix.grad = torch.randn(3, 4, generator=generator)
        optimizer.step()
        return torch.stack([matrix.detach() for matrix in matrices])

    assert (parent.by_tensor, Mine.by_tensor, Declared.by_tensor) == (True, False, True)
    at_once = stepped()
    monkeypatch.setattr("lightning_qsgd.optimizers.entries.CHUNK", 12)  # a large model's runs
    assert torch.equal(stepped(), at_once)


@pytest.mark.parametrize("count", [0, -1, 4.0, None, "4", True])
def test_a_backend_must_count_its_qubits(count: Any) -> None:
    class Mine(SineBackend):
        num_qubits = property(lambda self: count)

        def __init__(self) -> None:
            """Set nothing: the count is the class's."""

    with pytest.raises(ValueError, match="`num_qubits` of Mine to be an integer of at least 1"):
        Perturbation(backend=Mine())


@pytest.mark.parametrize("circuits", [-1, nan, None, torch.ones(2)])
def test_a_backend_must_count_its_circuits(circuits: Any) -> None:
    class Mine(SineBackend):
        def circuits_for(self, num_blocks: int) -> Any:
            return circuits

    with pytest.raises(ValueError, match="`circuits_for` of Mine to return a count"):
        Perturbation(backend=Mine())


@pytest.mark.parametrize(
    "weights", [[1.0], torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1), torch.tensor([nan])]
)
def test_weights_that_cannot_be_learned_are_refused_at_once(weights: Any) -> None:
    class Mine(SineBackend):
        def initial_weights(self) -> Any:
            return weights

    with pytest.raises(ValueError, match="`initial_weights` of Mine to return a finite vector"):
        Perturbation(backend=Mine(), learning=Learning(weights_rate=0.1))


def controlled(replace: Callable[[Replaced], Tensor], injection: type[Injection]) -> None:
    """Take a step under a user's control."""

    class Mine(Control):
        def replace(self, replaced: Replaced) -> Tensor:
            return replace(replaced)

    first, second = nn.Parameter(torch.full((3,), 0.2)), nn.Parameter(torch.full((2,), 0.3))
    perturbation = Perturbation(coordinates=AllEntries(), injection=injection(control=Mine()))
    optimizer = PerturbedOptimizer(SGD([first, second], lr=0.1), perturbation)
    first.grad, second.grad = torch.full((3,), 1e-4), torch.ones(2)
    optimizer.step()


@pytest.mark.parametrize("injection", [UpdateInjection, RelativeInjection, GradientInjection])
@pytest.mark.parametrize(
    "replace",
    [
        lambda r: 2.0 * r.added,
        lambda r: 0.9 * r.added,
        lambda r: r.added * nan,
        lambda r: torch.cat([r.added[:3] * 3, r.added[3:]]),  # of the small tensor only
    ],
)
def test_a_control_of_another_norm_is_refused(
    replace: Callable[[Replaced], Tensor], injection: type[Injection]
) -> None:
    with pytest.raises(ValueError, match=r"Mine returned a norm of .* in tensor 0") as raised:
        controlled(replace, injection)
    is_early = injection is GradientInjection
    state = "No parameter was changed" if is_early else "The base has taken its step"
    assert f"{state}" in str(raised.value)


@pytest.mark.parametrize("injection", [UpdateInjection, RelativeInjection, GradientInjection])
@pytest.mark.parametrize(
    "replace",
    [
        lambda r: -r.added,
        lambda r: r.matched(torch.ones_like(r.added)),
        lambda r: torch.cat([r.added[:3] * 0, r.added[3:]]),  # nothing in a tensor
    ],
)
def test_a_control_of_the_same_norm_is_taken(
    replace: Callable[[Replaced], Tensor], injection: type[Injection]
) -> None:
    controlled(replace, injection)


class Slope(Backend):
    """Differentiates by itself, and keeps what it saw."""

    num_qubits = 1
    separable = True

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
        self.seen.append(inputs.clone())
        with torch.enable_grad():
            x = inputs.detach().requires_grad_()
            return torch.autograd.grad(x.sin().sum(), x)[0]


class Trained(Slope):
    """Returns what it has recorded for autograd."""

    def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
        self.seen.append(inputs.clone())
        with torch.enable_grad():
            return nn.Parameter(inputs.detach()).cos()


class Cosine(LinearBackend):
    def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
        return inputs.cos()


@pytest.mark.parametrize("kind", [Slope, Trained])
@pytest.mark.parametrize("learning", [None, Learning(strength_rate=0.1)])
@pytest.mark.parametrize("make", [UpdateInjection, RelativeInjection, GradientInjection])
def test_a_backend_may_differentiate_by_itself(
    kind: type[Slope], learning: Learning | None, make: type[Injection]
) -> None:
    if make is GradientInjection and learning is not None:
        learning = None  # it cannot be learned

    def trained(backend: Backend) -> Tensor:
        parameter = nn.Parameter(torch.linspace(0.1, 0.4, 4))
        perturbation = Perturbation(
            backend, AllEntries(), injection=make(), learning=learning, strength=0.5
        )
        optimizer = PerturbedOptimizer(SGD([parameter], lr=0.1), perturbation)
        for _ in range(3):
            parameter.grad = torch.arange(1.0, 5.0)
            optimizer.step()
        return parameter.detach()

    backend = kind()
    torch.testing.assert_close(trained(backend), trained(Cosine()))
    assert len(backend.seen) >= 3
    (nn.Parameter(torch.ones(4)) * backend.seen[0]).sum().backward()  # no inference tensor


def test_a_part_inside_of_ours_may_differentiate_by_itself() -> None:
    class Mine(Control):
        def replace(self, replaced: Replaced) -> Tensor:
            with torch.enable_grad():
                x = replaced.added.detach().clone().requires_grad_()
                return -torch.autograd.grad(x.square().sum() / 2, x)[0]

    parameter = nn.Parameter(torch.ones(3))
    perturbation = Perturbation(
        LinearBackend(), AllEntries(), injection=UpdateInjection(control=Mine())
    )
    optimizer = PerturbedOptimizer(SGD([parameter], lr=0.1), perturbation)
    parameter.grad = torch.ones(3)
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 1.0 - 0.1 + 0.5 * 0.1))


def remembering(value: Callable[[int], Any], late: bool = False) -> PerturbedOptimizer:
    """Return an optimizer whose injection counts its steps in `step.memory`."""

    class Counting(Injection):
        modulated = False
        needs_base_step = late

        def coefficients(self, step: TouchedStep) -> Tensor:
            count = int(step.memory.get("calls", 0)) + 1
            step.memory["calls"] = value(count)
            return -0.1 * count * step.gradient

    parameter = nn.Parameter(torch.ones(4))
    perturbation = Perturbation(coordinates=AllEntries(), injection=Counting(), strength=0.5)
    optimizer = PerturbedOptimizer(SGD([parameter], lr=0.1), perturbation)
    parameter.grad = torch.ones(4)
    return optimizer


@pytest.mark.parametrize("value", [lambda n: n, lambda n: [torch.tensor(n)], lambda n: None])
@pytest.mark.parametrize("late", [False, True])
def test_a_memory_that_could_not_be_loaded_is_refused_at_the_first_step(
    value: Callable[[int], Any], late: bool
) -> None:
    optimizer = remembering(value, late)
    (parameter,) = optimizer.param_groups[0]["params"]
    state = "The base has taken its step" if late else "No parameter was changed"
    message = rf"`step.memory` of Counting to hold tensors, got .* under 'calls'.* {state}"
    with pytest.raises(TypeError, match=message):
        optimizer.step()
    assert parameter.tolist() == pytest.approx([0.9 if late else 1.0] * 4)
    assert optimizer.own_state.memory == {}


def test_a_memory_of_tensors_is_continued_from_a_checkpoint() -> None:
    whole, first, second = (remembering(torch.tensor) for _ in range(3))
    for optimizer in (whole, whole, first):
        optimizer.step()
    parameters = [each.param_groups[0]["params"][0] for each in (whole, first, second)]
    parameters[2].data.copy_(parameters[1].detach())
    second.load_state_dict(first.state_dict())
    second.step()
    assert torch.equal(parameters[0], parameters[2])
    assert parameters[0].tolist() == pytest.approx([1.0 - 0.2 - 0.05 - 0.1] * 4)

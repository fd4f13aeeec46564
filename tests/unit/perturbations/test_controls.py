"""What each control makes of a perturbation: the same norm per tensor, another direction."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_qsgd.perturbations import (
    Control,
    GaussianControl,
    Injection,
    Learning,
    NoiseInjection,
    NudgeInjection,
    PermutedControl,
    Perturbation,
    RandomSignControl,
    RelativeInjection,
    RescaledStepControl,
    UpdateInjection,
)
from lightning_qsgd.perturbations.controls import Replaced
from lightning_qsgd.perturbations.keyed_draws import keyed_draws, normals, signs, stream_key
from lightning_qsgd.perturbations.step import TouchedStep

CONTROLS: list[Control] = [
    GaussianControl(),
    RandomSignControl(),
    PermutedControl(),
    RescaledStepControl(),
]
DRAWN = CONTROLS[:3]
every_control = pytest.mark.parametrize("control", CONTROLS, ids=lambda c: type(c).__name__)
every_drawn_control = pytest.mark.parametrize("control", DRAWN, ids=lambda c: type(c).__name__)


def replaced(sizes: tuple[int, ...] = (4, 7, 2), seed: int = 0, **changes: Any) -> Replaced:
    generator = torch.Generator().manual_seed(seed)
    coefficients, readouts, step = torch.randn(
        3, sum(sizes), generator=generator, dtype=torch.float64
    )
    parts = {
        "coefficients": coefficients,
        "modulation": readouts.sin(),
        "base_step": 0.01 * step,
        "names": tuple(map(str, range(len(sizes)))),
        "sizes": sizes,
        "seed_and_step": (0, 0),
    }
    return Replaced(**{**parts, **changes})


def norms(values: Tensor, sizes: tuple[int, ...]) -> list[float]:
    """Norm of each tensor, by a plain loop."""
    rest, found = values.tolist(), []
    for size in sizes:
        found.append(sum(value**2 for value in rest[:size]) ** 0.5)
        rest = rest[size:]
    return found


@every_control
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_norm_of_each_tensor_is_that_of_the_perturbation(
    control: Control, sizes: list[int], seed: int
) -> None:
    step = replaced(tuple(sizes), seed)
    q = step.coefficients * step.modulation
    expected = pytest.approx(norms(q, step.sizes), rel=1e-12)
    assert norms(control.replace(step), step.sizes) == expected


@every_control
def test_direction_differs_from_the_perturbations(control: Control) -> None:
    step = replaced((50, 60))
    assert torch.cosine_similarity(control.replace(step), step.added, dim=0).abs() < 0.5


@every_control
def test_a_tensor_to_which_nothing_would_be_added_gets_nothing(control: Control) -> None:
    whole = replaced()
    step = replaced(coefficients=torch.cat([torch.zeros(4), whole.coefficients[4:]]))
    added = control.replace(step)
    assert not added[:4].any()
    assert torch.equal(added[4:], control.replace(whole)[4:])


@every_control
def test_a_readout_that_is_not_finite_adds_nothing_that_is_not_finite(control: Control) -> None:
    step = replaced()
    step.modulation[2] = torch.nan
    assert torch.isfinite(control.replace(step)).all()


@every_drawn_control
def test_entries_to_which_nothing_would_be_added_get_nothing(control: Control) -> None:
    step = replaced()
    step.coefficients[[1, 5, 6]] = 0.0
    added = control.replace(step)
    assert (added == 0).nonzero().flatten().tolist() == [1, 5, 6]


@every_drawn_control
@pytest.mark.parametrize("seed_and_step", [(0, 1), (1, 0)])
def test_draws_depend_on_seed_and_step_alone(
    control: Control, seed_and_step: tuple[int, int]
) -> None:
    torch.manual_seed(5)
    first, before = control.replace(replaced((20,))), torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global generator is meant
    assert torch.equal(control.replace(replaced((20,))), first)
    assert not torch.equal(control.replace(replaced((20,), seed_and_step=seed_and_step)), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


@every_drawn_control
def test_draws_of_a_tensor_do_not_depend_on_other_tensors(control: Control) -> None:
    both = replaced((8, 9))
    parts = {n: getattr(both, n)[8:] for n in ("coefficients", "modulation", "base_step", "names")}
    alone = parts | {"names": ("1",)}
    expected = control.replace(replaced((9,), **alone))
    assert torch.equal(control.replace(both)[8:], expected)


def test_equal_tensors_get_different_noise() -> None:
    step = replaced((6, 6), coefficients=torch.ones(12), modulation=torch.ones(12))
    first, second = GaussianControl().replace(step).split(6)
    assert not torch.equal(first, second)


def test_gaussian_control_is_standard_normal_before_it_is_rescaled() -> None:
    count = 20_000
    step = replaced((count,), coefficients=torch.ones(count), modulation=torch.ones(count))
    noise = GaussianControl().replace(step)
    assert abs(float(noise.mean())) < 4 / count**0.5
    inside = (noise.abs() < 1).double().mean()
    assert float(inside) == pytest.approx(0.6827, abs=0.015)


def test_random_signs_keep_each_size_exactly_and_are_fair() -> None:
    step = replaced((4000,))
    added = RandomSignControl().replace(step)
    assert torch.equal(added.abs(), step.added.abs())
    flipped = (added == -step.added).double().mean()
    assert float(flipped) == pytest.approx(0.5, abs=0.04)


@given(size=st.integers(2, 12), step=st.integers(0, 200))
def test_permuting_keeps_the_readouts_of_a_tensor_and_none_in_its_place(
    size: int, step: int
) -> None:
    sizes = (size, 5)
    parts = replaced(sizes, coefficients=torch.ones(size + 5).double(), seed_and_step=(0, step))
    added = PermutedControl().replace(parts)
    for got, u in zip(added.split(sizes), parts.modulation.split(sizes), strict=True):
        torch.testing.assert_close(got.sort().values, u.sort().values)
        assert not torch.isclose(got, u).any()


def test_permuted_readouts_meet_the_coefficients_of_their_new_place() -> None:
    u = torch.tensor([0.25, 0.5]).double()
    coefficients = torch.tensor([1.0, -3.0]).double()
    step = replaced((2,), coefficients=coefficients, modulation=u, base_step=u, names=("0",))
    swapped = torch.tensor([0.5, -0.75]).double()  # 1 * 0.5, -3 * 0.25
    expected = swapped * (coefficients * u).norm() / swapped.norm()
    torch.testing.assert_close(PermutedControl().replace(step), expected)


def test_the_only_entry_of_a_tensor_keeps_its_readout() -> None:
    step = replaced((1, 1))
    torch.testing.assert_close(PermutedControl().replace(step), step.added)


def test_rescaled_step_is_parallel_to_the_base_step_in_each_tensor() -> None:
    step = replaced()
    pairs = zip(
        RescaledStepControl().replace(step).split(step.sizes),
        step.base_step.split(step.sizes),
        strict=True,
    )
    for added, base in pairs:
        assert float(torch.cosine_similarity(added, base, dim=0)) == pytest.approx(1.0)


def test_rescaled_step_adds_nothing_where_the_base_does_not_move() -> None:
    step = replaced((4, 3), base_step=torch.tensor([0.0] * 4 + [1.0] * 3).double())
    assert not RescaledStepControl().replace(step)[:4].any()


@pytest.mark.parametrize("draw", [normals, signs])
def test_keyed_draws_are_those_of_each_tensor_alone(draw: Any) -> None:
    tensors, seed_and_step = [("0", 3), ("w", 1), ("2", 5)], (7, 11)
    joined = keyed_draws(draw, tensors, seed_and_step)
    expected = [keyed_draws(draw, [tensor], seed_and_step) for tensor in tensors]
    assert joined.tolist() == np.concatenate(expected).tolist()
    assert len(set(keyed_draws(normals, tensors, seed_and_step).tolist())) == 9


def test_draws_do_not_repeat_those_of_random_entries() -> None:
    theirs = np.random.default_rng(stream_key(0, 0, "0")).standard_normal(3)
    assert not (keyed_draws(normals, [("0", 3)], (0, 0)) == theirs).any()


@pytest.mark.parametrize("injection", [UpdateInjection, RelativeInjection])
def test_something_else_than_a_control_is_refused(injection: Any) -> None:
    with pytest.raises(TypeError, match=r"Expected `control` to be a Control, got str: .*Pass Gau"):
        injection(control="gaussian")


@pytest.mark.parametrize("value", [-1.0, torch.inf, torch.nan])
@pytest.mark.parametrize(
    ("make", "name"),
    [(NoiseInjection, "eta"), (NoiseInjection, "gamma"), (NudgeInjection, "size")],
)
def test_sizes_out_of_range_are_refused(make: Any, name: str, value: float) -> None:
    message = rf"Expected `{name}` to be non-negative and finite, got {value}: .*\. Use "
    with pytest.raises(ValueError, match=message):
        make(**{name: value})


@pytest.mark.parametrize(
    ("injection", "message"),
    [
        (UpdateInjection(control=GaussianControl()), "Cannot learn under GaussianControl: what it"),
        (RelativeInjection(PermutedControl()), r"under PermutedControl: .*Leave `learning` or `co"),
        (NoiseInjection(), "Cannot learn with a NoiseInjection: what it adds comes from no circui"),
        (NudgeInjection(), "with a NudgeInjection: .*Use UpdateInjection or RelativeInjection"),
    ],
)
def test_learning_from_what_is_no_circuit_is_refused(injection: Injection, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Perturbation(injection=injection, learning=Learning(strength_rate=0.1))


def test_what_comes_from_no_circuit_has_no_control() -> None:
    with pytest.raises(ValueError, match=r"Cannot control NoiseInjection by GaussianControl: .*L"):
        Perturbation(injection=NoiseInjection(control=GaussianControl()))


class Sideways(Injection):
    """An injection of a user's that contradicts itself."""

    def coefficients(self, step: TouchedStep) -> Tensor:
        return step.theta


def test_an_injection_that_contradicts_itself_is_refused(monkeypatch: Any) -> None:
    monkeypatch.setattr(Sideways, "enters", "sideways")
    with pytest.raises(ValueError, match=r"Expected `enters` of Sideways to be 'update' or 'grad"):
        Perturbation(injection=Sideways())
    monkeypatch.setattr(Sideways, "enters", "gradient")
    monkeypatch.setattr(Sideways, "needs_base_step", True)
    with pytest.raises(ValueError, match=r"Sideways enters the gradient and needs the base's step"):
        Perturbation(injection=Sideways())

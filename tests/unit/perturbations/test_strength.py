"""Schedules of the strength against values worked out by hand."""

from math import cos, inf, nan, pi
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_qsgd.perturbations import ConstantDecay, CosineDecay, LinearDecay, Strength

BY_HAND: dict[str, tuple[Strength, list[float]]] = {
    "constant": (Strength(0.5), [0.5, 0.5, 0.5]),
    "off": (Strength(0.0), [0.0, 0.0]),
    "warm-up": (Strength(0.6, warmup_steps=3), [0.2, 0.4, 0.6, 0.6]),
    "every": (Strength(0.5, every=3), [0.5, 0, 0, 0.5, 0, 0, 0.5]),
    "start": (Strength(0.5, start_step=2), [0, 0, 0.5, 0.5]),
    "start, every": (Strength(0.5, start_step=1, every=2), [0, 0.5, 0, 0.5, 0]),
    "start, warm-up": (Strength(0.5, start_step=2, warmup_steps=2), [0, 0, 0.25, 0.5, 0.5]),
    "every, warm-up": (Strength(0.8, every=2, warmup_steps=4), [0.2, 0, 0.6, 0, 0.8, 0, 0.8]),
    "linear": (Strength(1.0, decay=LinearDecay(4)), [1, 0.75, 0.5, 0.25, 0, 0]),
    "linear to a rest": (Strength(1.0, decay=LinearDecay(2, final=0.5)), [1, 0.75, 0.5, 0.5]),
    "warm-up, linear": (
        Strength(1.0, warmup_steps=2, decay=LinearDecay(2)),
        [0.5, 1.0, 1.0, 0.5, 0.0],
    ),
    "cosine": (
        Strength(2.0, decay=CosineDecay(3)),
        [2.0, 1 + cos(pi / 3), 1 + cos(2 * pi / 3), 0.0, 0.0],
    ),
    "cosine to a rest": (Strength(1.0, decay=CosineDecay(2, final=0.2)), [1.0, 0.6, 0.2, 0.2]),
    "start, warm-up, cosine": (
        Strength(1.0, start_step=1, warmup_steps=1, decay=CosineDecay(2)),
        [0.0, 1.0, 1.0, 0.5, 0.0],
    ),
}


@pytest.mark.parametrize("warmup_steps", [0, 4])
def test_a_strength_of_numpys_is_plain_at_each_step(warmup_steps: int) -> None:
    strength = Strength(np.float64(0.5), warmup_steps=warmup_steps)
    assert [type(strength.at(step)) for step in range(6)] == [float] * 6


@pytest.mark.parametrize("name", BY_HAND)
def test_schedule_takes_the_values_worked_out_by_hand(name: str) -> None:
    schedule, expected = BY_HAND[name]
    assert [schedule.at(step) for step in range(len(expected))] == pytest.approx(expected)


@given(
    value=st.floats(0, 10),
    warmup=st.integers(0, 20),
    every=st.integers(1, 5),
    start=st.integers(0, 20),
    total=st.integers(1, 30),
    step=st.integers(0, 200),
)
def test_strength_never_leaves_zero_to_its_value(
    value: float, warmup: int, every: int, start: int, total: int, step: int
) -> None:
    for decay in (ConstantDecay(), LinearDecay(total), CosineDecay(total, final=0.3)):
        at = Strength(value, warmup, decay, every, start).at(step)
        assert 0.0 <= at <= value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"value": -1.0}, r"Expected `strength` to be non-negative and finite, got -1.0: .*Use 0"),
        ({"value": nan}, r"Expected `strength` to be non-negative and finite, got nan"),
        ({"value": inf}, r"Expected `strength` to be non-negative and finite, got inf"),
        ({"warmup_steps": -1}, r"Expected `warmup_steps` to be an integer of at least 0, got -1"),
        ({"every": 0}, r"Expected `every` to be an integer of at least 1, got 0"),
        ({"start_step": -2}, r"Expected `start_step` to be an integer of at least 0, got -2"),
        ({"warmup_steps": 1.5}, r"Expected `warmup_steps` to be an integer .* got 1.5"),
    ],
)
def test_strength_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Strength(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"value": "0.5"}, r"Expected `strength` to be a number, got '0.5'"),
        ({"value": None}, r"Expected `strength` to be a number, got None"),
        ({"value": True}, r"Expected `strength` to be a number, got True"),
        ({"decay": 0.5}, r"Expected `decay` to be a Decay, got 0.5: .*Use LinearDecay"),
    ],
)
def test_strength_of_another_kind_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Strength(**settings)


@pytest.mark.parametrize("decay", [LinearDecay, CosineDecay])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"total_steps": 0}, r"Expected `total_steps` to be at least 1, got 0: .* a duration"),
        ({"total_steps": 5, "final": -0.1}, r"Expected `final` to lie in \[0, 1\], got -0.1"),
        ({"total_steps": 5, "final": 1.5}, r"Expected `final` to lie in \[0, 1\], got 1.5"),
        ({"total_steps": 5, "final": nan}, r"Expected `final` to lie in \[0, 1\], got nan"),
    ],
)
def test_decay_out_of_range_is_refused(decay: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decay(**settings)

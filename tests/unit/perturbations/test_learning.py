"""The description of what a perturbation learns."""

import pickle
from math import inf, nan
from typing import Any

import pytest

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SignalProcessingCircuit
from lightning_qsgd.perturbations import (
    GradientInjection,
    Learning,
    Perturbation,
    RelativeInjection,
    SpectralInjection,
)


@pytest.mark.parametrize("rate", [-0.1, nan, inf])
@pytest.mark.parametrize("name", ["strength_rate", "weights_rate"])
def test_a_rate_out_of_range_is_refused(name: str, rate: float) -> None:
    with pytest.raises(ValueError, match=rf"Expected `{name}` to be non-negative and finite"):
        Learning(**{name: rate})


def test_learning_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 0 for both: nothing.*leave `learning` out"):
        Learning()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"learning": 0.1},
            TypeError,
            r"Expected `learning` to be a Learning, got float: .*Pass Lear",
        ),
        (
            {"learning": Learning(0.1), "injection": GradientInjection()},
            ValueError,
            r"Cannot learn with a GradientInjection: .*Use UpdateInjection or RelativeInjection",
        ),
        (
            {
                "learning": Learning(0.1),
                "injection": SpectralInjection(),
                "backend": SignalProcessingCircuit(degree=5),
            },
            ValueError,
            r"with a SpectralInjection: it reads the circuit elsewhere .* Search the strength by",
        ),
        (
            {"learning": Learning(weights_rate=0.1)},
            ValueError,
            r"Cannot learn the weights of SineBackend: its circuit has none\. Set `weights_rate`",
        ),
    ],
)
def test_what_cannot_be_learned_is_refused(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Perturbation(**settings)


def test_learning_is_part_of_the_description() -> None:
    perturbation = Perturbation(
        SamplerBackend(weight_seed=1),
        injection=RelativeInjection(),
        learning=Learning(strength_rate=0.1, weights_rate=0.2),
    )
    assert pickle.loads(pickle.dumps(perturbation)) == perturbation
    assert perturbation != Perturbation(perturbation.backend, injection=RelativeInjection())

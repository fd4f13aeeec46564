"""The description of a perturbation and of where it enters."""

import pickle
from copy import deepcopy
from math import inf, nan
from typing import Any

import pytest
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import SamplerQNN

from lightning_qsgd.backends import SamplerBackend, SineBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.perturbations import (
    AllEntries,
    FirstOfEachTensor,
    GradientInjection,
    LinearDecay,
    Perturbation,
    RelativeInjection,
    Strength,
    UpdateInjection,
)

BUILT = SuperpositionCircuit(2).build()
CONNECTOR = TorchConnector(
    SamplerQNN(circuit=BUILT.circuit, input_params=BUILT.inputs, weight_params=BUILT.weights)
)


def test_defaults_are_the_paper_on_each_tensor() -> None:
    perturbation = Perturbation()
    assert perturbation.backend == SineBackend(num_qubits=4)
    assert perturbation.coordinates == FirstOfEachTensor()
    assert perturbation.injection == UpdateInjection(step_size=None)
    assert perturbation.schedule == Strength(0.5)


def test_a_number_and_a_constant_schedule_are_the_same_strength() -> None:
    assert Perturbation(strength=0.1).schedule == Perturbation(strength=Strength(0.1)).schedule


def test_a_schedule_is_kept_as_it_is() -> None:
    schedule = Strength(0.3, warmup_steps=5, decay=LinearDecay(7))
    assert Perturbation(strength=schedule).schedule is schedule


@pytest.mark.parametrize(
    "perturbation",
    [
        Perturbation(),
        Perturbation(
            backend=SamplerBackend(SuperpositionCircuit(2), sampling=5), coordinates=AllEntries()
        ),
        Perturbation(injection=RelativeInjection(), strength=Strength(0.2, every=3), seed=9),
        Perturbation(injection=GradientInjection()),
    ],
)
def test_copies_and_pickles_are_equal(perturbation: Perturbation) -> None:
    assert deepcopy(perturbation) == perturbation
    assert pickle.loads(pickle.dumps(perturbation)) == perturbation
    assert repr(perturbation).startswith("Perturbation(backend=")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"seed": 1.5}, ValueError, r"Expected `seed` to be a non-negative integer, got 1.5"),
        ({"strength": "0.5"}, TypeError, r"Expected `strength` to be a number, got '0.5'"),
        ({"seed": -1}, ValueError, r"Expected `seed` to be a non-negative integer, got -1"),
        ({"strength": -0.5}, ValueError, r"Expected `strength` to be non-negative .* got -0.5"),
        ({"strength": nan}, ValueError, r"Expected `strength` to be non-negative .* got nan"),
        ({"strength": inf}, ValueError, r"Expected `strength` to be non-negative .* got inf"),
        ({"backend": "sine"}, TypeError, r"an EstimatorQNN or a SamplerQNN, got str: .*[Ww]rap"),
        ({"backend": SineBackend}, TypeError, r"got the class SineBackend: .*an instance"),
        ({"backend": CONNECTOR}, TypeError, r"got a TorchConnector: .* `neural_network`"),
        ({"coordinates": 4}, TypeError, r"Expected `coordinates` to be a Coordinates, got int"),
        ({"injection": "update"}, TypeError, r"Expected `injection` to be a Injection, got str"),
    ],
)
def test_wrong_parts_are_refused(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Perturbation(**settings)


@pytest.mark.parametrize("step_size", [-0.1, nan, inf])
def test_step_size_out_of_range_is_refused(step_size: float) -> None:
    with pytest.raises(ValueError, match=r"Expected `step_size` to be non-negative and finite"):
        UpdateInjection(step_size=step_size)


def test_step_size_zero_is_allowed() -> None:
    assert UpdateInjection(step_size=0.0).step_size == 0.0

"""Costs that are shown before a fit, limits that refuse it, and steps that are skipped in it."""

from typing import Any

import pytest
from qiskit.primitives import StatevectorSampler

from lightning_qsgd.backends import GivenSampling, SamplerBackend, SkipOnFailure
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.perturbations import (
    Alignment,
    AllEntries,
    FirstOfModel,
    Learning,
    Perturbation,
    RenormalisedInjection,
    Weight,
)
from lightning_qsgd.training import PerturbationCallback
from tests.integration.modules import Finished, Perturbed, fit

STEPS = 8
"""Of the fit; each takes one circuit: the model's first two entries."""


class Broken(StatevectorSampler):  # type: ignore[misc]
    def run(self, *_: Any, **__: Any) -> Any:
        raise ConnectionError("no device")


def perturbation(sampler: Any = None, **settings: Any) -> Perturbation:
    given = StatevectorSampler(default_shots=20, seed=1) if sampler is None else sampler
    sampling = GivenSampling(given, paid=settings.pop("paid", False))
    backend = SamplerBackend(SuperpositionCircuit(2), None, sampling, **settings)
    return Perturbation(backend, FirstOfModel())


@pytest.mark.parametrize("front", ["callback", "mixin"])
def test_costs_are_shown_before_the_fit(front: str, caplog: pytest.LogCaptureFixture) -> None:
    described = perturbation(paid=True, max_circuits=STEPS)
    with caplog.at_level("INFO"):
        if front == "callback":
            callback = PerturbationCallback(described)
            fit(Finished(), callback)
            assert callback.optimizers[0].own_state.circuits == STEPS
        else:
            fit(Perturbed(perturbation=described))
    shown = f"The perturbation will take {STEPS} jobs, 1 circuits per step: {STEPS} circuits"
    assert [shown in message for message in caplog.messages].count(True) == 1


def test_fit_that_would_exceed_its_limit_does_not_start() -> None:
    callback = PerturbationCallback(perturbation(paid=True, max_circuits=STEPS - 1))
    model = Finished()
    with pytest.raises(ValueError, match=r"Cannot start: the training will take 8 jobs.* is 7"):
        fit(model, callback)
    assert callback.optimizers[0].own_state.steps == 0


def test_local_circuits_without_a_limit_are_not_forecast(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        fit(Finished(), PerturbationCallback(Perturbation(SamplerBackend(), FirstOfModel())))
    assert not any("will take" in message for message in caplog.messages)


def test_fit_whose_steps_were_all_skipped_raises_and_says_so() -> None:
    described = perturbation(Broken(), on_failure=SkipOnFailure(limit=100))
    message = r"due at 8 steps and was never applied: at 8 of them its circuits failed"
    with pytest.raises(RuntimeError, match=message):
        fit(Finished(), PerturbationCallback(described))


def test_forecast_of_learned_weights_covers_what_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    circuit = SuperpositionCircuit(2, reps=1)
    backend = SamplerBackend(circuit, weight_seed=0, max_circuits=1000)
    callback = PerturbationCallback(
        Perturbation(backend, FirstOfModel(), learning=Learning(weights_rate=0.1))
    )
    with caplog.at_level("INFO"):
        fit(Finished(), callback)
    per_step = 2 + 2 * 4  # forwards, forwards again to learn, and two shifts of each of 4 weights
    assert any(f"{per_step} circuits per step" in message for message in caplog.messages)
    counted = callback.optimizers[0].own_state.circuits
    assert counted == STEPS + (STEPS - 1) * (per_step - 1)  # there is nothing to learn at first


def test_circuits_of_features_are_forecast_once_and_not_per_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = SamplerBackend(SuperpositionCircuit(2, reps=1), max_circuits=9)
    features = [Alignment(), Weight()]
    callback = PerturbationCallback(
        Perturbation(backend, AllEntries(), injection=RenormalisedInjection(), features=features)
    )
    with caplog.at_level("INFO"):
        fit(Finished(), callback)
    assert any("will take 1 jobs, 9 circuits per step: 9 circuits" in m for m in caplog.messages)
    assert callback.optimizers[0].own_state.circuits == 9
    assert callback.optimizers[0].own_state.applied == STEPS

"""What a training will cost, and the limit that refuses it."""

import pytest

from lightning_qsgd.backends import (
    ExactSampling,
    Forecast,
    HardwareSampling,
    RetryOnFailure,
    SamplerBackend,
    SineBackend,
    forecast,
)


def test_jobs_circuits_and_shots_are_counted() -> None:
    expected = forecast(SamplerBackend(sampling=100), steps=30, num_blocks=6)
    assert (expected.jobs, expected.circuits, expected.shots) == (30, 180, 18_000)
    assert str(expected) == "30 jobs, 6 circuits per step: 180 circuits, 18,000 shots"


def test_exact_probabilities_have_no_shots() -> None:
    expected = forecast(SamplerBackend(sampling=ExactSampling()), steps=30, num_blocks=6)
    assert expected.shots is None
    assert str(expected) == "30 jobs, 6 circuits per step: 180 circuits"


def test_retries_are_named_and_not_counted() -> None:
    sampling = HardwareSampling("ibm_torino", 1024)
    backend = SamplerBackend(
        sampling=sampling, on_failure=RetryOnFailure(attempts=4), max_circuits=200
    )
    expected = forecast(backend, steps=30, num_blocks=6)
    assert expected.circuits == 180
    assert str(expected).endswith("180 circuits, 184,320 shots, up to 4 times that with retries")


def test_closed_form_runs_no_job() -> None:
    expected = forecast(SineBackend(), steps=30, num_blocks=6)
    assert (expected.jobs, expected.circuits) == (0, 0)
    expected.check(limit=1)


def test_endless_training_without_circuits_costs_nothing() -> None:
    assert forecast(SineBackend(), steps=float("inf"), num_blocks=6).circuits == 0


@pytest.mark.parametrize("limit", [None, 180, 181])
def test_limit_that_suffices_is_accepted(limit: int | None) -> None:
    Forecast(steps=30, circuits_per_step=6).check(limit)


def test_limit_that_does_not_suffice_is_refused() -> None:
    message = r"Cannot start: .*180 circuits, and `max_circuits` is 179. Raise the limit"
    with pytest.raises(ValueError, match=message):
        Forecast(steps=30, circuits_per_step=6).check(179)


def test_endless_training_exceeds_any_limit() -> None:
    with pytest.raises(ValueError, match=r"endless jobs, 6 circuits per step: endless circuits"):
        Forecast(steps=float("inf"), circuits_per_step=6).check(10**12)

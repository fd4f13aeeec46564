"""Forecasts of a step's cost, with a clock that the tests turn."""

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_qsgd.backends import Backend, SamplerBackend
from lightning_qsgd.backends.forecast import forecast_step, short_time
from lightning_qsgd.circuits import SuperpositionCircuit


class ClockedBackend(Backend):
    """Takes a given time per circuit, on a clock of its own."""

    num_qubits = 2

    def __init__(self, seconds: float, first: float = 0.0) -> None:
        self.seconds = seconds
        self.first = first
        self.now = 0.0
        self.batches: list[int] = []

    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        self.now += self.seconds * len(inputs) + (0.0 if self.batches else self.first)
        self.batches.append(len(inputs))
        return torch.zeros_like(inputs)


def clocked(monkeypatch: pytest.MonkeyPatch, seconds: float, first: float = 0.0) -> ClockedBackend:
    backend = ClockedBackend(seconds, first)
    monkeypatch.setattr(sys.modules[forecast_step.__module__], "perf_counter", lambda: backend.now)
    return backend


def test_a_fast_backend_runs_the_whole_step(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = clocked(monkeypatch, 1e-6)
    forecast = forecast_step(backend, circuits=100)
    assert forecast.measured == forecast.circuits == 100
    assert forecast.seconds == pytest.approx(1e-4)


def test_a_slow_backend_is_extrapolated_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = clocked(monkeypatch, 0.05)
    forecast = forecast_step(backend, circuits=1000)
    assert forecast.measured == 4
    assert forecast.seconds == pytest.approx(50.0)
    assert max(backend.batches) == 4


def test_what_is_built_once_is_not_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = clocked(monkeypatch, 0.01, first=1.3)  # a noise model, and its transpiler
    assert forecast_step(backend, circuits=27).seconds == pytest.approx(0.27)


def test_a_very_slow_backend_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = clocked(monkeypatch, 60.0)
    assert forecast_step(backend, circuits=10).seconds == pytest.approx(600.0)
    assert backend.batches == [1, 1]  # the first one builds the circuit


def test_the_best_of_several_rounds_counts_and_the_slowest_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = clocked(monkeypatch, 0.02)
    disturbed = iter([0.0, 3.0, 0.0, 0.0, 0.0])  # the build, then a round beside other programs
    quiet = backend.readout

    def readout(inputs: Tensor, keys: np.ndarray | None = None) -> Tensor:
        backend.now += next(disturbed, 0.0)
        return quiet(inputs, keys)

    monkeypatch.setattr(backend, "readout", readout)
    forecast = forecast_step(backend, circuits=1)

    assert forecast.seconds == pytest.approx(0.02)
    assert forecast.slowest == pytest.approx(3.02)


def test_backends_with_shots_get_keys() -> None:
    backend = SamplerBackend(SuperpositionCircuit(2), sampling=8)
    assert forecast_step(backend, circuits=2, rounds=1).seconds > 0


def test_no_circuits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected `circuits` to be at least 1, got 0: .*Give"):
        forecast_step(ClockedBackend(1.0), circuits=0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0.0000041, "4.1 us"), (0.000099, "99 us"), (0.000994, "994 us"), (0.000996, "1 ms")),
        *((0.00999, "10 ms"), (0.061, "61 ms"), (2.34, "2.3 s"), (68.72, "69 s")),
        *((6872.3, "6,872 s"), (0.0, "0 us")),
    ],
)
def test_a_time_has_the_unit_that_shows_it(seconds: float, words: str) -> None:
    assert short_time(seconds) == words

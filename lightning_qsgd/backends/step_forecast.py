"""Forecasts what the circuits of one training step cost with a backend, by running a few."""

from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
import torch

from lightning_qsgd.backends.backend import Backend

ENOUGH_SECONDS = 0.5
"""A batch that takes longer than this is not timed again, nor is a larger one."""


@dataclass(frozen=True)
class StepForecast:
    """Seconds that the circuits of one step take.

    Attributes:
        circuits: Circuits per step.
        seconds: Seconds per step.
        measured: Circuits that were run at once; fewer than `circuits` if the rest was extrapolated
            in proportion.
    """

    circuits: int
    seconds: float
    measured: int


def forecast_step(backend: Backend, circuits: int, rounds: int = 5) -> StepForecast:
    """Run batches of growing size, up to `circuits` or until one takes long.

    Args:
        backend: Any backend.
        circuits: Circuits per step, at least 1.
        rounds: Repetitions of a short batch, of which the median counts.

    Returns:
        The forecast; extrapolated in proportion where the whole step would take long.

    Raises:
        ValueError: If `circuits` is below 1.

    Example:
        >>> from lightning_qsgd.backends import SineBackend
        >>> forecast_step(SineBackend(), circuits=8).measured
        8
    """
    if circuits < 1:
        raise ValueError(
            f"Expected `circuits` to be at least 1, got {circuits}: a step without circuits costs "
            "nothing. Give the number of blocks that a step perturbs."
        )
    batch = 1
    while True:
        seconds = _seconds(backend, batch, rounds)
        if batch == circuits or seconds > ENOUGH_SECONDS / 4:
            return StepForecast(circuits, seconds * circuits / batch, batch)
        batch = min(circuits, 4 * batch)


def _seconds(backend: Backend, batch: int, rounds: int) -> float:
    inputs = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (batch, backend.num_qubits)))
    keys = np.arange(batch, dtype=np.uint64) if backend.stochastic else None
    times: list[float] = []
    with torch.no_grad():
        backend.readout(inputs.float(), keys)  # builds the circuit, its noise, a compiled form
        while len(times) < rounds and sum(times) < ENOUGH_SECONDS:
            start = perf_counter()
            backend.readout(inputs.float(), keys)
            times.append(perf_counter() - start)
    return median(times)

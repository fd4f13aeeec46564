"""What a step costs before it is taken: circuits, seconds and memory."""

from dataclasses import dataclass
from math import inf
from time import perf_counter

import numpy as np
import torch

from lightning_qsgd.backends.backend import Backend
from lightning_qsgd.backends.sampler_backend import SamplerBackend


@dataclass(frozen=True)
class Forecast:
    """Counts of a training at which nothing fails, and the factor if everything does.

    Attributes:
        steps: Optimizer steps, or infinity.
        circuits_per_step: Circuits of one step.
        shots_per_circuit: Shots of one circuit; None if there are none or nobody knows.
        attempts: Number of times that each job is tried, at most.
        jobs_per_step: Number of jobs in which they are sent.

    Example:
        >>> Forecast(steps=100, circuits_per_step=6, shots_per_circuit=1024).circuits
        600
    """

    steps: float
    circuits_per_step: int
    shots_per_circuit: int | None = None
    attempts: int = 1
    jobs_per_step: int = 1

    @property
    def jobs(self) -> float:
        """Number of jobs of all steps that evaluate a circuit."""
        return self.steps * self.jobs_per_step if self.circuits_per_step > 0 else 0

    @property
    def circuits(self) -> float:
        """Number of circuits in all."""
        return self.steps * self.circuits_per_step if self.jobs else 0

    @property
    def shots(self) -> float | None:
        """Number of shots in all; None if there are none or nobody knows."""
        return None if self.shots_per_circuit is None else self.circuits * self.shots_per_circuit

    def __str__(self) -> str:
        shots = "" if self.shots is None else f", {_number(self.shots)} shots"
        retries = f", up to {self.attempts} times that with retries" if self.attempts > 1 else ""
        return (
            f"{_number(self.jobs)} jobs, {self.circuits_per_step:,} circuits per step: "
            f"{_number(self.circuits)} circuits{shots}{retries}"
        )

    def check(self, limit: int | None) -> None:
        """Refuse a training that would exceed its limit even if nothing fails.

        Args:
            limit: Number of circuits that may be evaluated; None sets none.

        Raises:
            ValueError: If the forecast exceeds it.
        """
        if limit is not None and self.circuits > limit:
            raise ValueError(
                f"Cannot start: the training will take {self}, and `max_circuits` is {limit:,}. "
                "Raise the limit, perturb fewer coordinates, or set the number of steps lower."
            )


def forecast(
    backend: Backend, steps: float, num_blocks: int, learns_weights: bool = False
) -> Forecast:
    """Forecast what a training will cost.

    Args:
        backend: Evaluates the circuits.
        steps: Optimizer steps, at least 0, or infinity.
        num_blocks: Blocks of coordinates in a step.
        learns_weights: Whether the circuit's weights are learned. Then each step evaluates its
            blocks once more, and twice for each gate angle that holds a weight: the parameter
            shifts of the standard rotations. The count at run time is exact for all gates.

    Example:
        >>> from lightning_qsgd.backends.samplers import ShotSampling
        >>> backend = SamplerBackend(sampling=ShotSampling(64))
        >>> print(forecast(backend, steps=10, num_blocks=6))
        10 jobs, 6 circuits per step: 60 circuits, 3,840 shots
    """
    circuits = backend.circuits_for(num_blocks)
    if not isinstance(backend, SamplerBackend):
        return Forecast(steps, circuits)
    jobs = 1
    if learns_weights:
        shifts = 2 * backend.describe().num_weight_angles
        circuits, jobs = circuits * (2 + shifts), 3
    return Forecast(steps, circuits, backend.recipe.shots, backend.on_failure.attempts, jobs)


def _number(value: float) -> str:
    return "endless" if value == inf else f"{int(value):,}"


def short_time(seconds: float) -> str:
    """Write a measured time to two digits, in the unit that shows them.

    Example:
        >>> short_time(0.0000041), short_time(0.061), short_time(2.34), short_time(6872.3)
        ('4.1 us', '61 ms', '2.3 s', '6,872 s')
    """
    for unit, per_second in (("us", 1e6), ("ms", 1e3), ("s", 1.0)):
        value = seconds * per_second
        if value < 995 or unit == "s":
            break
    return f"{value:,.0f} {unit}" if value >= 9.95 else f"{value:.2g} {unit}"


ENOUGH_SECONDS = 0.5
"""A batch that takes longer than this is not timed again, nor is a larger one."""


@dataclass(frozen=True)
class StepForecast:
    """Seconds that the circuits of one step take.

    Attributes:
        circuits: Circuits per step.
        seconds: Seconds per step, the best of several rounds: other programs only ever add to it.
        slowest: The same, of the slowest round; equal to `seconds` if there was one round.
        measured: Circuits that were run at once; fewer than `circuits` if the rest was extrapolated
            in proportion.
    """

    circuits: int
    seconds: float
    slowest: float
    measured: int


def forecast_step(backend: Backend, circuits: int, rounds: int = 5) -> StepForecast:
    """Run batches of growing size, up to `circuits` or until one takes long.

    Args:
        backend: Any backend.
        circuits: Circuits per step, at least 1.
        rounds: Repetitions of a short batch, of which the best counts.

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
        times = _seconds(backend, batch, rounds)
        if batch == circuits or min(times) > ENOUGH_SECONDS / 4:
            best, slowest = (seconds * circuits / batch for seconds in (min(times), max(times)))
            return StepForecast(circuits, best, slowest, batch)
        batch = min(circuits, 4 * batch)


def _seconds(backend: Backend, batch: int, rounds: int) -> list[float]:
    inputs = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (batch, backend.num_qubits)))
    keys = np.arange(batch, dtype=np.uint64) if backend.stochastic else None
    times: list[float] = []
    with torch.no_grad():
        backend.readout(inputs.float(), keys)  # builds the circuit, its noise, a compiled form
        # A single round can be off by far, so a batch of up to seconds is timed a second time.
        while len(times) < rounds and (
            sum(times) < ENOUGH_SECONDS or (len(times) < 2 and sum(times) < 8 * ENOUGH_SECONDS)
        ):
            start = perf_counter()
            backend.readout(inputs.float(), keys)
            times.append(perf_counter() - start)
    return times

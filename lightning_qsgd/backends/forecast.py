"""What a training will cost in circuits, said before it starts."""

from dataclasses import dataclass
from math import inf

from lightning_qsgd.backends.backend import Backend
from lightning_qsgd.backends.sampler import SamplerBackend


@dataclass(frozen=True)
class Forecast:
    """Counts of a training at which nothing fails, and the factor if everything does.

    Attributes:
        steps: Optimizer steps, or infinity.
        circuits_per_step: Circuits of one step.
        shots_per_circuit: Shots of one circuit; None if there are none or nobody knows.
        attempts: Number of times that each job is tried, at most.

    Example:
        >>> Forecast(steps=100, circuits_per_step=6, shots_per_circuit=1024).circuits
        600
    """

    steps: float
    circuits_per_step: int
    shots_per_circuit: int | None = None
    attempts: int = 1

    @property
    def jobs(self) -> float:
        """Number of jobs: one per step that evaluates a circuit."""
        return self.steps if self.circuits_per_step > 0 else 0

    @property
    def circuits(self) -> float:
        """Number of circuits in all."""
        return self.jobs * self.circuits_per_step if self.jobs else 0

    @property
    def shots(self) -> float | None:
        """Number of shots in all; None if there are none or nobody knows."""
        return None if self.shots_per_circuit is None else self.circuits * self.shots_per_circuit

    def __str__(self) -> str:
        shots = "" if self.shots is None else f", {_number(self.shots)} shots"
        retries = f", up to {self.attempts} times that with retries" if self.attempts > 1 else ""
        return (
            f"{_number(self.jobs)} jobs of {self.circuits_per_step:,} circuits: "
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


def forecast(backend: Backend, steps: float, num_blocks: int) -> Forecast:
    """Forecast what a training will cost.

    Args:
        backend: Evaluates the circuits.
        steps: Optimizer steps, at least 0, or infinity.
        num_blocks: Blocks of coordinates in a step.

    Example:
        >>> from lightning_qsgd.backends.samplers import ShotSampling
        >>> backend = SamplerBackend(sampling=ShotSampling(64))
        >>> print(forecast(backend, steps=10, num_blocks=6))
        10 jobs of 6 circuits: 60 circuits, 3,840 shots
    """
    circuits = backend.circuits_for(num_blocks)
    if not isinstance(backend, SamplerBackend):
        return Forecast(steps, circuits)
    return Forecast(steps, circuits, backend.recipe.shots, backend.on_failure.attempts)


def _number(value: float) -> str:
    return "endless" if value == inf else f"{int(value):,}"

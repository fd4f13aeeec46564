"""Shots drawn from exact probabilities."""

from dataclasses import dataclass

from qiskit.circuit import QuantumCircuit
from qiskit.primitives import BaseSamplerV2

from lightning_qsgd.backends.keyed_sampler import KeyedSampler
from lightning_qsgd.backends.samplers.one_state import check_one_state
from lightning_qsgd.backends.samplers.sampling import Sampling, check_shots


@dataclass(frozen=True)
class ShotSampling(Sampling):
    """Draws shots from exact probabilities, with a generator per circuit.

    Args:
        shots: Shots per circuit, at least 1.

    Raises:
        ValueError: If `shots` is below 1.

    Example:
        >>> ShotSampling(256).stochastic
        True
    """

    shots: int

    stochastic = True
    bytes_per_outcome = 2048

    def __post_init__(self) -> None:
        check_shots(self.shots)

    def sampler(self) -> BaseSamplerV2:
        """Build the sampler; see `Sampling.sampler`."""
        return KeyedSampler(self.shots)

    def check_circuit(self, circuit: QuantumCircuit) -> None:
        """Refuse circuits that do not end in one state; see `Sampling.check_circuit`."""
        check_one_state(circuit)

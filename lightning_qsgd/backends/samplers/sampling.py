"""How outcomes are drawn: the recipe from which a sampler is made."""

from abc import ABC, abstractmethod

from qiskit.circuit import QuantumCircuit
from qiskit.primitives import BaseSamplerV2


class Sampling(ABC):
    """Describes a sampler; immutable, and what a config names.

    Attributes:
        shots: Shots per circuit; None if there are none or nobody knows.
    """

    shots: int | None

    stochastic: bool = False
    """Whether shots are drawn from keys, one per circuit."""

    exact: bool = False
    """Whether probabilities are those of the state vector, with derivatives of all orders."""

    reproducible: bool = True
    """Whether equal calls give equal results. Otherwise one process of a distributed run evaluates
    for all, since replicas would drift apart."""

    paid: bool = False
    """Whether circuits cost money: a limit on their number is then required."""

    local: bool = True
    """Whether circuits are simulated here; for others a forecast is shown before a run."""

    bytes_per_outcome: int = 16
    """Memory for each outcome of each circuit: SamplerQNN's table of float64, and a copy of it."""

    bytes_per_shot: int = 0
    """Memory for each shot of the one circuit that is simulated at a time."""

    @abstractmethod
    def sampler(self) -> BaseSamplerV2:
        """Build the sampler; it takes measured circuits as they are written, not transpiled.

        Raises:
            ModuleNotFoundError: If a library that it needs is not installed.
            ValueError: If the machine or the account has no such simulator or device.
        """

    def check_circuit(self, circuit: QuantumCircuit) -> None:  # noqa: B027 - most take any circuit
        """Raise a ValueError if a circuit without measurements cannot be sampled this way."""

    def check_size(self, num_qubits: int) -> None:  # noqa: B027 - most samplers take any circuit
        """Raise a ValueError if circuits of this many qubits do not fit the device."""


def check_shots(shots: int) -> None:
    """Refuse less than one shot, and what is no number of them.

    Raises:
        TypeError: If `shots` is no integer.
        ValueError: If `shots` is below 1.
    """
    if isinstance(shots, bool) or not isinstance(shots, int):
        raise TypeError(
            f"Expected `shots` to be an integer, got {shots!r}: it counts how often each circuit "
            "is measured. Use e.g. 1024."
        )
    if shots < 1:
        raise ValueError(
            f"Expected `shots` to be at least 1, got {shots}: no shot would be drawn. "
            "Use ExactSampling() for exact probabilities."
        )

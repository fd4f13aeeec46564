"""How outcomes are drawn: the recipe of a sampler, and those of the exact state vector."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from qiskit.circuit import (
    Barrier,
    ControlFlowOp,
    Delay,
    Gate,
    Instruction,
    QuantumCircuit,
    Reset,
)
from qiskit.exceptions import QiskitError
from qiskit.primitives import BaseSamplerV2, StatevectorEstimator, StatevectorSampler
from qiskit_machine_learning.primitives import QMLEstimator, QMLSampler
from typing_extensions import override

from lightning_qsgd.backends.backend import promises_end
from lightning_qsgd.backends.keyed_sampler import KeyedSampler
from lightning_qsgd.backends.plugins.vectorized_sampler import VectorizedSampler
from lightning_qsgd.circuits.measurements import (
    MEASURES_ON_THE_WAY,
    CannotReadOut,
    measured_bits,
    without_measurements,
)


class Sampling(ABC):
    """Describes a sampler; immutable, and what a config names.

    A class with a `sampler` of its own says itself whether it is stochastic, exact or reproducible;
    if it does not, it is taken for none of them.

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

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        promises_end(cls, {"sampler"}, stochastic=False, exact=False, reproducible=False)

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


def check_one_state(circuit: QuantumCircuit) -> None:
    """Refuse circuits whose final state differs from shot to shot.

    Qiskit's `Statevector` draws the outcome of a reset once, from a global generator, and goes on
    with it: probabilities would be wrong, and other ones in each call. Resets of qubits that
    nothing has acted on, such as those of an initialisation, change nothing.

    Args:
        circuit: A circuit without measurements.

    Raises:
        ValueError: If a reset follows a gate on the same qubit, gates depend on conditions, or one
            has no definition.
    """
    touched: set[Any] = set()
    for instruction in circuit.data:
        operation, qubits = instruction.operation, set(instruction.qubits)
        if isinstance(operation, ControlFlowOp) or (_resets(operation) and qubits & touched):
            raise ValueError(
                f"Cannot sample a circuit with `{operation.name}` from one state vector: each shot "
                "may end in another state. Use AerSampling, or remove it."
            )
        if _is_opaque(operation):
            remedy = "Decompose it" if isinstance(operation, Gate) else "Use AerSampling"
            raise ValueError(
                f"Cannot sample a circuit with `{operation.name}` from one state vector: it has "
                f"no definition in terms of unitary gates, and no matrix. {remedy}, or remove it."
            )
        if not isinstance(operation, Barrier | Delay):
            touched |= qubits


_OF_ONE_STATE = (
    QMLSampler,
    StatevectorSampler,
    VectorizedSampler,
    QMLEstimator,
    StatevectorEstimator,
)


def check_sampler(primitive: Any, circuit: QuantumCircuit) -> None:
    """Refuse circuits with several final states on what draws from one of them.

    Args:
        primitive: A sampler or estimator; one of another class may be able to run any circuit.
        circuit: A circuit with its measurements.

    Raises:
        ValueError: With what can run the circuit.
    """
    if type(primitive) not in _OF_ONE_STATE:
        return
    measured_bits(circuit)  # refuses measurements on the way
    bare = without_measurements(circuit)
    branches = [step.operation.name for step in bare.data if step.clbits]
    if branches:
        raise CannotReadOut(
            f"Cannot run a circuit with `{branches[0]}` on {type(primitive).__name__}: each shot "
            "may end in another state. Write the circuit without it; or, for values alone, "
            f"{MEASURES_ON_THE_WAY}."
        )
    check_one_state(bare)


def _is_opaque(operation: Any) -> bool:
    """Whether nothing says what an operation does to a state vector; or to any, of its parts."""
    if type(operation) not in (Gate, Instruction):
        return False
    definition = operation.definition
    return definition is None or any(_is_opaque(step.operation) for step in definition.data)


def _resets(operation: Any) -> bool:
    """Whether an operation is a reset, or is made of some; gates are unitary."""
    if isinstance(operation, Reset):
        return True
    try:
        definition = None if isinstance(operation, Gate) else getattr(operation, "definition", None)
    except QiskitError:  # an initialisation whose amplitudes are parameters starts with resets
        return True
    return definition is not None and any(_resets(step.operation) for step in definition.data)


@dataclass(frozen=True)
class ExactSampling(Sampling):
    """Evaluates the probabilities of all outcomes exactly, with `SamplerQNN`'s default sampler.

    Example:
        >>> ExactSampling().stochastic
        False
    """

    shots = None
    exact = True
    reproducible = True
    bytes_per_outcome = 2048
    """Measured peak: 0.5 GB for 4 circuits of 16 qubits."""

    @override
    def sampler(self) -> BaseSamplerV2:
        return QMLSampler()

    @override
    def check_circuit(self, circuit: QuantumCircuit) -> None:
        check_one_state(circuit)


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
    reproducible = True
    bytes_per_outcome = 2048

    def __post_init__(self) -> None:
        check_shots(self.shots)

    @override
    def sampler(self) -> BaseSamplerV2:
        return KeyedSampler(self.shots)

    @override
    def check_circuit(self, circuit: QuantumCircuit) -> None:
        check_one_state(circuit)

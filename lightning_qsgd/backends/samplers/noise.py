"""Noise models: depolarizing, thermal, and snapshots of devices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any

from qiskit.providers import BackendV2
from typing_extensions import override

if TYPE_CHECKING:
    from qiskit_aer.noise import NoiseModel


class Noise(ABC):
    """Describes a noise model for Aer; immutable, and what a config names."""

    @abstractmethod
    def build(self) -> NoiseModel:
        """Build Aer's noise model."""

    def device(self) -> Any | None:
        """Return the device whose gates and couplings circuits are transpiled to.

        None keeps the gates of the circuit as they are written.
        """
        return None


def gates_of(num_qubits: int) -> list[str]:
    """List the gates on this many qubits that Aer simulates as they are, by name."""
    from qiskit.circuit import Gate
    from qiskit_aer import AerSimulator

    target = AerSimulator().target
    operations = {name: target.operation_from_name(name) for name in target.operation_names}
    return sorted(
        name
        for name, operation in operations.items()
        if isinstance(operation, Gate) and operation.num_qubits == num_qubits and name != "delay"
    )


def noise_on(qubits: frozenset[int], model: Any) -> NoiseModel:
    """Return the part of a noise model that circuits on these qubits can meet.

    Args:
        qubits: The qubits that a circuit acts on.
        model: Aer's noise model of a whole device; it is left as it is.
    """
    part = copy(model)
    part._local_quantum_errors = {
        gate: {on: error for on, error in errors.items() if qubits.issuperset(on)}
        for gate, errors in model._local_quantum_errors.items()
    }
    part._local_readout_errors = {
        on: error for on, error in model._local_readout_errors.items() if qubits.issuperset(on)
    }
    return part


def check_probability(name: str, value: float) -> None:
    """Refuse what is no probability.

    Raises:
        ValueError: If `value` is not in [0, 1].
    """
    if not 0 <= value <= 1:
        raise ValueError(
            f"Expected `{name}` to be a probability in [0, 1], got {value}: nothing can go wrong "
            "less than never or more than always. Good devices have 0.0001 to 0.01."
        )


@dataclass(frozen=True)
class DepolarizingNoise(Noise):
    r"""Replaces the state of a gate's qubits by the maximally mixed one, with a probability.

    After each one-qubit gate of the circuit as it is written,
    :math:`\rho \mapsto (1 - p) \rho + p\, \mathbb{1} / 2`, and likewise for pairs of qubits; gates
    on more qubits are decomposed first. So P(1) - P(0) of a qubit on its own shrinks by (1 - p)
    with every gate, and by (1 - 2 r) through the readout.

    Args:
        one_qubit: Probability p after each one-qubit gate, in [0, 1].
        two_qubit: Probability after each two-qubit gate, in [0, 1].
        readout: Probability r that a measured bit is flipped, in [0, 1].

    Raises:
        ValueError: If an argument is no probability.

    Example:
        >>> "h" in DepolarizingNoise(one_qubit=0.01).build().noise_instructions
        True
    """

    one_qubit: float = 0.001
    two_qubit: float = 0.01
    readout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("one_qubit", "two_qubit", "readout"):
            check_probability(name, getattr(self, name))

    @override
    def build(self) -> NoiseModel:
        from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error

        one, two = gates_of(1), gates_of(2)
        model = NoiseModel(basis_gates=[*one, *two])
        if self.one_qubit > 0:
            model.add_all_qubit_quantum_error(depolarizing_error(self.one_qubit, 1), one)
        if self.two_qubit > 0:
            model.add_all_qubit_quantum_error(depolarizing_error(self.two_qubit, 2), two)
        if self.readout > 0:
            right, wrong = 1 - self.readout, self.readout
            flips = ReadoutError([[right, wrong], [wrong, right]])
            model.add_all_qubit_readout_error(flips)
        return model


@dataclass(frozen=True)
class ThermalNoise(Noise):
    """Lets the qubits of a gate relax towards 0 and lose their phase while it lasts.

    The gates are those of the circuit as it is written; qubits that wait do not relax.

    Args:
        t1: Relaxation time in microseconds, above 0.
        t2: Dephasing time in microseconds, above 0 and at most 2 * t1.
        one_qubit_nanoseconds: Duration of a one-qubit gate in nanoseconds, at least 0.
        two_qubit_nanoseconds: Duration of a two-qubit gate in nanoseconds, at least 0.

    Raises:
        ValueError: If a time is out of range.

    Example:
        >>> "cx" in ThermalNoise(t1=100.0, t2=80.0).build().noise_instructions
        True
    """

    t1: float = 100.0
    t2: float = 100.0
    one_qubit_nanoseconds: float = 50.0
    two_qubit_nanoseconds: float = 300.0

    def __post_init__(self) -> None:
        if not 0 < self.t2 <= 2 * self.t1 or not isfinite(self.t1):
            raise ValueError(
                f"Expected `t1` and `t2` with 0 < t2 <= 2 * t1, got {self.t1} and {self.t2}: no "
                "qubit loses its phase more slowly than that. Give times in microseconds, e.g. "
                "100 and 80."
            )
        for name in ("one_qubit_nanoseconds", "two_qubit_nanoseconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(
                    f"Expected `{name}` to be non-negative and finite, got {getattr(self, name)}: "
                    "it is how long a gate takes. Give nanoseconds, e.g. 50 or 300."
                )

    @override
    def build(self) -> NoiseModel:
        from qiskit_aer.noise import NoiseModel, thermal_relaxation_error

        t1, t2 = 1000 * self.t1, 1000 * self.t2
        short = thermal_relaxation_error(t1, t2, self.one_qubit_nanoseconds)
        long = thermal_relaxation_error(t1, t2, self.two_qubit_nanoseconds)
        one, two = gates_of(1), gates_of(2)
        model = NoiseModel(basis_gates=[*one, *two])
        model.add_all_qubit_quantum_error(short, one)
        model.add_all_qubit_quantum_error(long.tensor(long), two)
        return model


@dataclass(frozen=True)
class DeviceNoise(Noise):
    """Takes noise, gates and couplings of a device from qiskit-ibm-runtime's snapshots.

    Circuits are transpiled to the device; readouts are those of the circuit's own qubits.

    Args:
        name: Class of the snapshot in `qiskit_ibm_runtime.fake_provider`, e.g. ``"FakeManilaV2"``.

    Raises:
        ModuleNotFoundError: When it is built, if qiskit-ibm-runtime is not installed.
        ValueError: When it is built, if there is no such snapshot.

    Example:
        >>> DeviceNoise("FakeManilaV2").name
        'FakeManilaV2'
    """

    name: str

    @override
    def build(self) -> NoiseModel:
        return _model_of_snapshot(self.name)

    @override
    def device(self) -> Any:
        return _snapshot(self.name)


@dataclass(frozen=True)
class GenericDeviceNoise(Noise):
    """Takes noise, gates and couplings of a device that qiskit makes up.

    Circuits are transpiled to the device; readouts are those of the circuit's own qubits.

    Args:
        num_qubits: Qubits of the device, at least those of the circuit.
        seed: Names the drawn error rates, non-negative.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> GenericDeviceNoise(num_qubits=5).device().num_qubits
        5
    """

    num_qubits: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_qubits < 2 or self.seed < 0:
            raise ValueError(
                f"Expected at least 2 qubits and a non-negative seed, got {self.num_qubits} and "
                f"{self.seed}: qiskit makes up no such device. Use e.g. num_qubits=5, seed=0."
            )

    @override
    def build(self) -> NoiseModel:
        return _model_of(self.device())

    @override
    def device(self) -> Any:
        from qiskit.providers.fake_provider import GenericBackendV2

        return GenericBackendV2(self.num_qubits, seed=self.seed)


def _model_of(device: Any) -> NoiseModel:
    from qiskit_aer.noise import NoiseModel

    return NoiseModel.from_backend(device)


@lru_cache(maxsize=4)  # seconds, for a device of 127 qubits
def _model_of_snapshot(name: str) -> NoiseModel:
    return _model_of(_snapshot(name))


@lru_cache(maxsize=4)
def _snapshot(name: str) -> Any:
    try:
        from qiskit_ibm_runtime import fake_provider
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Cannot take the noise of {name}: qiskit-ibm-runtime is not installed. Run `pip "
            "install 'lightning-qsgd[hardware]'`, or use GenericDeviceNoise."
        ) from error
    known = sorted(each for each in dir(fake_provider) if _is_snapshot(fake_provider, each))
    if name not in known:
        meant = get_close_matches(name, known, n=3)
        raise ValueError(
            f"Unknown device {name!r}: qiskit_ibm_runtime.fake_provider has no such snapshot. "
            + (f"Did you mean {' or '.join(meant)}?" if meant else f"It has {', '.join(known)}.")
        )
    return getattr(fake_provider, name)()


def _is_snapshot(module: Any, name: str) -> bool:
    found = getattr(module, name)
    return name.startswith("Fake") and isinstance(found, type) and issubclass(found, BackendV2)

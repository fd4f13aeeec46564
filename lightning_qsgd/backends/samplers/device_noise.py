"""The noise of a device that was measured once, or of one that was made up."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qiskit.providers import BackendV2

from lightning_qsgd.backends.samplers.noise import Noise

if TYPE_CHECKING:
    from qiskit_aer.noise import NoiseModel


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

    def build(self) -> NoiseModel:
        """Build Aer's noise model; see `Noise.build`."""
        return _model_of_snapshot(self.name)

    def device(self) -> Any:
        """Return the device; see `Noise.device`."""
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

    def build(self) -> NoiseModel:
        """Build Aer's noise model; see `Noise.build`."""
        return _model_of(self.device())

    def device(self) -> Any:
        """Return the device; see `Noise.device`."""
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
            "install lightning-qsgd[hardware]`, or use GenericDeviceNoise."
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

"""Shots of Aer's simulators, with noise if asked for."""

from dataclasses import dataclass
from typing import Any

from qiskit import generate_preset_pass_manager
from qiskit.primitives import BaseSamplerV2

from lightning_qsgd.backends.samplers.keyed_aer import KeyedAerSampler
from lightning_qsgd.backends.samplers.noise import Noise
from lightning_qsgd.backends.samplers.sampling import Sampling, check_shots
from lightning_qsgd.backends.samplers.transpiling import TranspilingSampler

WITHOUT_SHOTS = frozenset({"unitary", "superop"})
"""Methods of Aer that compute operators, and measure nothing."""


@dataclass(frozen=True)
class AerSampling(Sampling):
    """Draws shots with an `AerSimulator`, seeded by the key of each circuit.

    Args:
        shots: Shots per circuit, at least 1.
        method: Aer's simulation method, e.g. ``"statevector"``, ``"density_matrix"`` or
            ``"matrix_product_state"``; ``"automatic"`` leaves the choice to Aer.
        device: ``"CPU"`` or, where Aer was built for it, ``"GPU"``.
        noise: What goes wrong on the way; None for nothing.

    Raises:
        ValueError: If `shots` is below 1, or Aer has no such method or device.

    Example:
        >>> AerSampling(shots=128, method="matrix_product_state").shots
        128
    """

    shots: int
    method: str = "automatic"
    device: str = "CPU"
    noise: Noise | None = None

    stochastic = True
    bytes_per_shot = 240
    """Measured peak: 120 with a state vector, 225 with Aer's other methods."""

    def __post_init__(self) -> None:
        from qiskit_aer import AerSimulator

        check_shots(self.shots)
        methods = [m for m in AerSimulator().available_methods() if m not in WITHOUT_SHOTS]
        if self.method not in methods:
            raise ValueError(
                f"Unknown method {self.method!r}: Aer has no such way to draw shots here. "
                f"Choose one of {', '.join(methods)}."
            )
        devices = AerSimulator().available_devices()
        if self.device not in devices:
            raise ValueError(
                f"Cannot simulate on {self.device!r}: Aer was built for {', '.join(devices)} "
                "alone, or finds no such device. Use device='CPU', or install qiskit-aer-gpu on "
                "a machine with a GPU."
            )

    def sampler(self) -> BaseSamplerV2:
        """Build the sampler; see `Sampling.sampler`."""
        from qiskit_aer import AerSimulator

        options: dict[str, Any] = {"method": self.method, "device": self.device}
        device = None if self.noise is None else self.noise.device()
        noise = None if self.noise is None else self.noise.build()
        if noise is not None:
            options["noise_model"] = noise
        simulator = AerSimulator(**options)
        passes = generate_preset_pass_manager(
            optimization_level=0 if device is None else 1,
            backend=simulator if device is None else device,
            seed_transpiler=0,
        )
        return TranspilingSampler(KeyedAerSampler(simulator, self.shots, noise), passes)

    def check_size(self, num_qubits: int) -> None:
        """Refuse circuits larger than the noisy device; see `Sampling.check_size`."""
        device = None if self.noise is None else self.noise.device()
        if device is not None and device.num_qubits < num_qubits:
            raise ValueError(
                f"Cannot run a circuit of {num_qubits} qubits on a device of {device.num_qubits}: "
                "it has no place for all of them. Take the noise of a larger device."
            )

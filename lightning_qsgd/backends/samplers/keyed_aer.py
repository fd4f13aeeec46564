"""Aer's sampler, with the shots of each circuit a pure function of its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_qsgd.backends.keyed_sampler import KeyedSampler
from lightning_qsgd.backends.samplers.noise import noise_on

if TYPE_CHECKING:
    from qiskit_aer.noise import NoiseModel


class KeyedAerSampler(KeyedSampler):
    """Runs each circuit by itself on Aer, seeded with its key.

    In a batch, Aer gives each circuit the seed of the batch plus its position, so its shots would
    depend on the tensors before it. A run of one circuit costs about 1 ms, as in a `SamplerQNN`
    anyway; it works with all methods, where drawing from exact probabilities would need a density
    matrix of 4^n entries for noise.

    Each run is given the noise of its own qubits alone: reading that of a device with 127 qubits
    takes Aer more than a second, every time.

    Args:
        simulator: An `AerSimulator`.
        shots: Number of shots per circuit, at least 1.
        noise: What goes wrong on the way; None for nothing.
    """

    def __init__(self, simulator: Any, shots: int, noise: NoiseModel | None = None) -> None:
        super().__init__(shots)
        self.simulator = simulator
        self.noise = noise
        self._noise_on: dict[frozenset[int], NoiseModel] = {}

    def _draw(self, circuit: Any, shots: int, key: int) -> dict[int, int]:
        # What Aer's SamplerV2 does as well, without a list of every single shot.
        seed = key >> 1  # Aer's seeds have 63 bits
        options = {} if self.noise is None else {"noise_model": self._noise_of(circuit)}
        job = self.simulator.run(circuit, shots=shots, seed_simulator=seed, **options)
        result = job.result()
        if not result.success:
            raise RuntimeError(
                f"Aer failed: {result.results[0].status if result.results else result.status}. "
                "Choose a method that knows the gates of the circuit, or fewer qubits."
            )
        return {int(outcome, 16): count for outcome, count in result.data(0)["counts"].items()}

    def _noise_of(self, circuit: Any) -> NoiseModel:
        acted = (qubit for instruction in circuit.data for qubit in instruction.qubits)
        qubits = frozenset(circuit.find_bit(qubit).index for qubit in acted)
        if qubits not in self._noise_on:
            self._noise_on[qubits] = noise_on(qubits, self.noise)
        return self._noise_on[qubits]

"""Aer's sampler, with the shots of each circuit a pure function of its key."""

from typing import Any

from qiskit.primitives import BitArray

from lightning_qsgd.backends.keyed_sampler import KeyedSampler


class KeyedAerSampler(KeyedSampler):
    """Runs each circuit by itself on Aer, seeded with its key.

    In a batch, Aer gives each circuit the seed of the batch plus its position, so its shots would
    depend on the tensors before it. A run of one circuit costs about 1 ms, as in a `SamplerQNN`
    anyway; it works with all methods, where drawing from exact probabilities would need a density
    matrix of 4^n entries for noise.

    Args:
        simulator: An `AerSimulator`.
        shots: Number of shots per circuit, at least 1.
    """

    def __init__(self, simulator: Any, shots: int) -> None:
        super().__init__(shots)
        self.simulator = simulator

    def _draw(self, circuit: object, shots: int, key: int) -> BitArray:
        # What Aer's SamplerV2 does as well, without a list of every single shot.
        seed = key >> 1  # Aer's seeds have 63 bits
        result = self.simulator.run(circuit, shots=shots, seed_simulator=seed).result()
        if not result.success:
            raise RuntimeError(
                f"Aer failed: {result.results[0].status if result.results else result.status}. "
                "Choose a method that knows the gates of the circuit, or fewer qubits."
            )
        counts = {int(outcome, 16): count for outcome, count in result.data(0)["counts"].items()}
        return BitArray.from_counts(counts, num_bits=circuit.num_clbits)  # type: ignore[attr-defined]

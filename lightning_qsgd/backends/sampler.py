"""The reference backend: qiskit-machine-learning's SamplerQNN."""

from dataclasses import dataclass
from functools import lru_cache
from math import pi

import numpy as np
import torch
from qiskit_machine_learning.neural_networks import SamplerQNN
from torch import Tensor

from lightning_qsgd.backends.backend import Backend
from lightning_qsgd.backends.keyed_sampler import KeyedSampler
from lightning_qsgd.circuits import PerturbationCircuit, superposition_circuit
from lightning_qsgd.circuits.entanglement import Entanglement

MEMORY_LIMIT_GIB = 4
BYTES_PER_OUTCOME = 2048
"""Peak of SamplerQNN's exact sampler per (circuit, outcome): 0.5 GB for 4 circuits of 16 qubits."""


@dataclass(frozen=True)
class SamplerBackend(Backend):
    """Evaluates the paper's circuit with a `SamplerQNN`, exactly or with shots.

    Args:
        num_qubits: Number of qubits n, which is the number of coordinates in a block.
        reps: Number of layers (the paper's circuit depth).
        entanglement: Layout of the CNOTs: ``"none"``, ``"linear"``, ``"circular"`` or ``"full"``.
        shots: Shots per circuit; None evaluates the probabilities exactly.
        weight_seed: None sets the circuit's own weights to zero; an integer draws them once,
            uniformly from [-pi, pi), in radians.

    Raises:
        ValueError: If an argument is out of range, or 2^n outcomes do not fit into memory.

    Example:
        >>> backend = SamplerBackend(num_qubits=2, reps=1, entanglement="none")
        >>> backend.readout(torch.tensor([[0.5, 0.25]]))
        tensor([[1.0000, 0.7071]])
    """

    num_qubits: int = 4
    reps: int = 2
    entanglement: Entanglement = "linear"
    shots: int | None = None
    weight_seed: int | None = None

    def __post_init__(self) -> None:
        if self.shots is not None and self.shots < 1:
            raise ValueError(
                f"Expected `shots` to be at least 1, got {self.shots}: no shot would be drawn. "
                "Use None for exact probabilities."
            )
        if self.weight_seed is not None and self.weight_seed < 0:
            raise ValueError(
                f"Expected `weight_seed` to be non-negative, got {self.weight_seed}: numpy takes "
                "no negative seed. Use 0 or more, or None for zero weights."
            )
        self.check_capacity(1)
        self.describe()

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether shots are drawn."""
        return self.shots is not None

    def describe(self) -> PerturbationCircuit:
        """Return the circuit that is evaluated."""
        return _circuit(self.num_qubits, self.reps, self.entanglement)

    def weights(self) -> np.ndarray:
        """Return the circuit's own weights in radians, shape (2 * reps * num_qubits,)."""
        count = len(self.describe().weights)
        if self.weight_seed is None:
            return np.zeros(count)
        return np.random.default_rng(self.weight_seed).uniform(-pi, pi, count)

    def check_capacity(self, num_blocks: int) -> None:
        """Refuse circuits whose outcomes do not fit into memory; see `Backend.check_capacity`."""
        needed = num_blocks * 2 ** max(self.num_qubits, 0) * BYTES_PER_OUTCOME // 2**30
        if needed > MEMORY_LIMIT_GIB:
            raise ValueError(
                f"Cannot evaluate {num_blocks} circuit(s) of {self.num_qubits} qubits: their "
                f"2^{self.num_qubits} outcomes each would take about {needed:,} GiB, over the "
                f"limit of {MEMORY_LIMIT_GIB} GiB. Use fewer qubits or perturb fewer coordinates."
            )

    def readout(self, inputs: Tensor, keys: np.ndarray | None = None) -> Tensor:
        """Run all circuits in one call of the SamplerQNN; see `Backend.readout`."""
        self.check_capacity(len(inputs))
        network = _network(self.num_qubits, self.reps, self.entanglement, self.shots)
        if isinstance(network.sampler, KeyedSampler):
            if keys is None:
                raise ValueError(
                    "Got no `keys` although `shots` is set: each circuit draws its shots from a "
                    "key of its own. Pass one uint64 per row of `inputs`."
                )
            network.sampler.keys = keys
        angles = inputs.detach().cpu().double().numpy()  # in this order: MPS has no float64
        probabilities = np.asarray(network.forward(angles, self.weights()))
        u = probabilities @ _readout_signs(self.num_qubits)
        return torch.from_numpy(u).clamp_(-1.0, 1.0).to(inputs.dtype).to(inputs.device)


def identity(outcome: int) -> int:
    """Interpret a measured integer as itself; at module level, so that the network pickles."""
    return outcome


@lru_cache(maxsize=32)
def _circuit(num_qubits: int, reps: int, entanglement: Entanglement) -> PerturbationCircuit:
    return superposition_circuit(num_qubits, reps, entanglement)


@lru_cache(maxsize=32)
def _network(
    num_qubits: int, reps: int, entanglement: Entanglement, shots: int | None
) -> SamplerQNN:
    built = _circuit(num_qubits, reps, entanglement)
    return SamplerQNN(
        circuit=built.circuit,
        sampler=None if shots is None else KeyedSampler(shots),
        input_params=built.inputs,
        weight_params=built.weights,
        interpret=identity,
        output_shape=2**num_qubits,
    )


@lru_cache(maxsize=32)
def _readout_signs(num_qubits: int) -> np.ndarray:
    """Return +1 where the qubit's bit is 1 and -1 where it is 0, shape (2^n, n)."""
    outcomes = np.arange(2**num_qubits)[:, None]
    return np.where((outcomes >> np.arange(num_qubits)) & 1, 1.0, -1.0)

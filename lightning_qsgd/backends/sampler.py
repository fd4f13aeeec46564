"""The reference backend: qiskit-machine-learning's SamplerQNN."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from qiskit_machine_learning.neural_networks import SamplerQNN
from torch import Tensor

from lightning_qsgd.backends.circuit_backend import CircuitBackend
from lightning_qsgd.backends.keyed_sampler import KeyedSampler
from lightning_qsgd.circuits import ParametrizedCircuit

MEMORY_LIMIT_GIB = 4
BYTES_PER_OUTCOME = 2048
"""Peak of SamplerQNN's exact sampler per (circuit, outcome): 0.5 GB for 4 circuits of 16 qubits."""


@dataclass(frozen=True)
class SamplerBackend(CircuitBackend):
    """Evaluates a circuit with a `SamplerQNN`, exactly or with shots.

    Args:
        circuit: What is evaluated; the paper's circuit of 4 qubits and 2 layers by default.
        weight_seed: None sets the circuit's own weights to zero; an integer draws them once,
            uniformly from [-pi, pi), in radians.
        shots: Shots per circuit; None evaluates the probabilities exactly.

    Raises:
        ValueError: If an argument is out of range, or 2^n outcomes do not fit into memory.

    Example:
        >>> backend = SamplerBackend(SuperpositionCircuit(2, reps=1, entanglement="none"))
        >>> backend.readout(torch.tensor([[0.5, 0.25]]))
        tensor([[1.0000, 0.7071]])
    """

    shots: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shots is not None and self.shots < 1:
            raise ValueError(
                f"Expected `shots` to be at least 1, got {self.shots}: no shot would be drawn. "
                "Use None for exact probabilities."
            )
        self.check_capacity(1)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether shots are drawn."""
        return self.shots is not None

    def check_capacity(self, num_blocks: int) -> None:
        """Refuse circuits whose outcomes do not fit into memory; see `Backend.check_capacity`."""
        num_qubits = self.describe().num_qubits
        needed = num_blocks * 2**num_qubits * BYTES_PER_OUTCOME // 2**30
        if needed > MEMORY_LIMIT_GIB:
            raise ValueError(
                f"Cannot evaluate {num_blocks} circuit(s) of {num_qubits} qubits: their "
                f"2^{num_qubits} outcomes each would take about {needed:,} GiB, over the "
                f"limit of {MEMORY_LIMIT_GIB} GiB. Use fewer qubits or perturb fewer coordinates."
            )

    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Run all circuits in one call of the SamplerQNN; see `Backend.readout`."""
        self.check_capacity(len(inputs))
        network = _network(self.describe(), self.shots)
        if isinstance(network.sampler, KeyedSampler):
            if keys is None:
                raise ValueError(
                    "Got no `keys` although `shots` is set: each circuit draws its shots from a "
                    "key of its own. Pass one uint64 per row of `inputs`."
                )
            network.sampler.keys = keys
        angles = inputs.detach().cpu().double().numpy()  # in this order: MPS has no float64
        own = self.initial_weights() if weights is None else weights.detach().cpu().double()
        probabilities = np.asarray(network.forward(angles, own.numpy()))
        u = (probabilities @ _readout_signs(self.describe().num_qubits))[:, : self.num_qubits]
        return torch.from_numpy(u).clamp_(-1.0, 1.0).to(inputs.dtype).to(inputs.device)


def identity(outcome: int) -> int:
    """Interpret a measured integer as itself; at module level, so that the network pickles."""
    return outcome


@lru_cache(maxsize=32)
def _network(built: ParametrizedCircuit, shots: int | None) -> SamplerQNN:
    return SamplerQNN(
        circuit=built.circuit,
        sampler=None if shots is None else KeyedSampler(shots),
        input_params=built.inputs,
        weight_params=built.weights,
        interpret=identity,
        output_shape=2**built.num_qubits,
    )


@lru_cache(maxsize=32)
def _readout_signs(num_qubits: int) -> np.ndarray:
    """Return +1 where the qubit's bit is 1 and -1 where it is 0, shape (2^n, n)."""
    outcomes = np.arange(2**num_qubits)[:, None]
    return np.where((outcomes >> np.arange(num_qubits)) & 1, 1.0, -1.0)

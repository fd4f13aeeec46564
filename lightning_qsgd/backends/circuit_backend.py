"""What backends that evaluate a circuit have in common: the circuit and its weights."""

from dataclasses import dataclass, field
from functools import lru_cache
from math import pi

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.backends.backend import Backend
from lightning_qsgd.circuits import CircuitSource, ParametrizedCircuit, SuperpositionCircuit


@dataclass(frozen=True)
class CircuitBackend(Backend):
    """Evaluates a circuit of any source; the base of the backends that do.

    Entry i of a block is the circuit's i-th input, and its readout is qubit i's P(1) - P(0):
    a circuit may have more qubits than inputs, but not fewer.

    Args:
        circuit: What is evaluated.
        weight_seed: None sets the circuit's own weights to zero; an integer draws them once,
            uniformly from [-pi, pi), in radians.

    Raises:
        TypeError: If `circuit` is no source of circuits.
        ValueError: If the circuit has no inputs or fewer qubits than inputs, or the seed is
            negative.
    """

    circuit: CircuitSource = field(default_factory=SuperpositionCircuit)
    weight_seed: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.circuit, CircuitSource):
            raise TypeError(
                f"Expected `circuit` to be a CircuitSource, got {type(self.circuit).__name__}: "
                "the backend must know which parameters are inputs. Wrap a QuantumCircuit as "
                "ParametrizedCircuit(circuit, inputs, weights)."
            )
        if self.weight_seed is not None and self.weight_seed < 0:
            raise ValueError(
                f"Expected `weight_seed` to be non-negative, got {self.weight_seed}: numpy takes "
                "no negative seed. Use 0 or more, or None for zero weights."
            )
        built = self.describe()
        if not 1 <= len(built.inputs) <= built.num_qubits:
            raise ValueError(
                f"Cannot perturb with a circuit of {len(built.inputs)} inputs and "
                f"{built.num_qubits} qubits: qubit i is read out for input i. Give it at least "
                "one input, and a qubit for each."
            )

    @property
    def num_qubits(self) -> int:  # type: ignore[override]
        """Number of entries in a block: the inputs of the circuit, each read from its qubit."""
        return len(self.describe().inputs)

    def describe(self) -> ParametrizedCircuit:
        """Return the circuit that is evaluated."""
        return _built(self.circuit)

    def initial_weights(self) -> Tensor:
        """Return the circuit's own weights; see `Backend.initial_weights`."""
        count = len(self.describe().weights)
        if self.weight_seed is None:
            return torch.zeros(count, dtype=torch.float64)
        drawn = np.random.default_rng(self.weight_seed).uniform(-pi, pi, count)
        return torch.from_numpy(drawn)


@lru_cache(maxsize=32)
def _built(source: CircuitSource) -> ParametrizedCircuit:
    return source.build()

"""The closed form of the unentangled one-layer circuit."""

from dataclasses import dataclass
from math import pi

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends.backend import Backend
from lightning_qsgd.circuits import ParametrizedCircuit, superposition_circuit


@dataclass(frozen=True)
class SineBackend(Backend):
    """Evaluates ``u = sin(pi * theta)``, the readout of Eq. 2.

    For ``Ry(pi * theta) H |0>`` the readout P(1) - P(0) equals ``sin(pi * theta)`` exactly, so no
    circuit needs to be simulated; the tests hold this against `SamplerQNN` to 1e-10.

    Args:
        num_qubits: Number of coordinates in a block, at least 1. Without entanglement it changes
            no value: it only says how many entries "the first n" are.

    Raises:
        ValueError: If `num_qubits` is below 1.

    Example:
        >>> SineBackend().readout(torch.tensor([[0.5, 0.0, -0.5, 0.25]]))
        tensor([[ 1.0000,  0.0000, -1.0000,  0.7071]])

    References:
        arXiv:2511.01918, Eq. 2.
    """

    num_qubits: int = 4

    separable = True

    def __post_init__(self) -> None:
        if self.num_qubits < 1:
            raise ValueError(
                f"Expected `num_qubits` to be at least 1, got {self.num_qubits}: no coordinate "
                "would be perturbed. The paper uses 4."
            )

    @override
    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        return torch.mul(inputs, pi).sin_()

    def describe(self) -> ParametrizedCircuit:
        """Return the unentangled one-layer circuit, whose readout the sine is."""
        return superposition_circuit(self.num_qubits, reps=1, entanglement="none")

    def circuits_for(self, num_blocks: int) -> int:
        """Return 0: the closed form evaluates no circuit."""
        return 0

"""Closed forms: the unentangled one-layer circuit, and classical twins without a circuit."""

from abc import abstractmethod
from dataclasses import dataclass
from math import isfinite, pi

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends.backend import Backend
from lightning_qsgd.circuits import ParametrizedCircuit, superposition_circuit

MOST_ENTRIES = 2**24


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
    bounded = True

    def __post_init__(self) -> None:
        if self.num_qubits > MOST_ENTRIES:
            raise ValueError(
                f"Expected `num_qubits` to be at most {MOST_ENTRIES}, got {self.num_qubits}: every "
                "block of entries is filled up to that length. Use fewer."
            )
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


def sine_(theta: Tensor) -> Tensor:
    """Return what `SineBackend` reads of parameters, shape (entries,), written over them.

    Where theta is not finite the sine is none either.
    """
    return theta.mul_(pi).sin_()


@dataclass(frozen=True)
class LinearBackend(Backend):
    """Evaluates ``u = factor * x``: what is left of a circuit when the circuit is left out.

    The classical twin of a circuit that reads a feature: the same feature, with the simplest
    function in place of the readout. Values beyond [-1, 1] are cut off.

    Args:
        factor: Readout per unit of the feature, finite.

    Raises:
        ValueError: If `factor` is not finite.

    Example:
        >>> LinearBackend(factor=-1.0).readout(torch.tensor([[0.5], [2.0]]))
        tensor([[-0.5000],
                [-1.0000]])
    """

    factor: float = 1.0

    num_qubits = 1
    separable = True
    bounded = True

    def __post_init__(self) -> None:
        if not isfinite(self.factor):
            raise ValueError(
                f"Expected `factor` to be finite, got {self.factor}: it multiplies the feature. "
                "Use 1, or -1 for a readout that falls."
            )

    @override
    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        return torch.mul(inputs, self.factor).clamp_(-1.0, 1.0)

    @override
    def circuits_for(self, num_blocks: int) -> int:
        return 0


@dataclass(frozen=True)
class ClassicalTwin(Backend):
    """Reads each feature out by itself; the base of the twins.

    Args:
        num_qubits: How many entries "the first n" are, at least 1; it changes no value.

    Raises:
        ValueError: If `num_qubits` is below 1.
    """

    num_qubits: int = 4

    separable = True

    def __post_init__(self) -> None:
        if self.num_qubits < 1:
            raise ValueError(
                f"Expected `num_qubits` to be at least 1, got {self.num_qubits}: no coordinate "
                "would be perturbed. Leave it out for 4."
            )

    @override
    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        return self.of_features(inputs * 2)  # a circuit is given half of each feature

    @abstractmethod
    def of_features(self, features: Tensor) -> Tensor:
        """Return u of features, of any shape."""

    @override
    def circuits_for(self, num_blocks: int) -> int:
        return 0


@dataclass(frozen=True)
class CautiousTwin(ClassicalTwin):
    """Switches off, u = -1, what is not positive: the mask of cautious optimizers.

    With the `Alignment` feature, strength 1 and `RenormalisedInjection`, only those entries move
    whose step goes down the gradient.

    Example:
        >>> CautiousTwin().readout(torch.tensor([[0.25, 0.0, -0.5]]))
        tensor([[ 0., -1., -1.]])

    References:
        Liang et al. 2024, Cautious optimizers: improving training with one line of code,
        arXiv:2411.16085.
    """

    @override
    def of_features(self, features: Tensor) -> Tensor:
        return (features > 0).to(features) - 1.0 + features * 0.0  # NaN stays NaN


@dataclass(frozen=True)
class LazyTwin(ClassicalTwin):
    """Switches off, u = -1, what is 0.

    With the `Gradient` feature, strength 1 and `RelativeInjection`, entries without a gradient do
    not move.

    Example:
        >>> LazyTwin().readout(torch.tensor([[0.25, 0.0, -0.5]]))
        tensor([[ 0., -1.,  0.]])
    """

    @override
    def of_features(self, features: Tensor) -> Tensor:
        return (features != 0).to(features) - 1.0 + features * 0.0

"""Classical twins that switch entries off: masks of a feature. `LinearBackend` is another twin."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends.backend import Backend


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

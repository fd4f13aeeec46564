"""Small differentiable backends, and problems on which a perturbation helps or hurts."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.backends import Backend
from tests.cases import Problem


@dataclass(frozen=True)
class TurnedSine(Backend):
    """u_i = sin(pi theta_i + w_i): one weight per qubit, no entanglement."""

    num_qubits: int = 2
    start: float = 0.3

    def initial_weights(self) -> Tensor:
        return torch.full((self.num_qubits,), self.start, dtype=torch.float64)

    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        own = self.initial_weights() if weights is None else weights
        return torch.sin(torch.pi * inputs + own.to(inputs))


@dataclass(frozen=True)
class Entangled(TurnedSine):
    """Every readout depends on every input and weight of its block."""

    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        turned = super().readout(inputs, keys, weights)
        return turned * torch.cos(inputs.sum(-1, keepdim=True) + turned.sum(-1, keepdim=True))


@dataclass(frozen=True)
class Noisy(Entangled):
    """Its readout depends on the keys, as shots do."""

    stochastic = True

    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        assert keys is not None
        noise = torch.tensor([float(key % np.uint64(1000)) / 1000 for key in keys])
        return super().readout(inputs, keys, weights) * noise.to(inputs)[:, None]


def entangled_readout(block: list[float], weights: list[float]) -> list[float]:
    """`Entangled` in plain loops."""
    turned = [float(np.sin(np.pi * t + w)) for t, w in zip(block, weights, strict=True)]
    return [float(value * np.cos(sum(block) + sum(turned))) for value in turned]


def quadratic(theta: list[list[float]], curvature: float = 1.0, target: float = 0.0) -> Problem:
    """Curvature / 2 times the squared distance to the target, over tensors of given entries."""
    parameters = [torch.nn.Parameter(torch.tensor(t, dtype=torch.float64)) for t in theta]
    return Problem(
        parameters,
        lambda values: sum(0.5 * curvature * ((p - target) ** 2).sum() for p in values),  # type: ignore[arg-type,return-value]
    )


def train(problem: Problem, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        problem.backward()
        optimizer.step()

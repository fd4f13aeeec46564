"""One way to get probabilities, whatever a circuit was given as."""

from __future__ import annotations

from math import prod
from typing import Protocol, TypeAlias

import numpy as np
from qiskit_machine_learning.neural_networks import SamplerQNN
from torch import Tensor

from lightning_qsgd.backends.circuit_backend import CircuitBackend
from lightning_qsgd.backends.compiled_backend import CompiledBackend
from lightning_qsgd.backends.engines import circuit_of, engine_of
from lightning_qsgd.circuits import CircuitSource, ParametrizedCircuit

RunnerSource: TypeAlias = CircuitBackend | CircuitSource | SamplerQNN
"""A backend, which says how; a circuit, which is compiled; or a network with its own sampler."""


class CircuitRunner(Protocol):
    """Evaluates the probabilities of a circuit's outcomes for a batch of inputs."""

    @property
    def stochastic(self) -> bool:
        """Whether shots are drawn from keys."""

    @property
    def num_outcomes(self) -> int:
        """Number of outcomes of one circuit."""

    def describe(self) -> ParametrizedCircuit:
        """Return the circuit."""

    def probabilities(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return shape (M, num_outcomes); see `CircuitBackend.probabilities`."""


class NetworkRunner:
    """Runs a `SamplerQNN`: compiled where it samples exactly, else on its own sampler.

    Args:
        network: The network.
    """

    stochastic = False

    def __init__(self, network: SamplerQNN) -> None:
        self._engine = engine_of(network, "auto")
        self._circuit = circuit_of(network)

    @property
    def num_outcomes(self) -> int:
        """Number of outputs of the network."""
        return prod(self._engine.output_shape)

    def describe(self) -> ParametrizedCircuit:
        """Return the network's circuit."""
        return self._circuit

    def probabilities(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Evaluate the network; see `CircuitRunner.probabilities`."""
        own = inputs.new_zeros(0) if weights is None else weights
        return self._engine.outputs(inputs, own).flatten(1).to(inputs.dtype)


def runner_of(source: RunnerSource) -> CircuitRunner:
    """Choose what runs a circuit: exactly and compiled, unless the source says how.

    Raises:
        TypeError: If it is none of the three.
        ValueError: If a gate of a circuit that is to be compiled cannot be.
    """
    if isinstance(source, CircuitBackend):
        return source
    if isinstance(source, CircuitSource):
        return CompiledBackend(source)
    if isinstance(source, SamplerQNN):
        return NetworkRunner(source)
    raise TypeError(
        f"Expected a circuit, a backend or a SamplerQNN, got {type(source).__name__}: inputs and "
        "weights must be told apart. Wrap a QuantumCircuit as ParametrizedCircuit(circuit, inputs, "
        "weights)."
    )

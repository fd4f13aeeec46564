"""A ready SamplerQNN, run as it is: its sampler, its shots, its gradient."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import torch
from qiskit_machine_learning.neural_networks import SamplerQNN
from qiskit_machine_learning.primitives import QMLSampler
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends.circuit_backend import CircuitBackend
from lightning_qsgd.backends.compiled.derivatives import Plain
from lightning_qsgd.backends.compiled_backend import exact_twin
from lightning_qsgd.backends.evaluation import Evaluation
from lightning_qsgd.backends.failures import RaiseOnFailure
from lightning_qsgd.backends.keyed_sampler import bind
from lightning_qsgd.backends.network_call import NetworkCalls
from lightning_qsgd.backends.plugins import VectorizedSampler
from lightning_qsgd.backends.sampler_autograd import sampler_forward
from lightning_qsgd.backends.sampler_backend import identity, readout_signs
from lightning_qsgd.circuits import ParametrizedCircuit


class NetworkBackend(CircuitBackend):
    """Evaluates a `SamplerQNN` with its own sampler, which draws shots as it likes.

    Args:
        network: A dense network. It is pickled without its default `interpret`, a lambda.

    Raises:
        TypeError: If it is no `SamplerQNN`.

    Example:
        >>> from lightning_qsgd.circuits import superposition_circuit
        >>> built = superposition_circuit(num_qubits=1, reps=1)
        >>> backend = NetworkBackend(
        ...     SamplerQNN(
        ...         circuit=built.circuit, input_params=built.inputs, weight_params=built.weights
        ...     )
        ... )
        >>> backend.probabilities(torch.tensor([[0.5]]))
        tensor([[0., 1.]])
    """

    network: SamplerQNN

    def __init__(self, network: SamplerQNN) -> None:
        if not isinstance(network, SamplerQNN):
            raise TypeError(
                f"Expected `network` to be a SamplerQNN, got {type(network).__name__}: its circuit "
                "and sampler are run. Pass a circuit to CompiledBackend or SamplerBackend."
            )
        super().__init__(ParametrizedCircuit.of_network(network))
        object.__setattr__(self, "network", network)

    @override
    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        self.check_blocks()
        num_qubits = self.describe().num_qubits
        signs = torch.from_numpy(readout_signs(num_qubits)).to(inputs)
        # Replicas perturb alike only if one of them draws the shots.
        evaluation = Evaluation()
        calls = NetworkCalls(evaluation, RaiseOnFailure(), None, not samples_exactly(self.network))
        own = self._own(weights, inputs)
        bound = bind(self.network, evaluation)
        found = sampler_forward(bound, inputs, own, calls, self._exact)
        return (found @ signs)[:, : self.num_qubits].clamp(-1.0, 1.0)

    @override
    def probabilities(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        own = self._own(weights, inputs)
        return sampler_forward(self.network, inputs, own, exact=self._exact)

    @override
    def check_blocks(self) -> None:
        super().check_blocks()
        built = self.describe()
        if built.interpret is not None or self.output_shape != (2**built.num_qubits,):
            raise ValueError(
                f"Cannot read {built.num_qubits} qubits from a SamplerQNN with outputs of shape "
                f"{self.output_shape}: a perturbation needs the probabilities of all outcomes. "
                "Build the network without `interpret`."
            )

    @property
    def _exact(self) -> Plain | None:
        return exact_twin(self.describe()) if samples_exactly(self.network) else None

    def _own(self, weights: Tensor | None, inputs: Tensor) -> Tensor:
        own = self.initial_weights().to(inputs.device) if weights is None else weights
        self.check_arguments(inputs, own)
        return own

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"network": _without_lambda(self.network)}


def samples_exactly(network: SamplerQNN) -> bool:
    """Whether a network's sampler gives exact probabilities, as a compiled circuit does."""
    sampler = network.sampler
    if isinstance(sampler, VectorizedSampler):
        return sampler.shots is None
    return type(sampler) is QMLSampler and sampler._exact_mode


def _without_lambda(network: SamplerQNN) -> SamplerQNN:
    """Replace the default interpret function, which pickle cannot store, by one with a name."""
    if ParametrizedCircuit.of_network(network).interpret is not None:
        return network
    copied = copy(network)
    copied.set_interpret(identity, tuple(network.output_shape))
    return copied

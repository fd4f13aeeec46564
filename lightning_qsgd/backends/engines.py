"""What evaluates the circuit of a layer: the compiled state vector, or a SamplerQNN."""

from __future__ import annotations

import warnings
from copy import copy
from typing import Any, Literal, Protocol, TypeAlias, get_args

from qiskit_machine_learning.neural_networks import SamplerQNN
from qiskit_machine_learning.primitives import QMLSampler
from torch import Tensor

from lightning_qsgd.backends.compiled import CannotCompile, CompiledCircuit
from lightning_qsgd.backends.plugins import VectorizedSampler
from lightning_qsgd.backends.sampler_autograd import sampler_forward
from lightning_qsgd.circuits import CircuitSource, ParametrizedCircuit

EngineName = Literal["auto", "compiled", "sampler"]
LayerSource: TypeAlias = SamplerQNN | CircuitSource


class Engine(Protocol):
    """Evaluates a circuit for a batch, with gradients for inputs and weights."""

    num_inputs: int
    num_weights: int
    output_shape: tuple[int, ...]

    def outputs(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return the probabilities of the outputs.

        Args:
            inputs: Shape (B, num_inputs).
            weights: Shape (num_weights,), in radians.

        Returns:
            Shape (B, *output_shape).
        """


class SamplerEngine:
    """Runs a `SamplerQNN` as it is: its sampler, its shots, its gradient.

    Args:
        network: The network. It is pickled without its default `interpret`, a lambda.
    """

    def __init__(self, network: SamplerQNN) -> None:
        self.network = network
        self.num_inputs = int(network.num_inputs)
        self.num_weights = int(network.num_weights)
        self.output_shape = tuple(network.output_shape)

    def outputs(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Evaluate the network; see `Engine.outputs`."""
        return sampler_forward(self.network, inputs, weights)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"network": _without_lambda(self.network)}


def engine_of(source: LayerSource, name: EngineName, **settings: Any) -> Engine:
    """Choose what evaluates a circuit.

    "auto" compiles a circuit wherever that changes no number: where the network samples exactly and
    all its gates are known. A network with shots, noise or hardware stays with its own sampler. The
    one exception are networks that measure into a register which is not called ``meas``: there
    SamplerQNN 0.9 mixes the rows of a batch, and the compiled circuit does not.

    Args:
        source: A network, or a circuit with roles.
        name: "auto", "compiled" or "sampler".
        settings: `memory_limit_gib` and `torch_compile` of a `CompiledCircuit`.

    Raises:
        TypeError: If the source is neither.
        ValueError: If the name is unknown, or a gate of a circuit that must be compiled cannot be.
    """
    if name not in get_args(EngineName):
        raise ValueError(
            f"Unknown engine {name!r}: nothing evaluates the circuit. Choose one of "
            f"{', '.join(get_args(EngineName))}."
        )
    if not isinstance(source, SamplerQNN | CircuitSource):
        raise TypeError(
            f"Expected a SamplerQNN or a CircuitSource, got {type(source).__name__}: inputs and "
            "weights must be told apart. Wrap a QuantumCircuit as ParametrizedCircuit(circuit, "
            "inputs, weights)."
        )
    if name == "sampler" or (name == "auto" and not _samples_exactly(source)):
        return SamplerEngine(_network_of(source))
    try:
        return _compiled(source, settings)
    except CannotCompile as reason:
        if name == "compiled" or isinstance(source, CircuitSource):
            raise
        warnings.warn(f"{reason} It runs on its own sampler, which is slow.", stacklevel=3)
        return SamplerEngine(source)


def circuit_of(source: LayerSource) -> ParametrizedCircuit:
    """Return the circuit of a network or a source."""
    if isinstance(source, CircuitSource):
        return source.build()
    return ParametrizedCircuit.of_network(source)


def _compiled(source: LayerSource, settings: dict[str, Any]) -> CompiledCircuit:
    if isinstance(source, CircuitSource):
        return CompiledCircuit(source, **settings)
    return CompiledCircuit.of_network(source, **settings)


def _samples_exactly(source: LayerSource) -> bool:
    if isinstance(source, CircuitSource):
        return True
    sampler = source.sampler
    if isinstance(sampler, VectorizedSampler):
        return sampler.shots is None
    return type(sampler) is QMLSampler and sampler._exact_mode


def _network_of(source: LayerSource) -> SamplerQNN:
    if isinstance(source, SamplerQNN):
        return source
    built = source.build()
    return SamplerQNN(
        circuit=built.circuit,
        input_params=built.inputs,
        weight_params=built.weights,
        input_gradients=True,
    )


def _identity(outcome: int) -> int:
    return outcome


def _without_lambda(network: SamplerQNN) -> SamplerQNN:
    """Replace the default interpret function, which pickle cannot store, by one with a name."""
    default = getattr(network.interpret, "__qualname__", "") == _DEFAULT_INTERPRET
    if not default:
        return network
    copied = copy(network)
    copied.set_interpret(_identity, tuple(network.output_shape))
    return copied


_DEFAULT_INTERPRET = "SamplerQNN.set_interpret.<locals>.<lambda>"

"""One way from whatever a circuit was given as to what evaluates it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import copy
from functools import partial
from numbers import Integral
from operator import is_
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from qiskit.circuit import QuantumCircuit
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import EstimatorQNN, SamplerQNN
from qiskit_machine_learning.primitives import QMLEstimator, QMLSampler
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends.backend import Backend
from lightning_qsgd.backends.circuit_backend import CircuitBackend
from lightning_qsgd.backends.compiled import CannotCompile
from lightning_qsgd.backends.compiled.derivatives import Plain
from lightning_qsgd.backends.compiled_backend import CompiledBackend, exact_twin
from lightning_qsgd.backends.evaluation import Evaluation
from lightning_qsgd.backends.failures import RaiseOnFailure
from lightning_qsgd.backends.keyed_sampler import bind, in_rows
from lightning_qsgd.backends.network_call import SUM_TOLERANCE, NetworkCalls
from lightning_qsgd.backends.plugins import VectorizedSampler
from lightning_qsgd.backends.sampler_autograd import Evaluate, sampler_forward
from lightning_qsgd.backends.sampler_backend import SamplerBackend, identity, readout_signs
from lightning_qsgd.backends.samplers.aer import (
    passes_in_place,
    prepared_for_aer,
    transpile_in_sampler,
)
from lightning_qsgd.backends.samplers.sampling import check_sampler
from lightning_qsgd.circuits import CircuitSource, ParametrizedCircuit
from lightning_qsgd.circuits.expansion import expanded
from lightning_qsgd.circuits.measurements import (
    CannotReadOut,
    places_of,
    read_as_written,
    unitary_part,
)

Network: TypeAlias = SamplerQNN | EstimatorQNN
BackendSource: TypeAlias = Backend | CircuitSource | Network
"""A backend, which says how a circuit is evaluated; a circuit, which is compiled; or a network."""

EngineName = Literal["auto", "compiled", "sampler"]


def backend_of(source: BackendSource, engine: EngineName = "auto", **settings: Any) -> Backend:
    """Choose what evaluates a circuit, for perturbations and layers alike.

    A backend is taken as it is. "auto" compiles a circuit wherever that changes no number: where a
    network samples exactly and all gates are known. A network with shots, noise or hardware stays
    with its own sampler. The exceptions are networks that SamplerQNN 0.9 evaluates wrongly: where
    a circuit measures into a register which is not called ``meas``, it mixes the rows of a batch,
    and where a gate has the name of another one, its gradient is that of the other.

    Args:
        source: A backend, a circuit with roles, or a network.
        engine: "auto", "compiled" or "sampler"; only "auto" with a backend.
        settings: `memory_limit_gib` and `torch_compile` of a `CompiledBackend`.

    Raises:
        TypeError: If the source is none of the three.
        ValueError: If the engine is unknown or contradicts a backend, a backend does not count its
            qubits or circuits, or a gate of a circuit that must be compiled cannot be.

    Example:
        >>> from lightning_qsgd.circuits import SuperpositionCircuit
        >>> type(backend_of(SuperpositionCircuit(2))).__name__
        'CompiledBackend'
    """
    if engine not in get_args(EngineName):
        raise ValueError(
            f"Unknown engine {engine!r}: nothing evaluates the circuit. Choose one of "
            f"{', '.join(get_args(EngineName))}."
        )
    if isinstance(source, Backend):
        if engine != "auto":
            raise ValueError(
                f"Got engine={engine!r} and a {type(source).__name__}: both say what evaluates the "
                "circuit. Leave the engine out, or give the circuit itself."
            )
        _check_counts(source)
        return source
    if isinstance(source, SamplerQNN | EstimatorQNN):
        return _of_network(source, engine, settings)
    if isinstance(source, CircuitSource):
        return (
            SamplerBackend(source) if engine == "sampler" else CompiledBackend(source, **settings)
        )
    raise TypeError(
        f"Expected a circuit, a backend, an EstimatorQNN or a SamplerQNN, got {_got(source)}"
    )


def _check_counts(backend: Backend) -> None:
    """Refuse a backend of the user's whose qubits or circuits are no counts."""
    name = type(backend).__name__
    num_qubits: Any = getattr(backend, "num_qubits", None)
    if type(num_qubits) is bool or not isinstance(num_qubits, Integral) or num_qubits < 1:
        raise ValueError(
            f"Expected `num_qubits` of {name} to be an integer of at least 1, got {num_qubits!r}: "
            "it says how many entries a circuit reads. Set it in the class, or take 1 where the "
            "readout of an entry depends on that entry only."
        )
    circuits: Any = backend.circuits_for(1)
    if not isinstance(circuits, Integral) or circuits < 0:
        raise ValueError(
            f"Expected `circuits_for` of {name} to return a count, got {circuits!r}: it says how "
            "many circuits an evaluation costs. Return 0 where none is evaluated, or leave the "
            "method out."
        )


def _got(source: object) -> str:
    """Name what was given, why it cannot be taken, and what to give."""
    if isinstance(source, type):
        return f"the class {source.__name__}: it has no settings yet. Pass an instance of it."
    if isinstance(source, TorchConnector):
        return "a TorchConnector: its network is what evaluates. Pass its `neural_network`."
    kind = type(source).__name__
    return (
        f"{kind}: inputs and weights must be told apart. Wrap a QuantumCircuit as "
        "ParametrizedCircuit(circuit, inputs, weights)."
    )


def layer_backend_of(
    source: BackendSource, engine: EngineName = "auto", **settings: Any
) -> CircuitBackend:
    """Choose what evaluates the circuit of a layer, which takes probabilities.

    Args:
        source: As for `backend_of`.
        engine: As for `backend_of`.
        settings: As for `backend_of`.

    Raises:
        TypeError: As for `backend_of`, and if a backend gives no probabilities.
        ValueError: As for `backend_of`, and if a backend may skip an evaluation.
    """
    backend = backend_of(source, engine, **settings)
    if not isinstance(backend, CircuitBackend):
        raise TypeError(
            f"Cannot build a layer on {type(backend).__name__}: it gives readouts of qubits and no "
            "probabilities of outcomes. Use a CompiledBackend or a SamplerBackend."
        )
    if backend.skips:
        raise ValueError(
            f"Cannot build a layer on a {type(backend).__name__} that skips failed steps: a "
            "network's output cannot be left out. Use RaiseOnFailure, alone or after "
            "RetryOnFailure."
        )
    return backend


def _of_network(network: Network, engine: EngineName, settings: dict[str, Any]) -> Backend:
    samples = engine == "sampler" or (engine == "auto" and not samples_exactly(network))
    backend = NetworkBackend(network) if samples else None
    built = backend.describe() if backend else ParametrizedCircuit.of_network(network)
    if built.synthesized:
        raise ValueError(
            f"Cannot run a {type(network).__name__} with {', '.join(built.synthesized)}: it takes "
            "the exact exponential and differentiates the product formula, which are two circuits. "
            "Give the circuit itself, as ParametrizedCircuit(circuit, inputs, weights), for the "
            "product formula in both."
        )
    if backend:
        return backend
    try:
        return CompiledBackend(built, **settings)
    except (CannotCompile, CannotReadOut) as reason:
        if engine == "compiled":
            raise
        backend = NetworkBackend(network)  # which says what such a sampler cannot run either
        warnings.warn(f"{reason} It runs on its own sampler, which is slow.", stacklevel=4)
        return backend


class NetworkBackend(CircuitBackend):
    """Evaluates a `SamplerQNN` with its own sampler, which draws shots as it likes.

    Rows of a batch are kept apart, whatever the circuit's classical registers are called. Several
    of them are read as one number, the first of them lowest. Outcomes and gradients of a
    transpiled circuit are those of the qubits as they were written.

    Args:
        network: A dense `SamplerQNN`, which is pickled without its default `interpret`, a lambda;
            or an `EstimatorQNN`.

    Raises:
        TypeError: If it is neither of the two.
        ValueError: If its circuit measures, branches or resets on the way, and its sampler draws
            from one state vector.

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

    network: Network

    def __init__(self, network: Network) -> None:
        if not isinstance(network, SamplerQNN | EstimatorQNN):
            raise TypeError(
                f"Expected `network` to be a SamplerQNN or an EstimatorQNN, got "
                f"{type(network).__name__}: its circuit is run on its own "
                "primitive. Pass a circuit to CompiledBackend or SamplerBackend."
            )
        super().__init__(ParametrizedCircuit.of_network(network))
        object.__setattr__(self, "network", network)
        primitive = network.sampler if isinstance(network, SamplerQNN) else network.estimator
        check_sampler(primitive, self.describe().circuit)

    @override
    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        self.check_blocks()
        num_qubits = self.describe().num_own_qubits
        signs = torch.from_numpy(readout_signs(num_qubits)).to(inputs)
        # Replicas perturb alike only if one of them draws the shots.
        evaluation = Evaluation()
        calls = NetworkCalls(evaluation, RaiseOnFailure(), None, not samples_exactly(self.network))
        own = self._own(weights, inputs)
        bound = bind(self._runnable[0], evaluation)
        found = sampler_forward(bound, inputs, own, calls, self._exact)
        return (found @ signs)[:, : self.num_qubits].clamp(-1.0, 1.0)

    @override
    def probabilities(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        own = self._own(weights, inputs)
        network, evaluate = self._runnable
        return sampler_forward(network, inputs, own, evaluate, self._exact)

    @property
    def _runnable(self) -> tuple[Network, Evaluate]:
        """The network with what `SamplerQNN` needs to be right, and what runs its jobs.

        Both are the same objects from call to call, which torch.jit.trace compares, unless
        something of the network has been exchanged.
        """
        parts = tuple(vars(self.network).values())
        known = self.__dict__.get(_READY)
        if known is None or not _same_objects(known[0], parts):
            known = parts, (_made_right(self.network), partial(_telling_losses, self.network))
            object.__setattr__(self, _READY, known)
        ready: tuple[Network, Evaluate] = known[1]
        return ready

    @override
    def check_blocks(self) -> None:
        super().check_blocks()
        if isinstance(self.network, EstimatorQNN):
            raise ValueError(
                "Cannot perturb with an EstimatorQNN that draws shots: replicas would drift apart. "
                "Give its circuit and observables to a CompiledBackend, as an ObservedCircuit."
            )
        built = self.describe()
        places = places_of(built.circuit)
        if built.interpret is not None or self.output_shape != (2 ** len(places),):
            raise ValueError(
                f"Cannot read {len(places)} qubits from a SamplerQNN with outputs of shape "
                f"{self.output_shape}: a perturbation needs the probabilities of all outcomes. "
                "Build the network without `interpret`."
            )
        measured = unitary_part(built.circuit)[1]
        if measured[: len(places)] != places or any(
            bit is not None for bit in measured[len(places) :]
        ):
            raise ValueError(
                "Cannot read qubits from a SamplerQNN that measures them into other bits: bit i of "
                "an outcome is taken for qubit i. Measure each qubit into its own bit, such as by "
                "`measure_all`, or leave the measurements out."
            )

    @property
    def _exact(self) -> Plain | None:
        return exact_twin(self.describe()) if samples_exactly(self.network) else None

    def _own(self, weights: Tensor | None, inputs: Tensor) -> Tensor:
        own = self.initial_weights().to(inputs.device) if weights is None else weights
        self.check_arguments(inputs, own)
        return own

    def __getstate__(self) -> dict[str, Any]:
        kept = super().__getstate__() | {"network": _without_lambda(self.network)}
        return {name: value for name, value in kept.items() if name != _READY}


_READY = "_ready"
"""Where a `NetworkBackend` keeps what it runs, which is made anew in copies."""


def _same_objects(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    """Whether two tuples hold the same objects, in their order."""
    return len(left) == len(right) and all(map(is_, left, right))


def _made_right(network: Network) -> Network:
    """Return the network with gates, rows and qubits that are not confused, by others or by Aer."""
    changed = copy(network)
    if isinstance(network, SamplerQNN):
        changed._circuit = changed._org_circuit = _placed(network._circuit)
        changed = in_rows(changed, prepared_for_aer)
        transpile_in_sampler(changed.gradient, network.circuit.layout)
        return changed
    changed._circuit, _ = expanded(network._circuit)
    given = getattr(network.gradient, "_estimator", network.estimator)
    changed.estimator = prepared_for_aer(network.estimator)
    changed.gradient = copy(network.gradient)
    passes = getattr(network.gradient, "_pass_manager", None)
    if passes is not None and network.circuit.layout is not None:
        changed.gradient._pass_manager = passes_in_place(passes)
    changed.gradient._estimator = prepared_for_aer(given)
    return changed


def _placed(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return a measured circuit whose layout `SamplerQNN` does not know: its bits need no undoing.

    `SamplerQNN` 0.9 undoes a layout in values and not in gradients, and where bits were measured
    before the transpiler came, it does so for nothing.
    """
    placed, _ = expanded(read_as_written(circuit))
    if placed.layout is not None:
        placed = placed.copy()
        placed._layout = None
    return placed


def _telling_losses(network: Network, job: Callable[[], Any]) -> Any:
    """Run a job of a network, and warn of outcomes that it leaves out."""
    found = job()
    if type(network) is SamplerQNN and not isinstance(found, tuple):
        lost = 1.0 - found.sum(axis=tuple(range(1, found.ndim)))
        if lost.max(initial=0.0) > SUM_TOLERANCE:
            warnings.warn(
                f"Up to {lost.max():.0%} of the shots of a row are left out: a SamplerQNN reads "
                f"outcomes below 2^{network.num_virtual_qubits}, and its circuit measures more "
                "bits than it has qubits. Measure fewer bits, or add qubits that no gate acts on.",
                stacklevel=2,
            )
    return found


def samples_exactly(network: Network) -> bool:
    """Whether a network's sampler gives exact probabilities, as a compiled circuit does.

    What a class of the user's does is not known: it runs as itself.
    """
    if type(network) is EstimatorQNN:
        return type(network.estimator) is QMLEstimator and network.estimator._exact_mode
    if type(network) is not SamplerQNN:
        return False
    sampler = network.sampler
    if type(sampler) is VectorizedSampler:
        return sampler.shots is None
    return type(sampler) is QMLSampler and sampler._exact_mode


def _without_lambda(network: Network) -> Network:
    """Replace the default interpret function, which pickle cannot store, by one with a name."""
    estimates = isinstance(network, EstimatorQNN)
    if estimates or ParametrizedCircuit.of_network(network).interpret is not None:
        return network
    copied = copy(network)
    copied.set_interpret(identity, tuple(network.output_shape))
    return copied

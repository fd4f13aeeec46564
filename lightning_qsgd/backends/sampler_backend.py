"""The reference backend: qiskit-machine-learning's SamplerQNN."""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np
import torch
from qiskit.circuit import ControlFlowOp, ParameterExpression, QuantumCircuit
from qiskit_machine_learning.neural_networks import SamplerQNN
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends.backend import is_all_ours
from lightning_qsgd.backends.circuit_backend import CircuitBackend
from lightning_qsgd.backends.compiled_backend import exact_twin
from lightning_qsgd.backends.evaluation import Evaluation
from lightning_qsgd.backends.failures import FailurePolicy, RaiseOnFailure
from lightning_qsgd.backends.keyed_sampler import bind
from lightning_qsgd.backends.network_call import NetworkCalls
from lightning_qsgd.backends.sampler_autograd import sampler_forward
from lightning_qsgd.backends.samplers import ExactSampling, Sampling, ShotSampling
from lightning_qsgd.backends.samplers.aer import prepared_for_aer
from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.circuits.expansion import STANDARD, definition_of, for_sampling
from lightning_qsgd.circuits.measurements import MEASURES_ON_THE_WAY, unitary_part

MEMORY_LIMIT_GIB = 4


@dataclass(frozen=True)
class SamplerBackend(CircuitBackend):
    """Evaluates a circuit with a `SamplerQNN`: exactly, with shots, with noise, on a device.

    Gradients, where the inputs or the weights ask for them, are those of the parameter-shift rule.

    Args:
        circuit: What is evaluated; the paper's circuit of 4 qubits and 2 layers by default.
        weight_seed: None sets the circuit's own weights to zero; an integer draws them once,
            uniformly from [-pi, pi), in radians.
        sampling: How outcomes are drawn; a number is short for `ShotSampling` with as many shots.
        on_failure: What follows an exception, a time-out or a readout that is not finite.
        timeout_seconds: How long one attempt may take; None waits for ever.
        max_circuits: Circuits that one perturbed optimizer may evaluate, each attempt counted, or a
            single call of `readout` outside of one; required where they cost money.

    Raises:
        TypeError: If a policy is of the wrong kind.
        ValueError: If an argument is out of range, the circuit measures on its way or is
            transpiled, 2^n outcomes do not fit into memory, or there is no limit on paid circuits.

    Example:
        >>> from lightning_qsgd.circuits import SuperpositionCircuit
        >>> backend = SamplerBackend(SuperpositionCircuit(2, reps=1, entanglement="none"))
        >>> backend.readout(torch.tensor([[0.5, 0.25]]))
        tensor([[1.0000, 0.7071]])
    """

    sampling: Sampling | int = field(default_factory=ExactSampling)
    on_failure: FailurePolicy = field(default_factory=RaiseOnFailure)
    timeout_seconds: float | None = None
    max_circuits: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_kind("sampling", self.recipe, Sampling, "ExactSampling() or a number of shots")
        _check_kind("on_failure", self.on_failure, FailurePolicy, "RaiseOnFailure()")
        _check_limits(self.timeout_seconds, self.max_circuits)
        if self.recipe.paid and self.max_circuits is None:
            raise ValueError(
                f"Cannot use {type(self.recipe).__name__} without a limit: its circuits cost "
                "money. Give `max_circuits`, the number that a training may evaluate."
            )
        if self.describe().observables:
            raise ValueError(
                "Cannot sample observables with a SamplerBackend: it measures qubits in one basis. "
                "Give a CircuitLayer the EstimatorQNN of an estimator with shots, such as Aer's, "
                "or use a CompiledBackend."
            )
        self.recipe.check_circuit(_measured_last(self.describe()))
        self.check_capacity(1)

    @property
    def skips(self) -> bool:  # type: ignore[override]
        """Whether an evaluation may be left out."""
        return self.on_failure.skips

    @property
    def recipe(self) -> Sampling:
        """How outcomes are drawn, also where only a number of shots was given."""
        sampling = self.sampling
        return ShotSampling(sampling) if isinstance(sampling, int) else sampling

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether shots are drawn from keys."""
        return self.recipe.stochastic

    @property
    def _drifts(self) -> bool:
        return not self.recipe.reproducible or self.on_failure.skips

    @override
    def check_capacity(self, num_blocks: int) -> None:
        num_qubits = self.describe().num_qubits
        needed = num_blocks * 2**num_qubits * self.recipe.bytes_per_outcome // 2**30
        if needed > MEMORY_LIMIT_GIB:
            raise ValueError(
                f"Cannot evaluate {num_blocks} circuit(s) of {num_qubits} qubits: their "
                f"2^{num_qubits} outcomes each would take about {needed:,} GiB, over the "
                f"limit of {MEMORY_LIMIT_GIB} GiB. Use fewer qubits or perturb fewer coordinates."
            )
        shots = self.recipe.shots or 0
        needed = shots * self.recipe.bytes_per_shot // 2**30
        if needed > MEMORY_LIMIT_GIB:
            raise ValueError(
                f"Cannot draw {shots:,} shots with {type(self.recipe).__name__}: it keeps each of "
                f"them, which would take about {needed:,} GiB, over the limit of "
                f"{MEMORY_LIMIT_GIB} GiB. Use fewer shots, or ShotSampling, which only counts."
            )

    @override
    def check_ready(self) -> None:
        """Build the sampler and compare sizes.

        Raises:
            ModuleNotFoundError: If a library that the sampling needs is not installed.
            ValueError: If there is no such device, or the circuit does not fit it.
        """
        built = self.describe()
        self.recipe.check_size(built.num_qubits)
        self._network(False)

    @override
    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        self.check_blocks()
        signs = torch.from_numpy(readout_signs(self.describe().num_qubits))
        # Replicas perturb alike only if one of them evaluates what could differ between them.
        found = self._probabilities(inputs, keys, weights, together=self._drifts)
        u = (found @ signs)[:, : self.num_qubits]
        return u.clamp(-1.0, 1.0).to(inputs.dtype).to(inputs.device)

    @override
    def probabilities(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        # The replicas of a layer have batches of their own, so that each of them evaluates.
        found = self._probabilities(inputs, keys, weights, together=False)
        outputs = gathered(found, self.describe())
        return outputs.to(inputs.dtype).to(inputs.device)

    def _probabilities(
        self, inputs: Tensor, keys: np.ndarray | None, weights: Tensor | None, together: bool
    ) -> Tensor:
        """Return those of all basis states in float64, on the CPU."""
        own = self.initial_weights() if weights is None else weights
        self.check_arguments(inputs, own)
        self.check_capacity(len(inputs))
        if torch._C._get_tracing_state() is not None:
            raise RuntimeError(
                "Cannot trace a SamplerBackend with torch.jit: keys and limits belong to one call, "
                "and would be repeated by all. Trace a CompiledBackend, or leave the network as "
                "it is."
            )
        if self.stochastic and keys is None:
            raise ValueError(
                f"Got no `keys`, and {type(self.recipe).__name__} draws shots: each circuit draws "
                "them from a key of its own. Pass one uint64 per row of `inputs`."
            )
        by_input = torch.is_grad_enabled() and inputs.requires_grad
        if by_input or (torch.is_grad_enabled() and own.requires_grad):
            _check_gradient(self.describe())
        network = self._network(by_input)
        evaluation = Evaluation(keys, self.max_circuits)
        return sampler_forward(
            bind(network, evaluation),
            inputs.cpu().double(),  # in this order: MPS has no float64
            own.cpu().double(),
            NetworkCalls(evaluation, self.on_failure, self.timeout_seconds, together),
            exact_twin(_all_outcomes(self.describe())) if self.recipe.exact else None,
        )

    def _network(self, by_input: bool) -> SamplerQNN:
        if is_all_ours(self.recipe):
            return _shared_network(self.describe(), self.recipe, by_input)
        if by_input not in self._own_networks:  # a user's may build another sampler next time
            self._own_networks[by_input] = _made_network(self.describe(), self.recipe, by_input)
        return self._own_networks[by_input]

    @cached_property
    def _own_networks(self) -> dict[bool, SamplerQNN]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        kept = super().__getstate__()
        return {name: value for name, value in kept.items() if name != "_own_networks"}


def identity(outcome: int) -> int:
    """Interpret a measured integer as itself; at module level, so that the network pickles."""
    return outcome


@lru_cache(maxsize=32)
def _shared_network(
    built: ParametrizedCircuit, sampling: Sampling, input_gradients: bool
) -> SamplerQNN:
    return _made_network(built, sampling, input_gradients)


def _made_network(
    built: ParametrizedCircuit, sampling: Sampling, input_gradients: bool
) -> SamplerQNN:
    return SamplerQNN(
        circuit=_measured_last(built),
        sampler=prepared_for_aer(sampling.sampler()),
        input_params=built.inputs,
        weight_params=built.weights,
        interpret=identity,
        output_shape=2**built.num_qubits,
        input_gradients=input_gradients,
    )


@lru_cache(maxsize=32)
def _all_outcomes(built: ParametrizedCircuit) -> ParametrizedCircuit:
    return ParametrizedCircuit(_measured_last(built), built.inputs, built.weights)


@lru_cache(maxsize=32)
def _measured_last(built: ParametrizedCircuit) -> Any:
    """Return the circuit without the measurements at its end; SamplerQNN then measures all qubits.

    SamplerQNN reads a register of another name wrongly when there are several rows.
    """
    if built.circuit.layout is not None:
        raise ValueError(
            "Cannot tell the qubits of a circuit that is transpiled already: the layout has moved "
            "them. Give the circuit as it is written, and its pass manager to GivenSampling."
        )
    circuit, _ = unitary_part(built.circuit)
    if circuit.clbits or circuit.num_identifiers:
        raise ValueError(
            "Cannot read out a circuit with classical bits or variables before its end: SamplerQNN "
            "evaluates circuits that measure all qubits, last. Remove mid-circuit measurements and "
            f"what depends on them; or, for values alone, {MEASURES_ON_THE_WAY}."
        )
    return for_sampling(circuit)


@lru_cache(maxsize=32)
def _check_gradient(built: ParametrizedCircuit) -> None:
    """Refuse to differentiate a gate that the parameter-shift rule cannot take apart.

    Raises:
        ValueError: With the gate's name.
    """
    gate = _indivisible(_measured_last(built))
    if gate is not None:
        raise ValueError(
            f"Cannot differentiate gate `{gate}` with a SamplerBackend: it has parameters, but no "
            "definition in terms of other gates, which the parameter-shift rule needs. Decompose "
            "it, or evaluate it under `torch.no_grad()` with weights that are not trained."
        )


def gathered(probabilities: Tensor, built: ParametrizedCircuit) -> Tensor:
    """Add up the probabilities of basis states, shape (B, 2^n), to those of a circuit's outputs.

    Returns:
        Shape (B, *output_shape).
    """
    cells, shape = _cells(built)
    if cells is None:
        return probabilities.reshape(-1, *shape)
    outputs = probabilities.new_zeros(len(probabilities), prod(shape))
    return outputs.index_add(1, torch.from_numpy(cells), probabilities).reshape(-1, *shape)


@lru_cache(maxsize=32)
def _cells(built: ParametrizedCircuit) -> tuple[np.ndarray | None, tuple[int, ...]]:
    """Return the output of each basis state, None if it is the same, and the output's shape."""
    cells, shape = built.output_cells(), built.output_shape
    same = prod(shape) == len(cells) and np.array_equal(cells, np.arange(len(cells)))
    return None if same else cells, shape


@lru_cache(maxsize=32)
def readout_signs(num_qubits: int) -> np.ndarray:
    """Return +1 where the qubit's bit is 1 and -1 where it is 0, shape (2^n, n).

    An array, and no tensor: one made in inference mode could not serve a gradient later.
    """
    outcomes = np.arange(2**num_qubits)[:, None]
    return np.where((outcomes >> np.arange(num_qubits)) & 1, 1.0, -1.0)


def _check_kind(name: str, value: object, kind: type, remedy: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(
            f"Expected `{name}` to be a {kind.__name__}, got {type(value).__name__}: the backend "
            f"is composed of one of each kind. Use e.g. {remedy}."
        )


def _check_limits(timeout_seconds: float | None, max_circuits: int | None) -> None:
    if timeout_seconds is not None and not 0 < timeout_seconds < float("inf"):
        raise ValueError(
            f"Expected `timeout_seconds` to be above 0 and finite, got {timeout_seconds}: no job "
            "could succeed or fail. Use None to wait for ever."
        )
    if max_circuits is not None and max_circuits < 1:
        raise ValueError(
            f"Expected `max_circuits` to be at least 1, got {max_circuits}: no circuit could be "
            "evaluated. Use None for no limit."
        )


def _indivisible(circuit: QuantumCircuit) -> str | None:
    """Return the name of a gate with parameters that has no definition; None if there is none."""
    for step in circuit.data:
        operation = step.operation
        if isinstance(operation, ControlFlowOp):  # no parameter inside of it can be shifted
            if any(block.parameters for block in operation.blocks):
                return str(operation.name)
            continue
        params = getattr(operation, "params", ())
        free = any(isinstance(p, ParameterExpression) and p.parameters for p in params)
        if not free or operation.name in STANDARD:
            continue
        definition = definition_of(operation)
        name: str | None = operation.name if definition is None else _indivisible(definition)
        if name is not None:
            return name
    return None

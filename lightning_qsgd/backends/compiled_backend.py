"""The fast backend: the same circuit as an exact state vector in torch."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends.circuit_backend import CircuitBackend
from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.backends.compiled.compiled_circuit import MEMORY_LIMIT_GIB, FrozenCircuit
from lightning_qsgd.backends.compiled.derivatives import Plain, is_transformed, to_be_kept
from lightning_qsgd.backends.fourier.several_inputs import Cosines
from lightning_qsgd.circuits import ParametrizedCircuit

_Frozen = tuple[Cosines | None, FrozenCircuit]
"""For few circuits, and for many."""


@dataclass(frozen=True)
class CompiledBackend(CircuitBackend):
    """Evaluates a circuit exactly, thousands of times faster than the reference.

    It runs on the device and in the precision of the parameters, and its readout can be
    differentiated. The tests hold it against `SamplerBackend` to 1e-10.

    Args:
        circuit: What is evaluated; the paper's circuit of 4 qubits and 2 layers by default.
        weight_seed: None sets the circuit's own weights to zero; an integer draws them once,
            uniformly from [-pi, pi), in radians.
        memory_limit_gib: Steps that would take more memory are refused, in GiB.
        torch_compile: Compile the evaluation with `torch.compile`, for small numbers of circuits.

    Raises:
        TypeError: If `circuit` is no source of circuits.
        ValueError: If an argument is out of range, a gate cannot be compiled, or one circuit alone
            exceeds the memory limit.

    Example:
        >>> import torch
        >>> backend = CompiledBackend()
        >>> backend.readout(torch.tensor([[0.5, 0.0, 0.0, 0.0]])).shape
        torch.Size([1, 4])
    """

    memory_limit_gib: float = MEMORY_LIMIT_GIB
    torch_compile: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._compiled  # noqa: B018 - refuses what cannot be compiled

    @override
    def check_capacity(self, num_blocks: int) -> None:
        self._compiled.check_memory(num_blocks)

    @override
    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        asks_gradient = (torch.is_grad_enabled() and inputs.requires_grad) or is_transformed()
        frozen = inputs.dtype in _EVALUATED and not self.describe().observables
        if weights is None and frozen and not asks_gradient:
            return self._read_frozen(inputs)
        self.check_blocks()
        own = self._own(weights, inputs)
        if self.describe().observables:
            return self._compiled.outputs(inputs, own).to(inputs.dtype)
        return self._compiled.marginals(inputs, own, read=self.num_qubits).to(inputs.dtype)

    @override
    def probabilities(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        return self._compiled.outputs(inputs, self._own(weights, inputs)).to(inputs.dtype)

    def amplitudes(self, inputs: Tensor, weights: Tensor | None = None) -> Tensor:
        """Evaluate the complex amplitudes, global phase included.

        Of a transpiled circuit those of the circuit as it was written, with the phase of the
        transpiled one.

        Args:
            inputs: Shape (num_circuits, num_inputs).
            weights: As for `readout`.

        Returns:
            Shape (num_circuits, 2^n), in qiskit's order of basis states, differentiable by both.

        Raises:
            ValueError: If the circuit is transpiled, and qubits that were added do not end in 0.
        """
        return self._compiled.amplitudes(inputs, self._own(weights, inputs))

    def _own(self, weights: Tensor | None, inputs: Tensor) -> Tensor:
        own = self.initial_weights() if weights is None else weights
        self.check_arguments(inputs, own)
        return own.to(inputs.device, torch.promote_types(inputs.dtype, torch.float32))

    def _read_frozen(self, inputs: Tensor) -> Tensor:
        key = inputs.dtype, inputs.device
        if key not in self._frozen_circuits:
            self.check_blocks()
            self._frozen_circuits[key] = self._cosines(*key), self._freeze(*key)
        cosines, circuit = self._frozen_circuits[key]
        if cosines is not None and cosines.takes(inputs):
            return cosines(inputs)
        return circuit(inputs)  # it says what is wrong with inputs of another shape

    @cached_property
    def _frozen_circuits(self) -> dict[tuple[torch.dtype, torch.device], _Frozen]:
        return {}

    def _freeze(self, dtype: torch.dtype, device: torch.device) -> FrozenCircuit:
        weights = self.initial_weights().to(device, dtype)
        return self._compiled.freeze(weights, read=self.num_qubits)

    def _cosines(self, dtype: torch.dtype, device: torch.device) -> Cosines | None:
        if self.torch_compile:
            return None  # as was asked for
        with to_be_kept():
            read = self._freeze(torch.float64, torch.device("cpu"))
            return Cosines.of(self.describe(), read, torch.empty(0, dtype=dtype, device=device))

    def __getstate__(self) -> dict[str, Any]:
        made_anew = "_compiled", "_frozen_circuits"
        kept = super().__getstate__()
        return {name: value for name, value in kept.items() if name not in made_anew}

    @cached_property
    def _compiled(self) -> CompiledCircuit:
        return _compiled(self.describe(), self.memory_limit_gib, self.torch_compile)


@lru_cache(maxsize=32)
def _compiled(
    built: ParametrizedCircuit, memory_limit_gib: float, torch_compile: bool
) -> CompiledCircuit:
    return CompiledCircuit(built, memory_limit_gib=memory_limit_gib, torch_compile=torch_compile)


@lru_cache(maxsize=32)  # the same object each time, which torch.jit.trace compares
def exact_twin(built: ParametrizedCircuit) -> Plain:
    """Return the probabilities of a circuit that is sampled exactly, for torch to differentiate.

    It compiles the circuit when it is called, which is for second derivatives and `torch.func`.
    """

    def outputs(inputs: Tensor, weights: Tensor) -> Tensor:
        return CompiledBackend(built).probabilities(inputs, weights=weights)

    return outputs


_EVALUATED = (torch.float32, torch.float64)

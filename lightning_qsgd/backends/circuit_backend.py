"""What backends that evaluate a circuit have in common: the circuit and its weights."""

from abc import abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import pi, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends.backend import Backend, is_all_ours
from lightning_qsgd.circuits import CircuitSource, ParametrizedCircuit, SuperpositionCircuit


@dataclass(frozen=True)
class CircuitBackend(Backend):
    """Evaluates a circuit of any source; the base of the backends that do.

    Layers take the probabilities of its outputs. A perturbation takes the readout: entry i of a
    block is the circuit's i-th input, and its readout is qubit i's P(1) - P(0), or the value of
    the i-th observable. For that, a circuit may have more qubits than inputs, but not fewer
    (`check_blocks`).

    Args:
        circuit: What is evaluated.
        weight_seed: None sets the circuit's own weights to zero; an integer draws them once,
            uniformly from [-pi, pi), in radians.

    Raises:
        TypeError: If `circuit` is no source of circuits.
        ValueError: If the seed is negative.
    """

    circuit: CircuitSource = field(default_factory=SuperpositionCircuit)
    weight_seed: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.circuit, CircuitSource):
            raise TypeError(
                f"Expected `circuit` to be a CircuitSource, got {type(self.circuit).__name__}: "
                "the backend must know which parameters are inputs. Wrap a QuantumCircuit as "
                "ParametrizedCircuit(circuit, inputs, weights)."
            )
        if self.weight_seed is not None and self.weight_seed < 0:
            raise ValueError(
                f"Expected `weight_seed` to be non-negative, got {self.weight_seed}: numpy takes "
                "no negative seed. Use 0 or more, or None for zero weights."
            )

    @property
    def num_qubits(self) -> int:  # type: ignore[override]
        """Number of entries in a block: the inputs of the circuit, each read from its qubit."""
        return len(self.describe().inputs)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of what `probabilities` returns for one circuit."""
        return self.describe().output_shape

    @property
    def num_outputs(self) -> int:
        """Number of probabilities of one circuit."""
        return prod(self.output_shape)

    @override
    def check_blocks(self) -> None:
        built = self.describe()
        if built.observables:
            _check_observables(built)
            return
        if not 1 <= len(built.inputs) <= built.num_own_qubits:
            raise ValueError(
                f"Cannot perturb with a circuit of {len(built.inputs)} inputs and "
                f"{built.num_own_qubits} qubits: qubit i is read out for input i. Give it at least "
                "one input, and a qubit for each."
            )

    @override
    def describe(self) -> ParametrizedCircuit:
        return self._described

    @cached_property
    def _described(self) -> ParametrizedCircuit:
        """The circuit, which is kept whatever becomes of the file that it was read from."""
        if is_all_ours(self.circuit):  # a user's may build another one next time
            return _built(self.circuit, self.circuit.version())
        return _build(self.circuit)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_described"}

    def check_arguments(self, inputs: Tensor, weights: Tensor) -> None:
        """Refuse what does not fit the circuit; see `Backend.readout`.

        Raises:
            TypeError: If the inputs are no real floating-point numbers.
            ValueError: If a shape does not fit.
        """
        if not inputs.is_floating_point():
            raise TypeError(
                f"Expected `inputs` of real floating-point numbers, got {inputs.dtype}: the "
                "readout comes back in their dtype. Convert them, e.g. with `.float()`; pass real "
                "and imaginary parts as inputs of their own."
            )
        if inputs.dim() != 2 or inputs.shape[1] != self.num_qubits:
            raise ValueError(
                f"Expected `inputs` of shape (B, {self.num_qubits}), got {tuple(inputs.shape)}: "
                "each row holds the inputs of one circuit. Reshape the data."
            )
        count = len(self.describe().weights)
        if weights.shape != (count,):
            raise ValueError(
                f"Expected `weights` of shape ({count},), got {tuple(weights.shape)}: all circuits "
                "of a batch share them. Pass one value per weight of the circuit."
            )

    @override
    def initial_weights(self) -> Tensor:
        count = len(self.describe().weights)
        if self.weight_seed is None:
            return torch.zeros(count, dtype=torch.float64)
        drawn = np.random.default_rng(self.weight_seed).uniform(-pi, pi, count)
        return torch.from_numpy(drawn)

    @abstractmethod
    def probabilities(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Evaluate the probability of each output: of each outcome, or of what it stands for.

        Args:
            inputs: Shape (num_circuits, num_inputs).
            keys: As for `readout`.
            weights: As for `readout`.

        Returns:
            Shape (num_circuits, *output_shape), in [0, 1], in qiskit's order of outcomes unless the
            circuit interprets them, with the dtype and device of `inputs`. It carries gradients.
        """


def _check_observables(built: ParametrizedCircuit) -> None:
    observables = built.observables or ()
    sizes = [sum(abs(term.coefficient) for term in terms) for terms in observables]
    if len(sizes) != len(built.inputs) or not sizes:
        raise ValueError(
            f"Cannot perturb with {len(sizes)} observables of a circuit with {len(built.inputs)} "
            "inputs: each input takes the value of one. Give one observable per input."
        )
    if max(sizes) > 1 + 1e-9:
        raise ValueError(
            f"Cannot perturb with an observable whose weights add up to {max(sizes):g}: a "
            "modulation lies in [-1, 1]. Divide its weights by their sum."
        )


@lru_cache(maxsize=32)
def _built(source: CircuitSource, version: Hashable) -> ParametrizedCircuit:
    return _build(source)


def _build(source: CircuitSource) -> ParametrizedCircuit:
    built: Any = source.build()
    if not isinstance(built, ParametrizedCircuit):
        raise TypeError(
            f"Expected `build` of {type(source).__name__} to return a ParametrizedCircuit, got "
            f"{type(built).__name__}: inputs and weights must be told apart. Return "
            "ParametrizedCircuit(circuit, inputs, weights)."
        )
    return built

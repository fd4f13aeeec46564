"""Checks backends of one circuit against each other on random inputs."""

from dataclasses import dataclass
from math import pi

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.backends.backend import Backend
from lightning_qsgd.backends.circuit_backend import CircuitBackend

TOLERANCES = {torch.float64: 1e-10, torch.float32: 5e-6}
"""SamplerQNN's exact sampler rounds each probability to a dyadic fraction, an error of up to 1e-12;
float32 rounds to 6e-8, a few dozen times on the way."""


@dataclass(frozen=True)
class Question:
    """What all backends of a circuit are asked.

    Attributes:
        inputs: Random inputs, shape (rows, num_qubits), float64.
        weights: Random weights in radians, shape (num_weights,), float64.
        cotangent: Random factors of the readout's entries, shape (rows, num_qubits), whose absolute
            values sum to 1: errors of a weighted gradient are then those of a single entry's.
    """

    inputs: Tensor
    weights: Tensor
    cotangent: Tensor

    @classmethod
    def random(cls, backend: Backend, rows: int, seed: int) -> "Question":
        """Draw inputs from [-2, 2) and weights from [-pi, pi)."""
        generator = np.random.default_rng(seed)
        shape, count = (rows, backend.num_qubits), len(backend.initial_weights())
        factors = torch.from_numpy(generator.normal(size=shape))
        return cls(
            inputs=torch.from_numpy(generator.uniform(-2.0, 2.0, shape)),
            weights=torch.from_numpy(generator.uniform(-pi, pi, count)),
            cotangent=factors / factors.abs().sum(),
        )


@dataclass(frozen=True)
class Answer:
    """What one backend said.

    Attributes:
        readout: P(1) - P(0), shape (rows, num_qubits), float64.
        probabilities: Those of all outputs, shape (rows, *output_shape), float64; None for a
            backend that has none.
        gradients: Gradients of its sum, weighted by the cotangent, by inputs and by weights; those
            that were not asked for are missing.
    """

    readout: Tensor
    gradients: dict[str, Tensor]
    probabilities: Tensor | None = None

    def difference(self, other: "Answer") -> tuple[float, float | None]:
        """Return the largest differences of values, and of the gradients that both have.

        Values are the readout and, where both have them, all probabilities: qubits beyond the
        inputs are not read out, and may be wrong without a difference of the readout.
        """
        readout = float((self.readout - other.readout).abs().max())
        if self.probabilities is not None and other.probabilities is not None:
            readout = max(readout, float((self.probabilities - other.probabilities).abs().max()))
        shared = self.gradients.keys() & other.gradients.keys()
        if not shared:
            return readout, None
        differences = [(self.gradients[of] - other.gradients[of]).abs().max() for of in shared]
        return readout, float(torch.stack(differences).max())


def answer(backend: Backend, question: Question, dtype: torch.dtype = torch.float64) -> Answer:
    """Ask one backend.

    Args:
        backend: Any backend; one that draws shots is not asked for gradients.
        question: What it is asked.
        dtype: Precision of inputs and weights.

    Returns:
        Its answer, in float64.

    Example:
        >>> from lightning_qsgd.backends import SineBackend
        >>> backend = SineBackend(num_qubits=2)
        >>> question = Question.random(backend, rows=3, seed=0)
        >>> sorted(answer(backend, question).gradients)
        ['inputs']
    """
    keys = np.arange(len(question.inputs), dtype=np.uint64) if backend.stochastic else None
    asked = {"inputs": question.inputs.to(dtype), "weights": question.weights.to(dtype)}
    arguments = asked["inputs"], keys, asked["weights"]
    with torch.no_grad():
        has_all = isinstance(backend, CircuitBackend)
        outputs = backend.probabilities(*arguments).double() if has_all else None  # type: ignore[attr-defined]
    if backend.stochastic:
        return Answer(backend.readout(*arguments).detach().double(), {}, outputs)
    own = {of: values.requires_grad_() for of, values in asked.items() if values.numel()}
    if not len(backend.initial_weights()):
        own.pop("weights", None)
    readout = backend.readout(asked["inputs"], keys, asked["weights"])
    total = (readout * question.cotangent.to(dtype)).sum()
    found = torch.autograd.grad(total, list(own.values()))
    gradients = {of: gradient.double() for of, gradient in zip(own, found, strict=True)}
    return Answer(readout.detach().double(), gradients, outputs)

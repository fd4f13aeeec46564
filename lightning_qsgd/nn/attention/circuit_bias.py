"""Phi of Eq. 3: a quantum circuit evaluated on each attention score."""

from __future__ import annotations

from math import pi
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lightning_qsgd.backends.backend_of import BackendSource, layer_backend_of
from lightning_qsgd.backends.evaluation import keys_named
from lightning_qsgd.backends.sampler_autograd import refuse_transforms
from lightning_qsgd.circuits import ScoreCircuit
from lightning_qsgd.nn.attention.phi import (
    AmplitudePhi,
    Evaluation,
    FourierEvaluation,
    LiteralEvaluation,
    Phi,
    ProbabilityPhi,
)
from lightning_qsgd.nn.attention.score_bias import ScoreBias

ReadoutName = Literal["probability", "amplitude"]
EvaluationName = Literal["fourier", "literal"]

READOUTS: dict[str, type[Phi]] = {"probability": ProbabilityPhi, "amplitude": AmplitudePhi}
EVALUATIONS: dict[str, type[Evaluation]] = {
    "fourier": FourierEvaluation,
    "literal": LiteralEvaluation,
}
Choice = TypeVar("Choice")


class CircuitBias(ScoreBias):
    r"""Evaluates :math:`\Phi(s) = \sum_{k=1}^{n} \psi_k(C(s))` with learned circuit weights.

    Args:
        circuit: What is evaluated: a circuit, which is compiled to an exact state vector; a backend
            such as `SamplerBackend`, which says how it is sampled; or a `SamplerQNN`, which is
            used with its own sampler unless that is exact. The score enters each of its inputs.
            None takes the paper's circuit, `ScoreCircuit()`.
        readout: How psi_k is read: ``"probability"`` (`ProbabilityPhi`) or ``"amplitude"``
            (`AmplitudePhi`).
        evaluation: ``"fourier"`` runs 2d + 1 circuits per call (`FourierEvaluation`);
            ``"literal"`` one per score (`LiteralEvaluation`).
        seed: Names the stream of the first weights, uniform in [-pi, pi), and that of shots.

    Attributes:
        weight: The circuit's weights in radians, shape (num_weights,), trainable: 16 for the
            paper's circuit.

    Raises:
        TypeError: If `circuit` is neither circuit nor backend nor network.
        ValueError: If a name is unknown, the seed is out of range, the circuit does not fit the
            readout, or its Fourier form cannot be found.

    Example:
        >>> bias = CircuitBias()
        >>> bias(torch.zeros(2, 4, 5, 5)).shape, bias.weight.numel()
        (torch.Size([2, 4, 5, 5]), 16)

    References:
        arXiv:2511.01918, Eq. 3, Eq. 4 and Eq. 5.
    """

    evaluations: Tensor

    def __init__(
        self,
        circuit: BackendSource | None = None,
        readout: ReadoutName = "probability",
        evaluation: EvaluationName = "fourier",
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self._backend = layer_backend_of(ScoreCircuit() if circuit is None else circuit)
        phi = _chosen("readout", readout, READOUTS)(self._backend)
        self._evaluation = _chosen("evaluation", evaluation, EVALUATIONS)(phi)
        self.weight = nn.Parameter(torch.empty(len(self._backend.describe().weights)))
        self.register_buffer("evaluations", torch.zeros((), dtype=torch.int64))
        self.reset_parameters()

    def reset_parameters(self, stream: int = 0) -> None:
        """Draw the weights; see `ScoreBias.reset_parameters`."""
        drawn = torch.rand(self.weight.shape, generator=self.generator(stream))
        with torch.no_grad():
            self.weight.copy_(drawn.mul_(2 * pi).sub_(pi))

    def forward(self, scores: Tensor) -> Tensor:
        """Return Phi of each score; see `ScoreBias.forward`."""
        return self._evaluation.phi(scores, self.weight, self._keys(scores.numel()))

    def add_to(self, divided: Tensor, scale: Tensor, unit: float) -> Tensor:
        """Add Phi in as few passes as the evaluation can; see `ScoreBias.add_to`."""
        keys = self._keys(divided.numel())
        return self._evaluation.add_to(divided, scale, unit, self.weight, keys)

    def extra_repr(self) -> str:
        """Describe the bias in the printout of a network."""
        names = type(self._evaluation).__name__, type(self._backend).__name__
        qubits = self._backend.describe().num_qubits
        return f"{qubits} qubits, {self.weight.numel()} weights, {names[0]} on {names[1]}"

    def _keys(self, num_scores: int) -> np.ndarray | None:
        """Name the shots of this call by seed, stream and number of training calls so far.

        Outside training the number stays, so that validation does not shift what training draws.
        """
        if not self._backend.stochastic:
            return None
        refuse_transforms()
        self.evaluations += self.training
        name = (self.seed, self.stream, int(self.training), int(self.evaluations))
        circuits = self._evaluation.circuits_for(num_scores)
        return keys_named(name, circuits)


def _chosen(argument: str, name: str, choices: dict[str, Choice]) -> Choice:
    if name not in choices:
        raise ValueError(
            f"Unknown {argument} {name!r}: there is no such way. Choose one of "
            f"{', '.join(choices)}."
        )
    return choices[name]

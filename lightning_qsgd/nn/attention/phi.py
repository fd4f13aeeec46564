"""The two readings of psi_k in Eq. 4: a probability, or the real part of an amplitude."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from torch import Tensor

from lightning_qsgd.backends.circuit_runner import CircuitRunner
from lightning_qsgd.backends.compiled_backend import CompiledBackend
from lightning_qsgd.backends.fixed_points import (
    FixedPoints,
    ProbabilityReading,
    Reading,
    RealPartReading,
    fixed_points_of,
)
from lightning_qsgd.backends.spectrum import Spectrum, spectra_of


class Phi(ABC):
    """Evaluates one circuit per score and adds up what is read from it.

    Args:
        runner: What evaluates the circuit.

    Attributes:
        runner: The same.
        reading: What is added up, for the same in numpy.
    """

    reading: ClassVar[Reading]

    def __init__(self, runner: CircuitRunner) -> None:
        self.runner = runner

    def __call__(self, scores: Tensor, weights: Tensor, keys: np.ndarray | None = None) -> Tensor:
        """Return Phi of each score.

        Args:
            scores: Shape (M,), float32 or float64.
            weights: The circuit's weights in radians, shape (num_weights,).
            keys: One uint64 per score where the runner draws shots.

        Returns:
            Shape (M,), with dtype and device of the scores, differentiable by both tensors.
        """
        inputs = scores[:, None].expand(-1, len(self.runner.describe().inputs))
        return self.read(inputs, weights, keys)

    def at(self, scores: np.ndarray) -> FixedPoints | None:
        """Return a faster way to evaluate Phi at scores that never change, if there is one.

        Args:
            scores: Shape (M,), float64.

        Returns:
            Phi as a function of the weights on the CPU; None where the circuit is large, sampled,
            or is to be compiled by torch.
        """
        runner = self.runner
        if type(runner) is not CompiledBackend or runner.torch_compile:
            return None
        built = runner.describe()
        inputs = np.repeat(scores[:, None], len(built.inputs), axis=1)
        return fixed_points_of(built, inputs, self.reading)

    @abstractmethod
    def read(self, inputs: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Do so for rows of inputs, each row a score repeated, shape (M, num_inputs)."""

    @abstractmethod
    def spectrum(self) -> Spectrum:
        """Return the frequencies that Phi can have in the score.

        Raises:
            ValueError: If they cannot be found; see `spectra_of`.
        """


class ProbabilityPhi(Phi):
    r"""Reads :math:`\psi_k` in Eq. 4 as the probability of the k-th outcome.

    "The k-th amplitude of the output", summed over k = 1 to n_qubits, is
    :math:`\sum_{b=0}^{n-1} |\langle b | C(s) \rangle|^2` over the first n of the :math:`2^n` basis
    states in qiskit's order (qubit 0 is the least significant bit). It is what a sampler can
    estimate, lies in [0, 1], and does not depend on a global phase.

    Args:
        runner: What evaluates the circuit.

    Raises:
        ValueError: If the circuit's outcomes are not its 2^n basis states.
    """

    reading = ProbabilityReading()

    def __init__(self, runner: CircuitRunner) -> None:
        super().__init__(runner)
        num_qubits = runner.describe().num_qubits
        if runner.num_outcomes != 2**num_qubits:
            raise ValueError(
                f"Cannot read the first {num_qubits} of 2^{num_qubits} probabilities: the circuit "
                f"has {runner.num_outcomes} outcomes. Measure all qubits or none, and give a "
                "SamplerQNN no `interpret`."
            )

    def read(self, inputs: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Add up the first probabilities; see `Phi.read`."""
        probabilities = self.runner.probabilities(inputs, keys, weights).flatten(1)
        return probabilities[:, : self.runner.describe().num_qubits].sum(1)

    def spectrum(self) -> Spectrum:
        """Return the frequencies of probabilities; see `Phi.spectrum`."""
        return spectra_of(self.runner.describe())[0]


class AmplitudePhi(Phi):
    r"""Reads :math:`\psi_k` in Eq. 4 as the real part of the k-th amplitude.

    To the letter :math:`\psi_k` is an amplitude. It is complex and a softmax takes real numbers;
    that its real part is meant is a reading. It depends on the global phase, which is that of the
    gates as qiskit defines them: :math:`R_y(a) = e^{-i a Y / 2}`, :math:`R_z(a) = e^{-i a Z / 2}`,
    so that it equals the real part of `qiskit.quantum_info.Statevector`. No sampler gives it.

    Args:
        runner: A `CompiledBackend`.

    Raises:
        ValueError: If the runner is something that samples.
    """

    reading = RealPartReading()
    runner: CompiledBackend

    def __init__(self, runner: CircuitRunner) -> None:
        if not isinstance(runner, CompiledBackend):
            raise ValueError(
                f"Cannot read amplitudes from {type(runner).__name__}: samplers give "
                "probabilities alone. Use readout='probability', or a CompiledBackend."
            )
        super().__init__(runner)

    def read(self, inputs: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Add up the first real parts; see `Phi.read`."""
        amplitudes = self.runner.amplitudes(inputs, weights)
        return amplitudes[:, : self.runner.describe().num_qubits].real.sum(1).to(inputs.dtype)

    def spectrum(self) -> Spectrum:
        """Return the frequencies of amplitudes; see `Phi.spectrum`."""
        return spectra_of(self.runner.describe())[1]

"""Phi of Eq. 4: a readout of one circuit per score, and how it is evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lightning_qsgd.backends.backend import is_ours
from lightning_qsgd.backends.circuit_backend import CircuitBackend
from lightning_qsgd.backends.compiled.derivatives import is_transformed, to_be_kept
from lightning_qsgd.backends.compiled.memory import eagerly, in_full_precision
from lightning_qsgd.backends.compiled_backend import CompiledBackend
from lightning_qsgd.backends.fourier.fixed_points import (
    FixedPoints,
    ProbabilityReading,
    Reading,
    RealPartReading,
    fixed_points_of,
)
from lightning_qsgd.backends.fourier.several_inputs import CLOSE, points_and_matrix
from lightning_qsgd.backends.fourier.spectrum import Spectrum, spectra_of
from lightning_qsgd.nn.attention.polynomial import exact_coefficients, trigonometric_polynomial


class Phi(ABC):
    """Evaluates one circuit per score and adds up what is read from it.

    Args:
        backend: What evaluates the circuit.

    Attributes:
        backend: The same.
        reading: What is added up, for the same in numpy.
    """

    reading: ClassVar[Reading]

    def __init__(self, backend: CircuitBackend) -> None:
        self.backend = backend

    def __call__(self, scores: Tensor, weights: Tensor, keys: np.ndarray | None = None) -> Tensor:
        """Return Phi of each score.

        Args:
            scores: Shape (M,), float32 or float64.
            weights: The circuit's weights in radians, shape (num_weights,).
            keys: One uint64 per score where the backend draws shots.

        Returns:
            Shape (M,), with dtype and device of the scores, differentiable by both tensors.
        """
        inputs = scores[:, None].expand(-1, len(self.backend.describe().inputs))
        return self.read(inputs, weights, keys)

    def at(self, scores: np.ndarray) -> FixedPoints | None:
        """Return a faster way to evaluate Phi at scores that never change, if there is one.

        Args:
            scores: Shape (M,), float64.

        Returns:
            Phi as a function of the weights on the CPU; None where the circuit is large, sampled,
            or is to be compiled by torch.
        """
        backend = self.backend
        if type(backend) is not CompiledBackend or backend.torch_compile:
            return None
        built = backend.describe()
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
    estimate, lies in [0, 1], and does not depend on a global phase. A circuit whose `interpret`
    exchanges outcomes is read at the first n of its outputs. Of a transpiled circuit n is the
    number of qubits that it was written with.

    Args:
        backend: What evaluates the circuit.

    Raises:
        ValueError: If the circuit has no 2^n outputs, or they are values of observables.
    """

    reading = ProbabilityReading()

    def __init__(self, backend: CircuitBackend) -> None:
        super().__init__(backend)
        _refuse_observables(backend)
        num_qubits = backend.describe().num_own_qubits
        if backend.num_outputs != 2**num_qubits:
            raise ValueError(
                f"Cannot read the first {num_qubits} of 2^{num_qubits} probabilities: the circuit "
                f"has {backend.num_outputs} outcomes. Measure all qubits or none, and give a "
                "SamplerQNN no `interpret`."
            )

    def read(self, inputs: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Add up the first probabilities; see `Phi.read`."""
        probabilities = self.backend.probabilities(inputs, keys, weights).flatten(1)
        return probabilities[:, : self.backend.describe().num_own_qubits].sum(1)

    def spectrum(self) -> Spectrum:
        """Return the frequencies of probabilities; see `Phi.spectrum`."""
        return spectra_of(self.backend.describe())[0]


class AmplitudePhi(Phi):
    r"""Reads :math:`\psi_k` in Eq. 4 as the real part of the k-th amplitude.

    To the letter :math:`\psi_k` is an amplitude. It is complex and a softmax takes real numbers;
    that its real part is meant is a reading. It depends on the global phase, which is that of the
    gates as qiskit defines them: :math:`R_y(a) = e^{-i a Y / 2}`, :math:`R_z(a) = e^{-i a Z / 2}`,
    so that it equals the real part of `qiskit.quantum_info.Statevector`. No sampler gives it. Of a
    transpiled circuit the original qubits are read, with the phase of the transpiled one.

    Args:
        backend: A `CompiledBackend`.

    Raises:
        ValueError: If the backend is something that samples, or its circuit has observables, or is
            transpiled and qubits that were added do not end in 0.
    """

    reading = RealPartReading()
    backend: CompiledBackend

    def __init__(self, backend: CircuitBackend) -> None:
        if not isinstance(backend, CompiledBackend):
            raise ValueError(
                f"Cannot read amplitudes from {type(backend).__name__}: samplers give "
                "probabilities alone. Use readout='probability', or a CompiledBackend."
            )
        _refuse_observables(backend)
        super().__init__(backend)
        built = backend.describe()
        if built.circuit.layout is not None:  # one that cannot be read is refused here
            backend.amplitudes(torch.zeros(0, len(built.inputs)))

    def read(self, inputs: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Add up the first real parts; see `Phi.read`."""
        amplitudes = self.backend.amplitudes(inputs, weights)
        count = amplitudes.shape[1].bit_length() - 1  # qubits as written: a layout may have more
        return amplitudes[:, :count].real.sum(1).to(inputs.dtype)

    def spectrum(self) -> Spectrum:
        """Return the frequencies of amplitudes; see `Phi.spectrum`."""
        return spectra_of(self.backend.describe())[1]


def _refuse_observables(backend: CircuitBackend) -> None:
    if backend.describe().observables is not None:
        raise ValueError(
            "Cannot read Phi from a circuit with observables, such as that of an EstimatorQNN: it "
            "is a sum over outcomes, and their values are not those of outcomes. Give the circuit "
            "without observables, as ParametrizedCircuit(circuit, inputs, weights) or a SamplerQNN."
        )


class Evaluation(ABC):
    """Evaluates Phi on scores of any shape.

    Args:
        phi: Evaluates it on some scores, with one circuit for each.
    """

    def __init__(self, phi: Phi) -> None:
        self._phi = phi

    @abstractmethod
    def circuits_for(self, num_scores: int) -> int:
        """Count the circuits that one evaluation of so many scores runs."""

    @abstractmethod
    def phi(self, scores: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Return Phi of each score.

        Args:
            scores: Any shape, floating point.
            weights: The circuit's weights in radians, shape (num_weights,).
            keys: One uint64 per circuit where shots are drawn.

        Returns:
            A tensor of the shape, dtype and device of the scores.
        """

    @abstractmethod
    def add_to(
        self, divided: Tensor, scale: Tensor, unit: float, weights: Tensor, keys: np.ndarray | None
    ) -> Tensor:
        """Return ``divided + scale * Phi(divided * unit)``; see `ScoreBias.add_to`."""


class LiteralEvaluation(Evaluation):
    """Runs one circuit per score, as Eq. 4 is written: the oracle, and very slow."""

    def circuits_for(self, num_scores: int) -> int:
        """Return the number of scores."""
        return num_scores

    def phi(self, scores: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Run the circuits; see `Evaluation.phi`."""
        angles = scores.flatten().to(torch.promote_types(scores.dtype, torch.float32))
        return self._phi(angles, weights, keys).view(scores.shape).to(scores.dtype)

    def add_to(
        self, divided: Tensor, scale: Tensor, unit: float, weights: Tensor, keys: np.ndarray | None
    ) -> Tensor:
        """Run the circuits and add; see `Evaluation.add_to`."""
        scores = divided.to(torch.promote_types(divided.dtype, torch.float32)) * unit
        return divided + (scale * self.phi(scores, weights, keys)).to(divided.dtype)


class FourierEvaluation(Evaluation):
    r"""Runs 2d + 1 circuits, whatever the number of scores, and evaluates a polynomial.

    For fixed weights :math:`\Phi(s) = \sum_{k=0}^{d} a_k \cos(k f s) + b_k \sin(k f s)` exactly,
    since each score enters through finitely many rotations. Its values at the 2d + 1 points
    :math:`s_j = 2 \pi j / ((2 d + 1) f)` determine it: they are evaluated, on any backend and with
    gradients, and a fixed matrix turns them into coefficients,
    :math:`a_k = \frac{2}{2d+1} \sum_j \Phi(s_j) \cos(k f s_j)`, and half of that for k = 0. Small
    exact circuits on a CPU take a way of their own, `FixedPoints`.

    Args:
        phi: Evaluates Phi on some scores, with one circuit for each.

    Attributes:
        spectrum: The frequency f and the degree d.

    Raises:
        ValueError: If the frequencies of the circuit cannot be found, or a user's backend reads
            something else than the circuit which it describes.
    """

    def __init__(self, phi: Phi) -> None:
        super().__init__(phi)
        self.spectrum = phi.spectrum()
        points, self._matrix = points_and_matrix(self.spectrum)
        self._exact = phi.at(points)
        backend = phi.backend
        if not (is_ours(type(backend)) or backend.stochastic):
            self._check_polynomial(backend)

    def _check_polynomial(self, backend: CircuitBackend) -> None:
        between = torch.tensor([0.31, 0.31], dtype=torch.float64)  # not among the points
        weights = backend.initial_weights().detach().to(between)
        with torch.no_grad():
            read, again = self._phi(between, weights).tolist()
            found = self.phi(between, weights, None)[0].item()
        if abs(read - found) > CLOSE and read == again:  # others draw shots that need no keys
            raise ValueError(
                f"{type(backend).__name__} reads {read:.6g} where the circuit that it describes "
                f"can only read {found:.6g}: the bias is evaluated as the polynomial that a "
                "circuit is. Pass evaluation='literal', for one circuit per score."
            )

    def circuits_for(self, num_scores: int) -> int:
        """Return 2d + 1."""
        return 2 * self.spectrum.degree + 1

    @eagerly  # backends keep state between calls, and run what torch cannot trace
    def coefficients(self, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Return rows a and b, shape (2, d + 1), differentiable by the weights."""
        from_circuits = partial(self._from_circuits, keys=keys)
        if self._exact is not None and _is_plain(weights) and not is_transformed():
            return exact_coefficients(weights, self._exact, self._matrix, from_circuits)
        return from_circuits(weights)

    def _from_circuits(self, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        dtype = torch.promote_types(weights.dtype, torch.float32)
        points, matrix = _as_tensors(self.spectrum, dtype, weights.device)
        with in_full_precision(weights.device.type):
            return (self._phi(points, weights, keys) @ matrix).view(2, -1)

    def phi(self, scores: Tensor, weights: Tensor, keys: np.ndarray | None) -> Tensor:
        """Evaluate the polynomial; see `Evaluation.phi`."""
        coefficients = self.coefficients(weights, keys)
        return trigonometric_polynomial(scores, coefficients, self.spectrum.frequency)

    def add_to(
        self, divided: Tensor, scale: Tensor, unit: float, weights: Tensor, keys: np.ndarray | None
    ) -> Tensor:
        """Evaluate scores and polynomial in one pass; see `Evaluation.add_to`."""
        coefficients = scale * self.coefficients(weights, keys)
        frequency = self.spectrum.frequency * unit
        return trigonometric_polynomial(divided, coefficients, frequency, share=1.0)


def _is_plain(weights: Tensor) -> bool:
    """Whether numpy can read a tensor: on the CPU, and no subclass that stands for another one."""
    return weights.device.type == "cpu" and type(weights) in (Tensor, nn.Parameter)


@lru_cache(maxsize=32)
def _as_tensors(
    spectrum: Spectrum, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return both as tensors, made once."""
    with to_be_kept():
        points, matrix = (torch.tensor(array) for array in points_and_matrix(spectrum))
        return points.to(device, dtype), matrix.to(device, dtype)

r"""A circuit of few inputs as a trigonometric polynomial: exact coefficients, fast values.

Each input enters through finitely many rotations, so that for fixed weights a readout of q inputs
is exactly

.. math::
    u(x) = \sum_{P_1 \dots P_q} c_{P_1 \dots P_q} \prod_i P_i(f_i x_i), \qquad
    P_i \in \{1, \cos, \dots, \cos d_i\cdot, \sin, \dots, \sin d_i\cdot\}.

Its values at a grid of :math:`\prod_i (2 d_i + 1)` points determine the coefficients, axis by
axis. So as many circuits do, whatever the number of x at which u is wanted, and on any backend.
Quantum attention takes the same points and the same matrix for its one input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import pi, prod

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.backends.compiled.memory import in_full_precision
from lightning_qsgd.backends.fourier.spectrum import Spectrum, spectra_of
from lightning_qsgd.circuits import ParametrizedCircuit

MOST_POINTS = 625
"""Of the grid: four inputs that enter twice each."""

MOST_COSINES = 2**15
"""Of one evaluation: measured with 1 to 4 qubits, a state vector is never faster up to here."""

MOST_AMPLITUDES = 2**20
"""On the grid, where a sum of cosines is sought: a few milliseconds."""

FAR, EXACT = 100.0, 1e-11
"""So many radians from 0 the cosines must still be the circuit."""

NEGLIGIBLE = 1e-15
"""Frozen coefficients below this are rounding of 0 and cost no evaluation."""


CLOSE = 1e-4
"""How far a backend's readout may be from its circuit's: it may compute in single precision."""


def points_and_matrix(spectrum: Spectrum) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of one input, and what turns values there into coefficients.

    Returns:
        Points, shape (2d + 1,), and a matrix, shape (2d + 1, 2 (d + 1)), to the coefficients of
        cosines for k = 0 to d, then of sines.
    """
    count = 2 * spectrum.degree + 1
    turns = 2 * pi * np.arange(count) / count
    multiples = np.arange(spectrum.degree + 1)
    phases = turns[:, None] * multiples
    weight = np.where(multiples, 2.0, 1.0) / count
    matrix = np.concatenate([np.cos(phases) * weight, np.sin(phases) * weight], axis=1)
    return turns / spectrum.frequency, matrix


@dataclass(frozen=True)
class SeveralInputs:
    """Which polynomials the readouts of a circuit can be.

    Attributes:
        spectra: Lowest frequency and highest multiple of each input.
    """

    spectra: tuple[Spectrum, ...]

    @staticmethod
    @lru_cache(maxsize=32)  # it takes apart every gate, and learned weights ask at every step
    def of(built: ParametrizedCircuit) -> SeveralInputs:
        """Find the frequencies of each input of a circuit.

        Raises:
            ValueError: If they cannot be found, or the grid would have too many points.

        Example:
            >>> from lightning_qsgd.circuits import SuperpositionCircuit
            >>> SeveralInputs.of(SuperpositionCircuit(2, reps=1).build()).num_points
            9
        """
        entering = range(len(built.inputs))
        form = SeveralInputs(tuple(spectra_of(built, entering=(i,))[0] for i in entering))
        if form.num_points > MOST_POINTS:
            degrees = ", ".join(str(spectrum.degree) for spectrum in form.spectra)
            raise ValueError(
                f"The circuit's readouts have degrees {degrees} in its inputs, which takes "
                f"{form.num_points:,} points, over the limit of {MOST_POINTS}: the polynomial "
                "saves nothing. Use at most 4 inputs and 2 layers, such as "
                "SuperpositionCircuit(num_qubits=4, reps=2)."
            )
        return form

    @property
    def num_points(self) -> int:
        """Number of points of the grid, and of coefficients."""
        return prod(self.shape)

    @property
    def shape(self) -> list[int]:
        """Number of points along each input."""
        return [2 * spectrum.degree + 1 for spectrum in self.spectra]

    @property
    def frequencies(self) -> list[float]:
        """Lowest frequency of each input, in radians per unit."""
        return [spectrum.frequency for spectrum in self.spectra]

    @property
    def grid(self) -> Tensor:
        """A copy of the points, shape (num_points, num_inputs), in the inputs' unit, float64."""
        return torch.tensor(self._grid)

    # Kept as arrays: a tensor made in inference mode could not be differentiated through later.

    @cached_property
    def _grid(self) -> np.ndarray:
        axes = [points_and_matrix(spectrum)[0] for spectrum in self.spectra]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))

    @cached_property
    def _matrices(self) -> list[np.ndarray]:
        """For each input, what turns values along its axis into coefficients."""
        full = [(points_and_matrix(spectrum)[1], spectrum.degree) for spectrum in self.spectra]
        return [np.delete(matrix, degree + 1, axis=1) for matrix, degree in full]  # sin(0)

    def coefficients(self, values: Tensor) -> Tensor:
        """Turn values at the grid into coefficients.

        Args:
            values: u at each point, shape (num_points,), float64. Gradients flow through.

        Returns:
            Shape (2 d_1 + 1, ..., 2 d_q + 1): along each axis 1, cosines, then sines.
        """
        result = values.view(self.shape)
        for matrix in self._matrices:  # transforms the first axis and moves it to the end
            result = torch.tensordot(result, torch.tensor(matrix).to(values), dims=([0], [0]))
        return result


class Cosines:
    r"""All readouts of a circuit with fixed weights, as sums of the same cosines.

    .. math:: u_j(x) = a_{0j} + \sum_k a_{kj} \cos(\omega_k \cdot x + \phi_k)

    That takes three operations of torch, whatever the circuit. A few circuits cost calls rather
    than arithmetic, so that they cost less than a state vector's; many cost more.

    Args:
        form: Which polynomials the readouts can be.
        values: Readouts at its grid, shape (num_points, outputs), float64.

    Attributes:
        most: Number of circuits up to which this is the faster way.

    Example:
        >>> from lightning_qsgd.backends import CompiledBackend
        >>> from lightning_qsgd.circuits import SuperpositionCircuit
        >>> backend = CompiledBackend(SuperpositionCircuit(1, reps=1))
        >>> form = SeveralInputs.of(backend.describe())
        >>> cosines = Cosines(form, backend.readout(form.grid))
        >>> cosines(torch.tensor([[0.0], [0.5]]).double()).abs() > 0.5  # the sine of Eq. 2
        tensor([[False],
                [ True]])
    """

    def __init__(self, form: SeveralInputs, values: Tensor) -> None:
        shape = form.shape
        axes = range(len(shape))
        found = np.fft.fftn(values.numpy().reshape(*shape, -1), axes=axes) / form.num_points
        multiples = np.stack(
            np.meshgrid(*(np.fft.fftfreq(count, 1 / count) for count in shape), indexing="ij"), -1
        ).reshape(form.num_points, -1)
        found = found.reshape(form.num_points, -1)
        # c at -k is the conjugate of c at k. The sign of the first multiple that is not 0 says
        # which of both is taken, twice.
        first = np.take_along_axis(multiples, (multiples != 0).argmax(1)[:, None], 1)[:, 0]
        half, multiples = 2 * found[first > 0], multiples[first > 0]
        # Real and imaginary parts of all outputs are cosines of one phase, or of two.
        phases, sizes, outputs = np.linalg.svd(np.stack([half.real, half.imag], 1), False)
        needed = sizes > NEGLIGIBLE
        place = np.nonzero(needed)[0]
        self.most = MOST_COSINES // max(1, len(place))
        self._turns, self._phases, self._sizes, self._constants = (
            torch.from_numpy(np.ascontiguousarray(part))
            for part in (
                (multiples[place] * form.frequencies).T,
                np.arctan2(phases[:, 1], phases[:, 0])[needed],
                (sizes[..., None] * outputs)[needed],
                found[0].real,
            )
        )

    @staticmethod
    def of(
        built: ParametrizedCircuit, read: Callable[[Tensor], Tensor], like: Tensor
    ) -> Cosines | None:
        """Find the cosines of a circuit.

        Args:
            built: The circuit.
            read: Returns readouts, shape (B, outputs), float64, of inputs (B, num_inputs).
            like: An empty tensor of the dtype and on the device of the evaluation.

        Returns:
            None where the circuit has too many, or its frequencies are unknown, or known too
            roughly: nearly equal ones count as equal, which shows far from the grid. Likewise where
            the grid takes more memory than `read` allows.
        """
        least_points = 3 ** len(built.inputs)
        if least_points > MOST_POINTS or least_points * 2**built.num_qubits > MOST_AMPLITUDES:
            return None
        try:
            form = SeveralInputs.of(built)
            if form.num_points * 2**built.num_qubits > MOST_AMPLITUDES:
                return None
            values = read(form.grid)
        except ValueError:
            return None
        turns = np.random.default_rng(0).uniform(-FAR, FAR, (4, len(form.spectra)))
        far = torch.tensor(turns / form.frequencies)
        cosines = Cosines(form, values)
        return cosines._to(like) if (cosines(far) - read(far)).abs().max() < EXACT else None

    def _to(self, like: Tensor) -> Cosines:
        self._turns, self._phases = self._turns.to(like), self._phases.to(like)
        self._sizes, self._constants = self._sizes.to(like), self._constants.to(like)
        return self

    def takes(self, inputs: Tensor) -> bool:
        """Whether inputs are of shape (B, num_inputs), and so few that this is the faster way."""
        return inputs.shape[1:] == self._turns.shape[:1] and len(inputs) <= self.most

    def __call__(self, inputs: Tensor) -> Tensor:
        """Evaluate, shape (B, num_inputs) to (B, outputs)."""
        with in_full_precision(inputs.device.type):
            cosines = torch.addmm(self._phases, inputs, self._turns).cos_()
            return torch.addmm(self._constants, cosines, self._sizes)


def evaluate_polynomial(
    coefficients: Tensor,
    inputs: Sequence[Tensor | float],
    frequencies: Sequence[float] | None = None,
) -> Tensor:
    """Evaluate u at many points.

    Args:
        coefficients: As `SeveralInputs.coefficients` returns them. Gradients flow through.
        inputs: :math:`x_i`: shape (points,) each, of one dtype and device, or a number that all
            points share. One tensor at least. Not changed.
        frequencies: :math:`f_i`, which turn the inputs into radians; None where they are radians.

    Returns:
        Values, shape (points,).

    Example:
        >>> sine = torch.tensor([0.0, 0.0, 1.0])
        >>> evaluate_polynomial(sine, [torch.tensor([0.0, torch.pi / 2])])
        tensor([0., 1.])
    """
    table = coefficients
    bases: list[_Basis] = []
    for axis in range(len(inputs) - 1, -1, -1):
        values, frequency = inputs[axis], frequencies[axis] if frequencies else 1.0
        if isinstance(values, Tensor):
            bases.insert(0, _Basis(values, frequency, table.shape[axis]))
        else:  # folds into the coefficients
            number = torch.tensor(values, dtype=table.dtype, device=table.device)
            functions = _Basis(number, frequency, table.shape[axis]).all()
            table = torch.tensordot(table, functions, dims=([axis], [0]))
    like = bases[0].inputs
    if table.requires_grad:
        return _all_terms(table.to(like), bases)
    value = _needed_terms(table.double().cpu().numpy(), bases)
    return torch.full_like(like, value) if isinstance(value, float) else value


class _Basis:
    """1, cosines and sines of one input, `count` in all; each is evaluated when first asked for."""

    def __init__(self, inputs: Tensor, frequency: float, count: int) -> None:
        self.inputs, self._frequency, self._count = inputs, frequency, count
        self._known: dict[int, Tensor] = {}

    def __getitem__(self, place: int) -> Tensor:
        if place not in self._known:
            self._known[place] = self._function(place)
        return self._known[place]

    def all(self) -> Tensor:
        """Return all functions, shape (count, *inputs.shape)."""
        return torch.stack([self[place] for place in range(self._count)])

    def _function(self, place: int) -> Tensor:
        if place == 0:
            return torch.ones_like(self.inputs)
        degree = self._count // 2
        multiple = place if place <= degree else place - degree
        angle = self.inputs * (self._frequency * multiple)  # a copy, which is written into
        return angle.cos_() if place <= degree else angle.sin_()


def _needed_terms(
    table: np.ndarray, bases: list[_Basis], asked_once: bool = True
) -> Tensor | float:
    """Contract input by input, leaving out what frozen coefficients of 0 multiply.

    The functions of the first input are asked for once each, and may be written into.
    """
    if not bases:
        return float(table) if abs(table) > NEGLIGIBLE else 0.0
    total: Tensor | float = 0.0
    for place, inner in enumerate(table):
        part = _needed_terms(inner, bases[1:], asked_once=False)
        if isinstance(part, float) and part == 0.0:
            continue
        total = _plus(total, part if place == 0 else _times(bases[0][place], part, asked_once))
    return total


def _times(function: Tensor, part: Tensor | float, in_place: bool) -> Tensor:
    if isinstance(part, Tensor):
        return part.mul_(function)
    if not in_place:
        return function * part
    is_one = abs(part - 1.0) < torch.finfo(function.dtype).eps / 4  # as the circuit of Eq. 2 has it
    return function if is_one else function.mul_(part)


def _plus(total: Tensor | float, part: Tensor | float) -> Tensor | float:
    if isinstance(total, float) and isinstance(part, float):
        return total + part
    if isinstance(part, float):
        return total.add_(part)  # type: ignore[union-attr]
    return part if isinstance(total, float) and total == 0.0 else part.add_(total)


def _all_terms(table: Tensor, bases: list[_Basis]) -> Tensor:
    """Contract input by input, with a gradient for every coefficient."""
    value = table @ bases[-1].all()
    for basis in reversed(bases[:-1]):
        value = (value * basis.all()).sum(-2)
    return value

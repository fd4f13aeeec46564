r"""What the circuit sees is a matrix' singular values, and its singular directions are touched.

    M          <- the base's momentum, after its step             (rows, columns)
    s          =  singular values of M / the largest, in [0, 1]
    u          =  the circuit's readout of s
    delta      <- the base's step without weight decay
    a          =  |delta| / sqrt(min(rows, columns)), how far one direction moves on average
    new        =  delta - strength * a * U u(s) V^T,  scaled to the norm of delta

Muon's step is delta = -a U V^T, up to what its iteration leaves open. So for Muon the new step is
-a U (1 + strength * u(s)) V^T, scaled: each singular direction moves by its own amount. Another
base keeps its step, and the same directions are added on top.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends import Backend
from lightning_qsgd.perturbations.blocks import checked_readout
from lightning_qsgd.perturbations.controls import cycle
from lightning_qsgd.perturbations.injection import Injection
from lightning_qsgd.perturbations.keyed_draws import block_keys, keyed_draws, stream_key
from lightning_qsgd.perturbations.spectrum import (
    LINEAR_BELOW,
    SpectralFunction,
    exact_part,
    odd_coefficients,
    polynomial_parts,
)
from lightning_qsgd.perturbations.step import (
    CHUNK,
    Row,
    TouchedStep,
    is_matrix,
    is_orthogonalized,
)

MOMENTA = ("momentum_buffer", "exp_avg")
"""Keys of a base's state under which its momentum is looked for, in this order."""

NODES = 64
"""Points of [0, 1] at which a circuit is read out; a smooth function is known between them."""

AVERAGE = 0.95
"""Decay of the gradients' average that stands in where a base keeps no momentum."""

ITERATIONS = 2
"""Products with a vector per step that max S is looked for by, before it is checked."""

LEAST_SHARE = 0.1
"""The new step is scaled up by at most the inverse of this: it could be almost nothing."""


@dataclass(frozen=True)
class SpectralInjection(Injection):
    """Changes how far each singular direction of a matrix moves; the step's norm is kept.

    In float32 and on top of a Muon that iterates in bfloat16, the polynomial's matrix products run
    in bfloat16, too.
    The circuit has one input, s, or two, s and the progress t / `total_steps`; u is read from its
    first qubit. It is evaluated at 64 points before the base moves, and interpolated: once in a
    training if it draws no shots and does not see the progress. Choose matrices by
    `HiddenMatrices`.

    Args:
        matrix: Whose directions: "momentum" takes the base's, an average of the gradients where it
            keeps none; "step" takes the base's step itself, which a linear u only rescales.
        evaluation: "polynomial" needs matrix products only, and u(0) = 0; "exact" decomposes.
        tolerance: Largest error of u in the polynomial, above 0; that of max S adds 0.01 at most.
        permuted: Give each direction the u of another one, a classical control; exact only.
        total_steps: Steps of the training, where the circuit sees the progress.

    Attributes:
        iterations: Products with a vector per step that the polynomial looks for max S by. What
            they find is checked, and looked for again where it changes u by more
            than 0.01. A subclass may take more of them.

    Raises:
        ValueError: If an argument is out of range, or a permutation is asked of a polynomial.

    Example:
        >>> SpectralInjection().evaluation
        'polynomial'

    References:
        Gilyén et al. 2019, Quantum singular value transformation and beyond, arXiv:1806.01838.
    """

    matrix: Literal["momentum", "step"] = "momentum"
    evaluation: Literal["polynomial", "exact"] = "polynomial"
    tolerance: float = 5e-3
    permuted: bool = False
    total_steps: int | None = None

    iterations: ClassVar[int] = ITERATIONS
    modulated = False
    needs_base_step = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"Unknown `{name}` {getattr(self, name)!r} of the spectrum: there is nothing "
                    f"of that name. Choose one of {', '.join(known)}."
                )
        if not 0 < self.tolerance < 1:
            raise ValueError(
                f"Expected `tolerance` in (0, 1), got {self.tolerance}: it is the error of u, "
                "which lies in [-1, 1]. Use 5e-3, which is less than Muon's iteration leaves open."
            )
        if self.permuted and self.evaluation != "exact":
            raise ValueError(
                "Cannot permute what is evaluated as a polynomial: it never tells the directions "
                "apart. Set evaluation='exact'."
            )
        if self.total_steps is not None and self.total_steps < 1:
            raise ValueError(
                f"Expected `total_steps` to be at least 1, got {self.total_steps}: the progress is "
                "a share of it. Give the number of optimizer steps, or leave it out."
            )

    @override
    def check_backend(self, backend: Backend) -> None:
        sees_progress = not backend.separable and backend.num_qubits == 2
        if not backend.separable and backend.num_qubits > 2:
            raise ValueError(
                f"Cannot read a spectrum from a circuit of {backend.num_qubits} inputs: there are "
                "a singular value and the progress. Use a circuit of one or two inputs, such as "
                "SignalProcessingCircuit."
            )
        if sees_progress != (self.total_steps is not None):
            raise ValueError(
                f"Got `total_steps` {self.total_steps} and a circuit "
                f"{'with' if sees_progress else 'without'} an input for the progress: the two go "
                "together. Set or leave out both."
            )

    @override
    def evaluate(self, backend: Backend, step: TouchedStep) -> SpectralFunction:
        """Read u at the nodes; refuse what is no whole matrix."""
        for row in step.rows:
            if not is_matrix(row.parameter) or row.size != row.parameter.numel():
                raise ValueError(
                    f"Cannot take the spectrum of {row.size} entries of a parameter of shape "
                    f"{tuple(row.parameter.shape)}: it needs whole matrices. Set "
                    "coordinates=HiddenMatrices()."
                )
        if self.total_steps is not None:
            progress = min(1.0, step.seed_and_step[1] / self.total_steps)
            return _function_of(backend, step.seed_and_step, progress)
        if backend.stochastic:
            return _function_of(backend, step.seed_and_step, 0.0)
        # Not for other optimizers: a backend or its file may change from one training to the next.
        if "function" not in step.kept:
            step.kept["function"] = _function_of(backend, step.seed_and_step, 0.0)
        function: SpectralFunction = step.kept["function"]
        return function

    @override
    def coefficients(self, step: TouchedStep) -> Tensor:
        changes = [self._changes(part) for _, part in step.parts(CHUNK)]
        return changes[0] if len(changes) == 1 else torch.cat(changes)

    def _changes(self, step: TouchedStep) -> Tensor:
        """Return the coefficients of a few matrices, which stay in a processor's cache."""
        moved = step.without_decay()
        matrices = moved.neg() if self.matrix == "step" else _momenta(step)
        parts: dict[tuple[int, int], Tensor] = {}  # by their places
        for blocks in _by_smaller_side(step):
            stacks = [block.stacked(matrices) for block in blocks]
            for block, shaped in zip(blocks, self._parts(stacks, step, blocks), strict=True):
                parts.update(zip(block.places, shaped.flatten(1).unbind(), strict=True))
        return _change(torch.cat([parts[place] for place in sorted(parts)]), moved, step)

    def _parts(
        self, matrices: list[Tensor], step: TouchedStep, blocks: list["_Block"]
    ) -> list[Tensor]:
        """Return U u(s) V^T of each matrix."""
        function: SpectralFunction = step.evaluated
        if self.evaluation == "exact":
            if not self.permuted:
                return [exact_part(stack, function) for stack in matrices]
            return [
                exact_part(stack, _permuted(function, stack, step, block), 1e-5)
                for stack, block in zip(matrices, blocks, strict=True)
            ]
        coefficients = self._coefficients(function, step)
        memory = step.memory
        keys = [f"start of {row.name}" for block in blocks for row in block.rows]
        count = min(matrices[0].shape[1:])
        known = all(key in memory and len(memory[key]) == count for key in keys)
        start = torch.stack([memory[key].to(matrices[0]) for key in keys]) if known else None
        products = _precision(step, blocks, matrices[0].dtype)
        parts, vectors = polynomial_parts(matrices, coefficients, start, self.iterations, products)
        memory.update(zip(keys, vectors.unbind(), strict=True))
        return parts

    def _coefficients(self, function: SpectralFunction, step: TouchedStep) -> list[float]:
        of, known = step.kept.get("coefficients", (None, []))
        if of is not function:
            known = odd_coefficients(function, self.tolerance)
            step.kept["coefficients"] = function, known
        coefficients: list[float] = known
        return coefficients


def _precision(step: TouchedStep, blocks: list["_Block"], dtype: torch.dtype) -> torch.dtype:
    """Return bfloat16 for float32 matrices of a Muon whose own step is rounded to it, too."""
    groups = [step.groups[block.rows[0].group] for block in blocks]
    is_large = min(blocks[0].shape) >= 128
    is_rounded = all(
        is_orthogonalized(group) and group.get("iteration_dtype", "bfloat16") == "bfloat16"
        for group in groups
    )
    return torch.bfloat16 if dtype == torch.float32 and is_large and is_rounded else dtype


def _change(part: Tensor, moved: Tensor, step: TouchedStep) -> Tensor:
    """Return the new step minus the base's, per unit of strength; see the module.

    Args:
        part: U u(s) V^T of all matrices, shape (entries,); overwritten.
        moved: The base's step without weight decay, shape (entries,).
        step: Its strength is what the optimizer multiplies with: it is divided by here.
    """
    strength, pieces = step.strength, part.split(step.sizes)
    sizes = _norms(moved.split(step.sizes))
    sides = [min(row.parameter.shape[0], row.size // row.parameter.shape[0]) for row in step.rows]
    shares = [-strength * size / side**0.5 for size, side in zip(sizes, sides, strict=True)]
    torch._foreach_mul_(pieces, shares)
    part.add_(moved)
    scales = [
        size / max(length, LEAST_SHARE * size, _TINY)
        for size, length in zip(sizes, _norms(pieces), strict=True)
    ]
    torch._foreach_mul_(pieces, [scale / strength for scale in scales])
    return part.sub_(moved, alpha=1 / strength)


def _norms(pieces: tuple[Tensor, ...]) -> list[float]:
    norms: list[float] = torch.stack(torch._foreach_norm(pieces)).tolist()
    pairs = zip(norms, pieces, strict=True)
    # Squares of entries far from 1 vanish or overflow: such pieces are divided by the largest.
    return [norm if 1e-15 < norm < 1e15 else _norm_over_largest(piece) for norm, piece in pairs]


def _norm_over_largest(piece: Tensor) -> float:
    largest = piece.abs().amax()
    if largest == 0:
        return 0.0
    return float(largest) * float(torch.linalg.vector_norm(piece / largest))


_CHOICES = {"matrix": ("momentum", "step"), "evaluation": ("polynomial", "exact")}
_TINY = 1e-300


class _Block(NamedTuple):
    """Touched matrices of one shape and parameter group, and where they lie among the entries."""

    rows: tuple[Row, ...]
    places: tuple[tuple[int, int], ...]
    shape: tuple[int, int]

    def stacked(self, entries: Tensor) -> Tensor:
        """Return a copy of their entries, shape (matrices, rows, columns)."""
        return torch.stack([entries[start:stop].view(self.shape) for start, stop in self.places])


def _by_smaller_side(step: TouchedStep) -> Iterable[list[_Block]]:
    """Group the touched matrices into blocks, and blocks by what their Gram matrices measure."""
    stops = list(accumulate(step.sizes))
    placed = [(row, (stop - row.size, stop)) for row, stop in zip(step.rows, stops, strict=True)]
    kinds: dict[tuple[int, int, int], list[Any]] = {}
    for row, place in placed:
        shape = row.parameter.shape
        kinds.setdefault((row.group, shape[0], prod(shape[1:])), []).append((row, place))
    sides: dict[int, list[_Block]] = {}
    for (_, height, width), items in kinds.items():
        rows, places = zip(*items, strict=True)
        block = _Block(rows, places, (height, width))
        sides.setdefault(min(height, width), []).append(block)
    return sides.values()


def _momenta(step: TouchedStep) -> Tensor:
    """Return what the base averages of the gradients, shape (entries,)."""
    stops = accumulate(step.sizes)
    found = [
        _momentum_of(step, row, slice(stop - row.size, stop))
        for row, stop in zip(step.rows, stops, strict=True)
    ]
    momenta = torch.cat(found).to(step.theta)
    for index, start, stop in step.bounds:
        group = step.groups[index]
        if group.get("nesterov") and is_orthogonalized(group):  # it takes the sign of the next one
            seen = step.gradient[start:stop]
            torch.lerp(seen, momenta[start:stop], group["momentum"], out=momenta[start:stop])
    return momenta


def _momentum_of(step: TouchedStep, row: Row, place: slice) -> Tensor:
    state, group = step.state.get(row.parameter, {}), step.groups[row.group]
    # Where a group has no momentum, some bases keep a buffer of zeros, or one of another time.
    unused = group.get("momentum") == 0 and not is_orthogonalized(group)
    for key in MOMENTA[1:] if unused else MOMENTA:
        value = state.get(key)
        if isinstance(value, Tensor) and value.shape == row.parameter.shape:
            whole: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
            return whole.reshape(-1)
    gradient = step.gradient[place]
    key = f"average of {row.name}"
    before = step.memory.get(key)
    if before is None or before.shape != gradient.shape:
        before = torch.zeros_like(gradient)
    before = before.to(gradient)
    average = torch.lerp(gradient, before, AVERAGE)
    # A gradient that is not finite is seen at its own step alone: an average never forgets it.
    step.memory[key] = torch.where(torch.isfinite(average).all(), average, before)
    return average


def _permuted(
    function: SpectralFunction, matrices: Tensor, step: TouchedStep, block: _Block
) -> SpectralFunction:
    count = min(matrices.shape[1:])
    drawn = keyed_draws(cycle, [(row.name, count) for row in block.rows], step.seed_and_step)
    sources = torch.from_numpy(drawn).view(-1, count).to(matrices.device)
    return lambda s: function(s).gather(1, sources)


def _function_of(
    backend: Backend, seed_and_step: tuple[int, int], progress: float
) -> SpectralFunction:
    """Interpolate the readout of a backend between its values at the nodes."""
    keys = block_keys(stream_key(*seed_and_step, "spectrum"), NODES) if backend.stochastic else None

    def read(s: Tensor) -> Tensor:
        other = [torch.full_like(s, progress)] if backend.num_qubits == 2 else []
        inputs = torch.stack([s, *other], dim=1)
        return checked_readout(backend, inputs, keys, seed_and_step[1])[:, 0]

    return interpolated(read, is_noisy=backend.stochastic)


def interpolated(read: SpectralFunction, is_noisy: bool = False) -> SpectralFunction:
    """Return a function that is evaluated at 64 Chebyshev nodes of [0, 1], and never again.

    Args:
        read: Evaluates it, float64, shape (64,).
        is_noisy: Whether it draws shots: their noise is then interpolated as well.

    Returns:
        The Chebyshev series through the nodes, for s of any shape.

    Raises:
        FloatingPointError: If a value is not finite.
        ValueError: If the series has not converged: the function has too many bends.

    Example:
        >>> squared = interpolated(lambda s: s**2)
        >>> round(squared(torch.tensor(0.3)).item(), 6)
        0.09
    """
    angles = np.pi * (np.arange(NODES) + 0.5) / NODES
    values = read(torch.from_numpy((1 + np.cos(angles)) / 2)).double().cpu()
    if not bool(torch.isfinite(values).all()):
        raise FloatingPointError(
            "The circuit's readout of singular values is not finite: it cannot be trusted. No "
            "parameter was changed; check the backend and its sampler."
        )
    degrees = torch.arange(NODES, dtype=torch.float64)
    coefficients = 2 / NODES * torch.cos(degrees[:, None] * torch.from_numpy(angles)) @ values
    coefficients[0] /= 2
    left = float(coefficients[-4:].abs().sum())
    if left > LINEAR_BELOW and not is_noisy:
        raise ValueError(
            f"Cannot interpolate the circuit's readout between {NODES} singular values: the last "
            f"coefficients add up to {left:.1e} instead of nearly 0. Use a circuit that the "
            "singular value enters less often, or with a smaller factor."
        )

    def function(s: Tensor) -> Tensor:
        phase = torch.arccos((2.0 * s.double() - 1.0).clamp(-1.0, 1.0))
        waves = torch.cos(phase[..., None] * degrees.to(s.device))
        return (waves @ coefficients.to(s.device)).to(s.dtype)

    return function

r"""Features: what the circuit sees, the parameters themselves or what the step knows of them.

A feature gives every touched entry a number f in [-1, 1]; q features are the q inputs of one
circuit per entry, with the angle :math:`\pi f / 2`. One qubit then reads :math:`\sin(\pi f / 2)`,
and u is the mean of the readouts of all q qubits. `entry_features.py` holds the features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.argument_checks import in_order
from lightning_qsgd.backends import Backend
from lightning_qsgd.backends.backend import is_ours, promises_end
from lightning_qsgd.backends.fourier.several_inputs import CLOSE, SeveralInputs, evaluate_polynomial
from lightning_qsgd.perturbations.blocks import (
    MOVED,
    UNTOUCHED,
    Blocks,
    checked_feature,
    checked_readout,
    modulation,
)
from lightning_qsgd.perturbations.controls import permuted_within
from lightning_qsgd.perturbations.keyed_draws import block_keys, stream_key
from lightning_qsgd.perturbations.step import CHUNK, TouchedStep

Seen = Sequence[Tensor | float]
"""The features of all entries, shape (entries,) each, or a number that all entries share."""

Reader = Callable[[Seen], Tensor]
"""Turns features into u, shape (entries,)."""

HALF = 0.5
"""Circuits multiply their inputs by pi: half a feature is the angle pi/2 times the feature."""


class Features(ABC):
    """Says what the circuit sees of each touched entry."""

    reads_once: ClassVar[bool] = True
    """Whether circuits are evaluated once per change of their weights, not once per step."""

    @property
    @abstractmethod
    def needs_gradient(self) -> bool:
        """Whether the gradient is read."""

    @property
    @abstractmethod
    def needs_base_step(self) -> bool:
        """Whether the features are known only after the base has moved."""

    @abstractmethod
    def seen(self, step: TouchedStep) -> Seen:
        """Return the features of a step; see `Seen`."""

    def shown(self, step: TouchedStep) -> Seen:
        """Return the features of a step as the circuit takes them."""
        return self.seen(step)

    @abstractmethod
    def check(self, backend: Backend) -> None:
        """Raise a ValueError if a backend cannot take these features."""

    @abstractmethod
    def reader(
        self,
        backend: Backend,
        blocks: Blocks,
        seed_and_step: tuple[int, int],
        weights: Tensor | None,
    ) -> Reader:
        """Prepare the evaluation of u, before the base moves.

        Args:
            backend: Evaluates the circuits.
            blocks: How entries are cut into blocks of qubits.
            seed_and_step: The seed and the step, which name the shots.
            weights: The circuit's weights where they are learned; u carries their gradient.

        Raises:
            FloatingPointError: If the backend returns a readout that is not finite.
        """

    @abstractmethod
    def circuits(self, backend: Backend, num_blocks: int) -> int:
        """Count the rows of inputs that the backend is asked for, each time it is asked."""

    def modulation(self, step: TouchedStep, reader: Reader) -> Tensor:
        """Return u on all touched entries, shape (entries,)."""
        return reader(self.seen(step))


@dataclass(frozen=True)
class Parameters(Features):
    """Shows the circuit the parameters: n neighbouring entries are the n qubits of a block.

    The paper's choice, with the angle pi * theta, and the default.
    """

    reads_once = False
    needs_gradient = False
    needs_base_step = False

    @override
    def seen(self, step: TouchedStep) -> Seen:
        return (step.theta,)

    @override
    def check(self, backend: Backend) -> None:
        """Accept any backend."""

    @override
    def reader(
        self,
        backend: Backend,
        blocks: Blocks,
        seed_and_step: tuple[int, int],
        weights: Tensor | None,
    ) -> Reader:
        return lambda seen: modulation(backend, seen[0], blocks, seed_and_step, weights)  # type: ignore[arg-type]

    @override
    def circuits(self, backend: Backend, num_blocks: int) -> int:
        return num_blocks


class EntryFeatures(Features):
    """Features of which each entry has its own; the base of all but `Parameters`.

    The circuit is evaluated at a grid, once per change of its weights, and the polynomial that it
    is on every entry. A backend that describes no circuit is asked for every entry instead.
    """

    count: ClassVar[int] = 1
    """Number of features, and of the circuit's inputs."""

    bounded: ClassVar[bool] = False
    """Whether all values are known to lie in [-1, 1] where the step is finite; others are checked.

    A subclass with values of its own does not inherit the promise.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        promises_end(cls, {"values", "seen"}, bounded=False)

    def shown(self, step: TouchedStep) -> Seen:
        """Return the features of a step as the circuit takes them, at least one as a vector.

        What a user's feature returned is converted to the dtype and device of the parameters.

        Raises:
            TypeError: If a feature is neither a tensor nor a number.
            ValueError: If it has another shape than the entries, or leaves [-1, 1].
            FloatingPointError: If it is not finite at a step that is.
        """
        seen = self.seen(step)
        if len(seen) != self.count:
            raise ValueError(
                f"{type(self).__name__} returned {len(seen)} features, and its `count` is "
                f"{self.count}: each is an input of the circuit. Set `count` in the class."
            )
        sources = ((each, self._source(place)) for place, each in enumerate(seen))
        shown = [
            checked_feature(each, type(source).__name__, source.bounded, step)
            for each, source in sources
        ]
        if not any(isinstance(each, Tensor) for each in shown):
            shown[0] = torch.full_like(step.theta, shown[0])  # type: ignore[arg-type]
        return shown

    def _source(self, place: int) -> "EntryFeatures":
        """Return where the feature at this place comes from."""
        return self

    @override
    def check(self, backend: Backend) -> None:
        if backend.separable:
            return
        if backend.num_qubits != self.count:
            raise ValueError(
                f"{self!r} shows each circuit {self.count} "
                f"{'feature' if self.count == 1 else 'features'}, and the circuit of "
                f"{type(backend).__name__} has {backend.num_qubits} inputs. Give it one input per "
                f"feature, such as SuperpositionCircuit(num_qubits={self.count})."
            )
        built = backend.describe()
        if built is not None:
            SeveralInputs.of(built)

    @override
    def reader(
        self,
        backend: Backend,
        blocks: Blocks,
        seed_and_step: tuple[int, int],
        weights: Tensor | None,
    ) -> Reader:
        built = None if backend.separable else backend.describe()
        if built is None:
            untouched = MOVED if self.needs_base_step else UNTOUCHED
            return lambda seen: _read_each(backend, filled(seen), weights, untouched, seed_and_step)
        form = SeveralInputs.of(built)
        # The same shots at every evaluation: a resumed run must find the same polynomial.
        stream = stream_key(seed_and_step[0], 0, "features")
        keys = block_keys(stream, form.num_points) if backend.stochastic else None
        values = checked_readout(backend, form.grid, keys, seed_and_step[1], weights)
        coefficients = form.coefficients(_mean(values))
        if not (is_ours(type(backend)) or backend.stochastic):
            _check_polynomial(backend, form, coefficients, weights)
        scales = [HALF * frequency for frequency in form.frequencies]

        def read(seen: Seen) -> Tensor:
            return evaluate_polynomial(coefficients, seen, scales)

        return read

    @override
    def circuits(self, backend: Backend, num_blocks: int) -> int:
        built = None if backend.separable else backend.describe()
        return 0 if built is None else SeveralInputs.of(built).num_points

    @override
    def modulation(self, step: TouchedStep, reader: Reader) -> Tensor:
        parts = [reader(self.shown(part)) for _, part in step.parts(CHUNK)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _check_polynomial(
    backend: Backend, form: SeveralInputs, coefficients: Tensor, weights: Tensor | None
) -> None:
    """Refuse a user's backend that reads something else than the circuit which it describes."""
    between = [0.31 + 0.17 * place for place in range(len(form.spectra))]  # the points of any grid
    inputs = torch.tensor([between, between]).to(coefficients)
    read, again = _mean(checked_readout(backend, inputs, None, None, weights)).tolist()
    found = evaluate_polynomial(coefficients.detach(), [*inputs.T], form.frequencies)[0].item()
    if abs(read - found) > CLOSE and read == again:  # others draw shots that need no keys
        raise ValueError(
            f"{type(backend).__name__} reads {read:.6g} where the circuit that it describes can "
            f"only read {found:.6g}: with features a circuit is evaluated as the polynomial that "
            f"it is. {UNTOUCHED}; return None from `describe`, for `readout` to be asked for every "
            "entry."
        )


def _read_each(
    backend: Backend,
    features: list[Tensor],
    weights: Tensor | None,
    untouched: str,
    seed_and_step: tuple[int, int],
) -> Tensor:
    """Ask a backend that describes no circuit for every entry, shape (entries,)."""
    inputs = torch.stack(features, -1) * HALF
    keys = None
    if backend.stochastic:  # the same shots at every step, as on a grid
        keys = block_keys(stream_key(seed_and_step[0], 0, "features"), len(inputs))
    if backend.bounded:
        return _mean(checked_readout(backend, inputs, keys, None, weights, untouched))
    # A backend is promised finite numbers; a feature that is not finite still has no readout.
    finite = torch.nan_to_num(inputs, 0.0, 0.0, 0.0)
    lost = inputs.sub_(finite)
    return _mean(checked_readout(backend, finite, keys, None, weights, untouched) + lost)


def _mean(readouts: Tensor) -> Tensor:
    """Average over qubits, shape (rows, qubits) to (rows,)."""
    return readouts[..., 0] if readouts.shape[-1] == 1 else readouts.mean(-1)


def filled(seen: Seen) -> list[Tensor]:
    """Return every feature as a vector."""
    like = next(each for each in seen if isinstance(each, Tensor))
    return [e if isinstance(e, Tensor) else torch.full_like(like, e) for e in seen]


class Feature(EntryFeatures):
    """One number per entry; the base of a feature of your own."""

    needs_gradient = False
    needs_base_step = False

    @abstractmethod
    def values(self, step: TouchedStep) -> Tensor | float:
        """Return the feature of each entry in [-1, 1], shape (entries,), or one for all.

        Args:
            step: What is known of the step. Its tensors may be some of the touched ones; rms and
                means are per tensor. Do not change them.
        """

    @override
    def seen(self, step: TouchedStep) -> Seen:
        return [self.values(step)]


@dataclass(frozen=True)
class Together(EntryFeatures):
    """Shows several features at once, each to a qubit of its own.

    Args:
        features: At least one; their order is that of the circuit's inputs.

    Raises:
        TypeError: If one is no `Feature`.
        ValueError: If there is none.

    Example:
        >>> from lightning_qsgd.perturbations import Alignment, Gradient
        >>> Together([Alignment(), Gradient()]).count
        2
    """

    features: Sequence[Feature]

    def __post_init__(self) -> None:
        for each in in_order("features", self.features):
            if not isinstance(each, Feature):
                raise TypeError(
                    f"Expected `features` to hold features of entries, got {type(each).__name__}: "
                    "each is one input of a circuit. Pass e.g. [Alignment(), Gradient()]."
                )
        if not self.features:
            raise ValueError(
                "Expected `features` to hold one feature at least, got none: the circuit would see "
                "nothing. Pass e.g. [Alignment(), Gradient()]."
            )

    @property
    def count(self) -> int:  # type: ignore[override]
        """Number of features."""
        return len(self.features)

    @property
    @override
    def needs_gradient(self) -> bool:
        return any(each.needs_gradient for each in self.features)

    @property
    @override
    def needs_base_step(self) -> bool:
        return any(each.needs_base_step for each in self.features)

    @override
    def seen(self, step: TouchedStep) -> Seen:
        return [each.values(step) for each in self.features]

    @override
    def _source(self, place: int) -> EntryFeatures:
        return self.features[place]


@dataclass(frozen=True)
class PermutedFeatures(EntryFeatures):
    """Shows each entry the features of another entry of its tensor: a classical control arm.

    What ties a feature to its own entry is lost, and nothing else: all features of an entry move
    together, in a cycle that is drawn anew at every step.

    Args:
        of: The features.
    """

    of: EntryFeatures

    bounded = True  # what it permutes is checked

    @property
    def count(self) -> int:  # type: ignore[override]
        """Number of features."""
        return self.of.count

    @property
    @override
    def needs_gradient(self) -> bool:
        return self.of.needs_gradient

    @property
    @override
    def needs_base_step(self) -> bool:
        return self.of.needs_base_step

    @override
    def seen(self, step: TouchedStep) -> Seen:
        sources = permuted_within(step.names, step.sizes, step.seed_and_step).to(step.theta.device)
        return [e[sources] if isinstance(e, Tensor) else e for e in self.of.shown(step)]

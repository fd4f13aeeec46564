"""Learning strength and weights by hypergradient while training runs.

Step t moved the touched entries by ``m * c * u(w)`` beside the base's step, so that with the next
gradient g the chain rule gives ``dL/dm = <g, c * u>`` and ``dL/dw = m * <g, c * du/dw>``. Both are
divided here by norms, and the second by m; see `Learning` for why.

    m, w   <- learn from <g_t, last perturbation>, when g_t is there      (hypergradient.py)
    Q      <- c_t * u(theta_t; w)
    theta  <- base(theta) + m * Q, which the next step learns from        (own_state.py)

Nothing learned is kept unless the step succeeds: the optimizer takes `learned` over at its end.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import isfinite
from time import perf_counter

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_qsgd.backends.evaluation import current_account
from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.injector import Injector, descended
from lightning_qsgd.optimizers.motion import Estimate
from lightning_qsgd.optimizers.own_state import Learned, OwnState, Pending, places_of, row_size
from lightning_qsgd.optimizers.perturbed_step import Measured, PerturbedStep
from lightning_qsgd.optimizers.report import StepReport
from lightning_qsgd.optimizers.touched import EntriesCache
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.perturbations.blocks import Blocks
from lightning_qsgd.perturbations.features import Reader, filled
from lightning_qsgd.perturbations.step import TouchedStep


def strength_hypergradient(gradient: Tensor, direction: Tensor) -> float:
    """Return the cosine between the next gradient and the last perturbation.

    Positive where the perturbation raised the loss.

    Args:
        gradient: Gradient of the next loss on the entries that were perturbed, shape (entries,).
        direction: What a factor of 1 adds to them, c * u, shape (entries,).

    Returns:
        A value in [-1, 1]; 0 where it is not defined: a vector is zero or not finite.

    Example:
        >>> strength_hypergradient(torch.tensor([3.0, 0.0]), torch.tensor([-2e-30, 0.0]))
        -1.0

    References:
        Baydin et al. 2018, arXiv:1703.04782, Eq. 5 and its normalised form.
    """
    cosine = float(_unit(gradient).dot(_unit(direction)))
    return max(-1.0, min(1.0, cosine)) if isfinite(cosine) else 0.0


def weights_hypergradient(
    gradient: Tensor,
    coefficients: Tensor,
    modulate: Callable[[Tensor], Tensor],
    weights: Tensor,
) -> Tensor:
    r"""Differentiate ``<g, c * u(w)> / (|g| |c|)`` by the weights: one vector-Jacobian product.

    Args:
        gradient: Gradient of the next loss on the entries that were perturbed, shape (entries,).
        coefficients: c, shape (entries,): what a modulation of 1 adds to them.
        modulate: Evaluates u, shape (entries,), at the parameters of the last step.
        weights: The circuit's weights in radians at that step, shape (num_weights,).

    Returns:
        The derivative per radian, with shape, dtype and device of `weights`; 0 where it is not
        defined: a vector is zero, or anything is not finite.

    Raises:
        TypeError: If the modulation does not carry the gradient of its weights.

    Example:
        >>> one, w = torch.ones(1), torch.zeros(1)
        >>> weights_hypergradient(2 * one, -3 * one, torch.sin, w)
        tensor([-1.])
    """
    flow = _unit(gradient) * _unit(coefficients)
    with torch.enable_grad():
        leaf = weights.detach().clone().requires_grad_()
        u = modulate(leaf)
        derivative = None
        if u.requires_grad:
            (derivative,) = torch.autograd.grad(
                u, leaf, flow.to(u.device, u.dtype), allow_unused=True
            )
    if derivative is None:
        raise TypeError(
            "Cannot learn the circuit's weights: the backend's readout carries no gradient for "
            "them. Set `weights_rate` to 0, or take a backend that is differentiable."
        )
    return derivative if bool(torch.isfinite(derivative).all()) else torch.zeros_like(derivative)


def _unit(vector: Tensor) -> Tensor:
    """Divide by the norm, by the largest entry first: squares of small entries would vanish."""
    scaled = vector / vector.abs().amax()
    return scaled.div_(torch.linalg.vector_norm(scaled))


class LearningStep(PerturbedStep):
    """Carries out one step with a learned strength, learned weights, or both.

    The gradient is read where a perturbation reads it: accumulated, unscaled and clipped, at the
    closure's first evaluation. Where no gradient follows the last perturbation on the same
    parameters, nothing is learned from it.

    Args:
        perturbation: What to add; its `learning` is set.
        base: The base optimizer.
        state: Its counters tell which step this is; it holds what was known after the last one.
        strength: The schedule's, at this step; at 0 it only learns.
        measured: What to measure.

    Attributes:
        learned: What is known after this step.
    """

    learned: Learned

    def __init__(
        self,
        perturbation: Perturbation,
        base: Optimizer,
        state: OwnState,
        strength: float,
        measured: Measured,
    ) -> None:
        super().__init__(perturbation, base, state, strength, measured)
        assert state.learned is not None
        self.learned = replace(state.learned, pending=None)
        self._pending = state.learned.pending

    def prepare(self, cache: EntriesCache, memory: dict[str, Tensor]) -> None:
        """Learn, then prepare with what was learned; see `PerturbedStep.prepare`."""
        start = perf_counter()
        entries = self._pending.entries_in(self._groups) if self._pending else None
        if self._pending is not None and entries is not None:
            with torch.no_grad():
                self._learn(self._pending, entries, cache)
        seconds = perf_counter() - start
        if self._strength > 0:
            super().prepare(cache, memory)
            self._seconds += seconds
            self.is_prepared = self.is_prepared and self.learned.factor > 0  # else nothing is added

    def apply(self) -> StepReport | None:
        """Apply the perturbation and keep it to learn from; see `PerturbedStep.apply`."""
        injectors = tuple(self._injectors)  # one: what is learned from is kept whole
        report = super().apply()
        for injector in injectors:
            self.learned = replace(self.learned, pending=self._to_learn_from(injector))
        return report

    def _learn(self, pending: Pending, entries: Entries, cache: EntriesCache) -> None:
        learning, factor, weights = self.learned.learning, self.learned.factor, self.learned.weights
        gradient = descended(entries.read_gradients(), entries, self._groups)
        if learning.strength_rate > 0:
            change = strength_hypergradient(gradient, pending.direction.to(gradient))
            factor = max(0.0, factor - float(learning.strength_rate) * change)
        if weights is not None and pending.coefficients is not None and pending.inputs is not None:
            blocks = cache.blocks_of(entries.rows)
            modulate = partial(self._modulate, pending.inputs.to(gradient), blocks, pending)
            coefficients = pending.coefficients.to(gradient)
            before = _circuits_so_far()
            derivative = self._together(
                entries,
                partial(weights_hypergradient, gradient, coefficients, modulate, weights),
            )
            weights = weights - learning.weights_rate * derivative
            backend, features = self._perturbation.backend, self._perturbation.seen
            evaluated = backend.circuits_for(features.circuits(backend, blocks.total))
            # A backend that keeps count knows better: parameter shifts are circuits, too.
            self._circuits = max(evaluated, _circuits_so_far() - before)
        self.learned = replace(self.learned, factor=factor, weights=weights)

    def _modulate(self, seen: Tensor, blocks: Blocks, pending: Pending, weights: Tensor) -> Tensor:
        """Return the modulation of the last step with other weights, shape (entries,)."""
        perturbation = self._perturbation
        seed_and_step = (perturbation.seed, pending.step)
        reader = perturbation.seen.reader(perturbation.backend, blocks, seed_and_step, weights)
        u = reader(seen.view(-1, len(pending.direction)).unbind())
        sizes = [row_size(chosen) for *_, chosen in pending.places]
        strength = perturbation.schedule.at(pending.step)
        return perturbation.injection.shaped(u, sizes, strength)

    def _injector_for(self, entries: Entries, step: TouchedStep, reader: Reader) -> Injector:
        features = self._perturbation.seen

        def modulate(step: TouchedStep) -> Tensor:
            if self.learned.weights is None:
                return features.modulation(step, reader)
            seen = filled(features.shown(step))
            self._seen = torch.stack(seen) if len(seen) > 1 else seen[0]
            return reader(seen)

        return Injector(self._perturbation, entries, step, modulate, self.learned.factor)

    def _to_learn_from(self, injector: Injector) -> Pending:
        entries, direction = injector.entries, injector.direction
        pending = Pending(places_of(entries.rows), self._step, direction, entries=entries)
        if self.learned.weights is None:
            return pending
        return replace(pending, coefficients=injector.coefficients, inputs=self._seen)

    def _report(self, sums: Tensor, whole: Estimate | None, seconds: float) -> StepReport:
        report = super()._report(sums, whole, seconds)
        weights = self.learned.weights
        factor = self.learned.factor if self.learned.learning.strength_rate > 0 else None
        change = None
        if weights is not None:
            initial = self._perturbation.backend.initial_weights()
            change = float(torch.linalg.vector_norm(weights - initial))
        return replace(report, strength_factor=factor, weights_change=change)


def _circuits_so_far() -> int:
    account = current_account()
    return 0 if account is None else account.circuits

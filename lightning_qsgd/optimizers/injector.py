"""Carries out any injection around one step of the base optimizer.

    before the base moves    g <- read, where something needs it
                             added = strength * coefficients * u, unless it needs the base's step
                             the gradient is overwritten, where the sum enters it
    after                    added = ..., where it needs the base's step
                             theta += added, or the gradient is restored

A control replaces the product, and learning keeps its two factors for the next step. Both see
nothing of the injection but its coefficients.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lightning_qsgd.backends.closed_forms import sine_
from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.perturbations.blocks import MOVED, UNTOUCHED
from lightning_qsgd.perturbations.controls import Replaced, check_control
from lightning_qsgd.perturbations.features import Reader
from lightning_qsgd.perturbations.step import ParamGroups, TouchedStep, learning_rates

Modulate = Callable[[TouchedStep], Tensor]
"""Returns u, shape (entries,), of a step as far as it is known."""


class Injector:
    """Injects at one step.

    Args:
        perturbation: What is added.
        entries: The touched entries.
        step: What is known of the step: theta, not g.
        modulate: Returns the modulation there, once the features are known.
        factor: Learned factor of the strength, non-negative; None where nothing is learned.

    Attributes:
        entries: The same.
        step: The same; filled as the step proceeds.
        coefficients: What a modulation of 1 adds at factor 1, shape (entries,), finite; kept where
            something is learned.
        direction: What is added at factor 1, shape (entries,), finite; kept likewise.
    """

    coefficients: Tensor
    direction: Tensor
    _gradients: tuple[Tensor, Tensor] | None = None  # to restore, and what was written

    def __init__(
        self,
        perturbation: Perturbation,
        entries: Entries,
        step: TouchedStep,
        modulate: Modulate,
        factor: float | None = None,
    ) -> None:
        injection = perturbation.injection
        self.entries = entries
        self.step = step
        self._injection = injection
        self._modulate = modulate
        self._factor = factor
        self._features = perturbation.seen
        self._u_waits = injection.modulated and self._features.needs_base_step
        self.moves_parameters = injection.enters == "update"
        self._waits = self.moves_parameters and (
            self._u_waits or injection.needs_base_step or injection.control is not None
        )

    def before_base_step(self, measured: bool) -> None:
        """Compute what depends on theta_t and g_t, before the base optimizer moves anything.

        Args:
            measured: Whether `added` will be asked for.

        Raises:
            TypeError: If a part keeps something else than tensors, or returned none.
        """
        step, injection = self.step, self._injection
        features_need = injection.modulated and self._features.needs_gradient
        if injection.needs_gradient or features_need or not self.moves_parameters:
            raw = self.entries.read_gradients()
            step.gradient = descended(raw, self.entries, step.groups)
        if injection.modulated and not self._u_waits:
            self._find_modulation()
        if not injection.needs_base_step:
            self._find_coefficients()
        if step.memory:
            self._check_memory()
        if not self._waits:
            self._multiply()
        if not self.moves_parameters:
            self._overwrite_gradients(raw, measured)

    def restore(self) -> None:
        """Give gradients back as they were, once: the base optimizer has seen the others.

        Entries that it has written itself stay: a base may clear gradients in its step.
        """
        kept, self._gradients = self._gradients, None
        if kept is not None:
            raw, written = kept
            with torch.no_grad():
                now = self.entries.read_gradients()
                self.entries.write_gradients(torch.where(_same_bits(now, written), raw, now))

    def compared_with(self) -> Tensor:
        """Return the base's step, or the gradient that is added to, shape (entries,)."""
        return self._base_step() if self.moves_parameters else self.step.gradient

    def after_base_step(self) -> None:
        """Add to the parameters, or restore the gradient."""
        if not self.moves_parameters:
            self.restore()
            return
        if self._waits:
            self._base_step()
            if self._u_waits:
                self._find_modulation()
            if self._injection.needs_base_step:
                self._find_coefficients()
            if self.step.memory:
                self._check_memory()
            self._multiply()
        if self._scale > 0:
            self.entries.add_to_parameters(self._product, self._scale)

    @property
    def added(self) -> Tensor:
        """What was added, shape (entries,)."""
        return self._product * self._scale

    def _multiply(self) -> None:
        """Set what is added, as ``product * scale``: the factor is spared an operation."""
        strength, control = self.step.strength, self._injection.control
        spent = False
        if control is not None:
            replaced = self._replaced()
            product = self._entering(control.replace(replaced), "replace", control)
            check_control(control, product, replaced, self._state)
            self._scale = 1.0
        elif self._factor is not None:
            self.coefficients = without_nonfinite(self._coefficients * strength)
            product = self.direction = without_nonfinite(self.coefficients * self._u)
            self._scale = self._factor
        else:
            spent = self._injection.modulated
            product = self._coefficients * self._u if spent else self._coefficients
            self._scale = strength
        if not self.moves_parameters:
            self._product = torch.nan_to_num(product, 0.0, 0.0, 0.0)
        elif self._scale > 0:
            self._product, self._scale = self.entries.summand(product, self._scale, spent)
        else:  # learned to be 0
            self._product = product

    def _replaced(self) -> Replaced:
        step = self.step
        return Replaced(
            coefficients=without_nonfinite(self._coefficients * step.strength),
            modulation=self._u,
            base_step=torch.nan_to_num(self.compared_with(), 0.0, 0.0, 0.0),
            names=step.names,
            sizes=tuple(step.sizes),
            seed_and_step=step.seed_and_step,
        )

    def _overwrite_gradients(self, raw: Tensor, measured: bool) -> None:
        groups = self.step.groups
        signed = descended(self._product, self.entries, groups)
        self.entries.write_gradients(torch.add(raw, signed, alpha=self._scale))
        written = self.entries.read_gradients()
        self._gradients = raw, written
        if measured and not self._injection.modulated:
            # As read back: a tensor without a gradient got none of it.
            seen = descended(written, self.entries, groups)
            self._product, self._scale = without_nonfinite(seen - self.step.gradient), 1.0

    def _base_step(self) -> Tensor:
        if not self.step.has_moved:
            self.step.base_step = self.entries.moved_from(self.step.theta)
        return self.step.base_step

    def _find_modulation(self) -> None:
        step, injection = self.step, self._injection
        u = self._entering(self._modulate(step), "modulation", self._features)
        shaped = injection.shaped(u, step.sizes, step.strength)
        self._u = u if shaped is u else self._entering(shaped, "shaped", injection)

    def _find_coefficients(self) -> None:
        returned = self._injection.coefficients(self.step)
        self._coefficients = self._entering(returned, "coefficients", self._injection)

    def _entering(self, values: Any, method: str, policy: object) -> Tensor:
        """Return what a user's part returned, detached, in the dtype and on the device of theta.

        Raises:
            TypeError: If it is no dense tensor of real numbers.
            ValueError: If it has another shape than theta.
        """
        theta = self.step.theta
        is_dense = isinstance(values, Tensor) and values.layout == torch.strided
        if is_dense and values.requires_grad:  # a user's part may have differentiated by itself
            values = values.detach()
        if is_dense and values.shape == theta.shape:  # at nearly every step: no text is made for it
            if values.dtype == theta.dtype and values.device == theta.device:
                return values  # type: ignore[no-any-return]
            if not values.is_complex():
                return values.to(theta)  # type: ignore[no-any-return]
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        is_misshapen = is_dense and values.shape != theta.shape
        raise (ValueError if is_misshapen else TypeError)(
            f"Expected `{method}` of {type(policy).__name__} to return shape "
            f"{tuple(theta.shape)}, got {tuple(values.shape) if is_misshapen else kind}: one real "
            f"number per touched entry is added. {self._state}; return a dense vector like "
            "`step.theta`."
        )

    def _check_memory(self) -> None:
        """Refuse what a checkpoint could not be loaded with, and keep it no longer.

        Raises:
            TypeError: With its key.
        """
        memory = self.step.memory
        odd = {name: value for name, value in memory.items() if not isinstance(value, Tensor)}
        if not odd:
            return
        for name in odd:
            del memory[name]
        name, value = next(iter(odd.items()))
        raise TypeError(
            f"Expected `step.memory` of {type(self._injection).__name__} to hold tensors, got "
            f"{type(value).__name__} {value!r:.80} under {name!r}: a checkpoint with it could not "
            f"be loaded. {self._state}; keep a number as torch.tensor(number), and what is worked "
            "out once in `step.kept`, which is not saved."
        )

    @property
    def _state(self) -> str:
        return MOVED if self.step.has_moved else UNTOUCHED


class DirectInjector(Injector):
    """Injects Eq. 1, written out; see `Perturbation.is_direct`.

    An `Injector` asks each policy, in some twenty calls, and cannot write over what they may keep.
    For a small model that is a fifth of all that the default perturbation costs. The results are
    the same to the last bit.

    Args:
        entries: The touched entries.
        theta: The parameters there, shape (entries,); may be written over.
        groups: The base optimizer's parameter groups.
        strength: The schedule's, positive.
        reader: Returns u, shape (entries,), of theta; None for the closed form of Eq. 2.
    """

    moves_parameters = True

    def __init__(
        self,
        entries: Entries,
        theta: Tensor,
        groups: ParamGroups,
        strength: float,
        reader: Reader | None,
    ) -> None:
        self.entries = entries
        self._theta = theta
        self._given = groups, strength, reader

    @override
    def before_base_step(self, measured: bool) -> None:
        entries, theta = self.entries, self._theta
        groups, strength, reader = self._given
        gradient = descended(entries.read_gradients(), entries, groups)
        rates = learning_rates(groups, entries.group_bounds, theta)
        # Where theta is not finite the sine is none either, and nothing is added.
        u = reader((theta,)) if reader else sine_(theta.clone() if measured else theta)
        product = gradient.mul_(-rates).mul_(u)
        self._product, self._scale = entries.summand(product, strength, spent=True)

    @override
    def compared_with(self) -> Tensor:
        return self.entries.moved_from(self._theta)

    @override
    def after_base_step(self) -> None:
        self.entries.add_to_parameters(self._product, self._scale)


def _same_bits(one: Tensor, other: Tensor) -> Tensor:
    kind = torch.int64 if one.dtype == torch.float64 else torch.int32
    return one.view(kind) == other.view(kind)


def descended(gradient: Tensor, entries: Entries, groups: ParamGroups) -> Tensor:
    """Return the gradient of what is minimised: negated where a group maximises."""
    for group in groups:  # no generator: this runs at every step
        if group.get("maximize"):
            break
    else:
        return gradient
    signed = gradient.clone()
    for index, start, stop in entries.group_bounds:
        if groups[index].get("maximize"):
            signed[start:stop].neg_()
    return signed


def without_nonfinite(values: Tensor) -> Tensor:
    """Replace NaN and infinity by 0 in place: where theta or g is not finite, nothing is added."""
    return torch.nan_to_num_(values, 0.0, 0.0, 0.0)

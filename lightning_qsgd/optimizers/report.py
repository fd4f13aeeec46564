"""What one step reports, and the warning when the perturbation is invisibly small."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from math import inf, isnan, nan, sqrt

import torch
from torch import Tensor

from lightning_qsgd.optimizers.own_state import OwnState


@dataclass(frozen=True)
class StepReport:
    """Sizes of the perturbation and of the base optimizer's own step, at one step.

    For a gradient injection the "base step" is the gradient and "added" is what was added to it.

    Attributes:
        touched: Number of perturbed entries.
        total: Number of entries of all parameters.
        circuits: Circuits evaluated.
        seconds: Host seconds spent on the perturbation.
        sums: Squared norm of what was added, squared norm of the base step on the perturbed
            entries, their inner product, and the number of entries to which exactly zero was
            added; shape (4,), on the parameters' device until it is read.
        base_sum: Squared norm of the base step over the whole model, 0-dim, an estimate from a
            sample of its entries; None if not measured.
        base_error: Standard error of that estimate, 0-dim; None for 0.
        strength_factor: Learned factor of the strength, non-negative; None if it is not learned.
        weights_change: Norm of how far the circuit's weights have moved from where they began, in
            radians; None if they are not learned.
    """

    touched: int
    total: int
    circuits: int
    seconds: float
    sums: Tensor
    base_sum: Tensor | None = None
    base_error: Tensor | None = None
    strength_factor: float | None = None
    weights_change: float | None = None

    def __repr__(self) -> str:
        return (
            f"StepReport({self.touched:,} of {self.total:,} entries perturbed, by "
            f"{self.relative_size:.2g} of the step there, cosine {self.cosine:.2f}; "
            f"{self.circuits:,} circuits, {self.seconds * 1e3:.2g} ms)"
        )

    @cached_property
    def _values(self) -> list[float]:
        return [float(value) for value in self.sums.tolist()]

    @property
    def relative_size(self) -> float:
        """Norm of what was added over norm of the base step, on the perturbed entries."""
        return _ratio(self._values[0], self._values[1])

    @property
    def model_relative_size(self) -> float | None:
        """Norm of what was added over norm of the whole model's base step, if measured.

        An estimate: the base step's norm is that of a sample; see `model_relative_size_error`.
        Not measured for gradient injections, which add nothing to the parameters themselves.
        """
        return None if self.base_sum is None else _ratio(self._values[0], float(self.base_sum))

    @property
    def model_relative_size_error(self) -> float | None:
        """Standard error of `model_relative_size`, to first order; None where there is none."""
        size = self.model_relative_size
        if size is None or self.base_error is None or not float(self.base_sum or 0.0) > 0:
            return None
        return 0.5 * size * float(self.base_error) / float(self.base_sum or 1.0)

    @property
    def cosine(self) -> float:
        """Cosine between what was added and the base step, in [-1, 1]; NaN if either is zero."""
        added, base, inner, _ = self._values
        return inner / sqrt(added * base) if added * base > 0 else nan

    @property
    def touched_share(self) -> float:
        """Share of the model's entries that are perturbed, in [0, 1]."""
        return self.touched / self.total

    @property
    def zero_share(self) -> float:
        """Share of the perturbed entries to which exactly zero was added, in [0, 1]."""
        return self._values[3] / self.touched


def measure(added: Tensor, base_step: Tensor) -> Tensor:
    """Return the sums of a `StepReport`, without waiting for the device.

    Args:
        added: What was added on the perturbed entries, shape (entries,).
        base_step: The base optimizer's step there, shape (entries,).
    """
    added, base_step = without_overflow(added), without_overflow(base_step)
    zeros = torch.count_nonzero(added).neg().add(added.numel()).to(added.dtype)
    return torch.stack([added.dot(added), base_step.dot(base_step), added.dot(base_step), zeros])


def without_overflow(values: Tensor) -> Tensor:
    """Return float64, whose sums of squares do not overflow; not on MPS, which has none."""
    return values if values.device.type == "mps" else values.double()


def _ratio(added: float, base: float) -> float:
    if isnan(added) or isnan(base):
        return nan
    if base > 0:
        return sqrt(added / base)
    return 0.0 if added == 0 else inf


THRESHOLD = 1e-3
PATIENCE = 10
LARGE = 10.0
FEW = 3


class InvisiblePerturbationWarning(UserWarning):
    """The perturbation is numerically invisible beside the base optimizer's own step."""


class DominantPerturbationWarning(UserWarning):
    """The perturbation dwarfs the base optimizer's own step."""


class SizeWatch:
    """Watches the relative size of the perturbation and warns once if it stays small, or large.

    Looks at the largest size among `PATIENCE` measured steps in a row, so that one small step is
    no reason for a warning. Sizes relative to the step on the perturbed entries and to the whole
    model's step are watched apart: the former are never smaller, so either alone is reason enough.
    What was learned to be small is no reason: it says that the perturbation did not help.

    A perturbation is large if the smallest of the first `FEW` sizes is: where it dwarfs the base's
    step, little of the base is left after few steps.
    """

    def __init__(self) -> None:
        self._on_entries: list[StepReport] = []
        self._on_model: list[StepReport] = []
        self._warned = False
        self._judged_large = False
        self._told_of_nothing = False

    def see(
        self, report: StepReport | None, state: OwnState, chooses_nothing: bool = False
    ) -> None:
        """Take note of a step's report; reads it only when `PATIENCE` of them have come in.

        Args:
            report: Of the step; None if nothing was measured.
            state: How often something was due and was applied so far.
            chooses_nothing: Whether the coordinates choose no entry of any tensor.
        """
        if report is None:
            if not self._told_of_nothing and (chooses_nothing or state.due == PATIENCE):
                self._see_nothing(state, chooses_nothing)
            return
        factor = report.strength_factor
        if self._warned or (factor is not None and factor < 1.0):
            return
        self._on_entries.append(report)
        if len(self._on_entries) == FEW and not self._judged_large:
            self._judged_large = True
            self._judge_large([seen.relative_size for seen in self._on_entries])
        if len(self._on_entries) == PATIENCE:
            self._judge([seen.relative_size for seen in self._on_entries])
            self._on_entries.clear()
        if report.base_sum is not None:
            self._on_model.append(report)
        if len(self._on_model) == PATIENCE:
            self._judge([seen.model_relative_size or 0.0 for seen in self._on_model])
            self._on_model.clear()

    def _see_nothing(self, state: OwnState, chooses_nothing: bool) -> None:
        if chooses_nothing:
            self._told_of_nothing = True
            warnings.warn(_NOTHING_CHOSEN, InvisiblePerturbationWarning, stacklevel=6)
        elif not (state.applied or state.skipped or state.learned):
            warnings.warn(_NEVER_APPLIED, InvisiblePerturbationWarning, stacklevel=6)

    def _judge_large(self, sizes: list[float]) -> None:
        smallest = min(sizes)
        if LARGE < smallest < inf:
            warnings.warn(_large_message(smallest), DominantPerturbationWarning, stacklevel=6)

    def _judge(self, sizes: list[float]) -> None:
        largest = max(sizes)
        if largest < THRESHOLD and not self._warned:
            self._warned = True
            warnings.warn(_message(largest), InvisiblePerturbationWarning, stacklevel=6)


_NOTHING_CHOSEN = (
    "The coordinates choose no entry of any parameter: every step is the base optimizer's own. "
    "Choose others. HiddenMatrices leaves out the first and the last matrix, embedding and head; a "
    "perceptron takes HiddenMatrices(others=[-1]), and a network without matrices needs others, "
    "such as AllEntries."
)

_NEVER_APPLIED = (
    f"The perturbation was due at {PATIENCE} steps and applied at none: none of the tensors that "
    "hold its coordinates has a gradient. If they are trained later, go on; if not, choose other "
    "coordinates, or nothing will be perturbed."
)


def _large_message(smallest: float) -> str:
    return (
        f"The perturbation is at least {smallest:.0f} times the base optimizer's step in {FEW} "
        f"measured steps (limit {LARGE:g}): it decides where the parameters go. `lr` may be no "
        "step size of this optimizer (Prodigy, D-Adaptation, Adadelta). Give "
        "UpdateInjection(step_size=...), use RelativeInjection, or lower the strength."
    )


def _message(largest: float) -> str:
    if largest == 0.0:
        return (
            f"The perturbation was exactly zero in {PATIENCE} measured steps: the perturbed "
            "entries receive no gradient (the first entries of an embedding belong to a token "
            "that may never occur), or their parameters are zero. Choose other coordinates, for "
            "example FirstOfEachTensor or RandomEntries."
        )
    return (
        f"The perturbation stayed below {largest:.1e} of the base optimizer's step in {PATIENCE} "
        f"measured steps (limit {THRESHOLD:g}): this run tells nothing about it. Perturb more "
        "coordinates (AllEntries), raise the strength, or use RelativeInjection."
    )

"""Warns once when a perturbation is too small to matter."""

import warnings

from lightning_qsgd.optimizers.report import StepReport

THRESHOLD = 1e-3
PATIENCE = 10


class InvisiblePerturbationWarning(UserWarning):
    """The perturbation is numerically invisible beside the base optimizer's own step."""


class SizeWatch:
    """Watches the relative size of the perturbation and warns once if it stays small.

    Looks at the largest size among `PATIENCE` measured steps in a row, so that one small step is
    no reason for a warning. Once sizes relative to the whole model's step come in, only those
    count; the size relative to the step on the perturbed entries is never smaller.
    """

    def __init__(self) -> None:
        self._recent: list[StepReport] = []
        self._sees_model = False
        self._warned = False

    def see(self, report: StepReport) -> None:
        """Take note of a step's report; reads it only when `PATIENCE` of them have come in."""
        has_model = report.base_sum is not None
        if self._warned or (self._sees_model and not has_model):
            return
        if has_model and not self._sees_model:
            self._sees_model = True
            self._recent.clear()
        self._recent.append(report)
        if len(self._recent) < PATIENCE:
            return
        largest = max(_size(r) for r in self._recent)
        self._recent.clear()
        if largest < THRESHOLD:
            self._warned = True
            warnings.warn(_message(largest), InvisiblePerturbationWarning, stacklevel=4)


def _size(report: StepReport) -> float:
    model = report.model_relative_size
    return report.relative_size if model is None else model


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

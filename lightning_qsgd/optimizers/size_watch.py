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
    no reason for a warning. Sizes relative to the step on the perturbed entries and to the whole
    model's step are watched apart: the former are never smaller, so either alone is reason enough.
    What was learned to be small is no reason: it says that the perturbation did not help.
    """

    def __init__(self) -> None:
        self._on_entries: list[StepReport] = []
        self._on_model: list[StepReport] = []
        self._warned = False

    def see(self, report: StepReport) -> None:
        """Take note of a step's report; reads it only when `PATIENCE` of them have come in."""
        factor = report.strength_factor
        if self._warned or (factor is not None and factor < 1.0):
            return
        self._on_entries.append(report)
        if len(self._on_entries) == PATIENCE:
            self._judge([seen.relative_size for seen in self._on_entries])
            self._on_entries.clear()
        if report.base_sum is not None:
            self._on_model.append(report)
        if len(self._on_model) == PATIENCE:
            self._judge([seen.model_relative_size or 0.0 for seen in self._on_model])
            self._on_model.clear()

    def _judge(self, sizes: list[float]) -> None:
        largest = max(sizes)
        if largest < THRESHOLD and not self._warned:
            self._warned = True
            warnings.warn(_message(largest), InvisiblePerturbationWarning, stacklevel=5)


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

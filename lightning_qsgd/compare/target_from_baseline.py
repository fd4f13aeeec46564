"""A target that nobody chose after seeing the results."""

from collections.abc import Iterable
from math import ceil
from statistics import median

from lightning_qsgd.compare.results import ArmRun

SHARE = 0.75
"""Share of its budget that the baseline gets: at all of it, half of its runs would miss."""


def target_from_baseline(runs: Iterable[ArmRun], metric: str) -> float:
    """Return what the baseline reaches after 3/4 of its budget, the median over runs.

    Args:
        runs: Runs of the baseline on seeds that are not reported.
        metric: Tag of the metric.

    Raises:
        ValueError: If no run has a curve of the metric.

    Example:
        >>> from lightning_qsgd.training.recorded_run import RecordedCurve
        >>> curve = RecordedCurve([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [0.1, 0.5, 0.8, 0.9])
        >>> target_from_baseline([ArmRun("adamw", 0, {}, {"accuracy": curve})], "accuracy")
        0.8
    """
    reached = []
    for run in runs:
        values = run.curves[metric].values if metric in run.curves else []
        if values:
            reached.append(values[ceil(SHARE * len(values)) - 1])
    if not reached:
        raise ValueError(
            f"Cannot take a target from the baseline: none of its runs recorded `{metric}`. Fix "
            "`goal.target` in advance, or mend the baseline."
        )
    return median(reached)

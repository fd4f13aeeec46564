"""Seconds until a target is reached."""

from lightning_qsgd.metrics.target_metric import TargetMetric


class SecondsToTarget(TargetMetric):
    """Measure the elapsed seconds until a curve first reaches a target.

    `update(value, step)` takes the seconds since the start of training; `compute` returns them, or
    `inf` for never. The clocks of two processes never show equal times, so their points would
    interleave instead of being averaged: update one process only, or give all of them the clock
    of rank zero. The constructor is that of `TargetMetric`.

    Example:
        >>> metric = SecondsToTarget(target=1.0)
        >>> for seconds, loss in [(0.1, 3.0), (7.25, 0.9)]:
        ...     metric.update(loss, seconds)
        >>> metric.compute()
        tensor(7.2500, dtype=torch.float64)
    """

    step_name = "elapsed seconds"

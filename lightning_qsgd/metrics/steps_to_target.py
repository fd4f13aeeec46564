"""Optimizer steps until a target is reached."""

from lightning_qsgd.metrics.target_metric import TargetMetric


class StepsToTarget(TargetMetric):
    """Count the global steps until a curve first reaches a target.

    `update(value, step)` takes the global step; `compute` returns it, or `inf` for never. The
    constructor is that of `TargetMetric`.

    Example:
        >>> metric = StepsToTarget(target=1.0)
        >>> for step, loss in [(0, 3.0), (100, 0.9), (200, 1.2)]:
        ...     metric.update(loss, step)
        >>> metric.compute()
        tensor(100., dtype=torch.float64)
    """

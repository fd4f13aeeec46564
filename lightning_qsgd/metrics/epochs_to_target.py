"""Epochs until a target is reached."""

from lightning_qsgd.metrics.target_metric import TargetMetric


class EpochsToTarget(TargetMetric):
    """Count the epochs until a curve first reaches a target.

    `update(value, step)` takes the epoch, fractional if the curve is finer: global step divided by
    steps per epoch. `compute` returns it, or `inf` for never. The constructor is that of
    `TargetMetric`.

    Example:
        >>> metric = EpochsToTarget(target=0.9, higher_is_better=True)
        >>> for epoch, accuracy in [(1.0, 0.5), (2.5, 0.92)]:
        ...     metric.update(accuracy, epoch)
        >>> metric.compute()
        tensor(2.5000, dtype=torch.float64)
    """

    step_name = "epoch"

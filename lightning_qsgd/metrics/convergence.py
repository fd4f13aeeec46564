"""Convergence metrics: best value, area, cost to a target, gap and speedup over a baseline."""

import math
from typing import Any

from torch import Tensor
from typing_extensions import override

from lightning_qsgd.metrics.curve_metric import CurveMetric, DirectedCurveMetric
from lightning_qsgd.metrics.functional import (
    Points,
    area_under_curve,
    best_value,
    merge_equal_steps,
    speedup_over_baseline,
    steps_to_target,
    trailing_mean,
    value_at_step,
)
from lightning_qsgd.metrics.functional.curve import checked_target, checked_window


class AreaUnderLossCurve(CurveMetric):
    """Measure the mean height of a loss curve over the steps it spans (`area_under_curve`).

    A number for the whole run, without a target: low when the loss falls early. Compare runs over
    the same range of steps. The constructor is that of `CurveMetric`.

    Example:
        >>> metric = AreaUnderLossCurve()
        >>> for step, loss in [(0, 4.0), (10, 2.0)]:
        ...     metric.update(loss, step)
        >>> metric.compute()
        tensor(3., dtype=torch.float64)
    """

    higher_is_better = False

    @override
    def _summarise(self, steps: Tensor, values: Tensor) -> float:
        return area_under_curve(steps, values)

    @override
    def _mark(self, ax: Any, steps: Tensor, values: Tensor) -> None:
        height = self._summarise(steps, values)
        ax.fill_between(steps, values, alpha=0.2)
        ax.axhline(height, color="black", linestyle="--", label=f"mean height {height:g}")


class BestValue(DirectedCurveMetric):
    """Report the best value a run ever had; NaN values are ignored.

    The constructor is that of `DirectedCurveMetric`.

    Example:
        >>> metric = BestValue(higher_is_better=True)
        >>> for step, accuracy in [(0, 0.25), (10, 0.75), (20, 0.5)]:
        ...     metric.update(accuracy, step)
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
    """

    @override
    def _summarise(self, steps: Tensor, values: Tensor) -> float:
        return best_value(steps, values, higher_is_better=self.higher_is_better)

    @override
    def _mark(self, ax: Any, steps: Tensor, values: Tensor) -> None:
        best = self._summarise(steps, values)
        ax.axhline(best, color="black", linestyle="--", label=f"best {best:g}")


class FinalValue(DirectedCurveMetric):
    """Report the value at the last step of a run, NaN included.

    The constructor is that of `DirectedCurveMetric`.

    Example:
        >>> metric = FinalValue(higher_is_better=True)
        >>> for step, accuracy in [(0, 0.25), (10, 0.75), (20, 0.5)]:
        ...     metric.update(accuracy, step)
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    @override
    def _summarise(self, steps: Tensor, values: Tensor) -> float:
        return float(values[-1])

    @override
    def _mark(self, ax: Any, steps: Tensor, values: Tensor) -> None:
        last = self._summarise(steps, values)
        ax.axhline(last, color="black", linestyle="--", label=f"last {last:g}")


class TargetMetric(CurveMetric):
    """Measure at which step a curve first reaches a target; `inf` if it never does.

    The subclasses differ in what a step is (steps, epochs, seconds) or in what is made of the
    cost. They are siblings, so that torchmetrics refuses to merge the points of one into another.

    Args:
        target: Value to reach, in the curve's unit; fix it before the runs.
        higher_is_better: Whether the values improve upwards (accuracy) or downwards (loss). The
            class attribute of this name is about the result: a lower cost is always better.
        window: Number of recorded points in the trailing mean that must reach the target; 1 for
            no smoothing. Use more for a minibatch loss.
        **kwargs: Keyword arguments of `torchmetrics.Metric`.

    Raises:
        TypeError: If `window` is not an integer.
        ValueError: If `target` is not finite or `window` is below 1.
    """

    higher_is_better = False

    def __init__(
        self, target: float, *, higher_is_better: bool = False, window: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.target = checked_target(target)
        self.window = checked_window(window)
        self.values_improve_upwards = higher_is_better

    @override
    def _summarise(self, steps: Tensor, values: Tensor) -> float:
        return self._cost(steps, values)

    def _cost(self, steps: Tensor, values: Tensor) -> float:
        smoothed = trailing_mean(values, self.window)
        return steps_to_target(
            steps, smoothed, self.target, higher_is_better=self.values_improve_upwards
        )

    @override
    def _mark(self, ax: Any, steps: Tensor, values: Tensor) -> None:
        if self.window > 1:
            smoothed = trailing_mean(values, self.window)
            ax.plot(steps, smoothed, label=f"mean of {self.window} points")
        ax.axhline(self.target, color="black", linestyle="--", label=f"target {self.target:g}")
        cost = self._cost(steps, values)
        if math.isfinite(cost):
            ax.axvline(cost, color="black", linestyle=":", label=f"reached at {cost:g}")


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


class GapToBaseline(DirectedCurveMetric):
    """Measure arm minus baseline at the last step that both curves cover.

    The gap has the metric's own unit and its good sign: negative for a loss, positive for an
    accuracy (see `gap_at_equal_step` for the whole curve). The baseline is read by linear
    interpolation in O(log n), so `forward(value, step)` can be asked for the gap at every step. It
    is a constructor argument, not a state: it is not in checkpoints.

    Args:
        baseline_steps: The baseline's steps, shape (n,), any order, equal steps are averaged.
        baseline_values: The baseline's values, shape (n,), in the unit of the arm's.
        higher_is_better: Whether the values improve upwards (accuracy) or downwards (loss).
        **kwargs: Keyword arguments of `torchmetrics.Metric`.

    Raises:
        ValueError: If the baseline is empty, has unequal lengths or impossible steps.

    Example:
        >>> metric = GapToBaseline(baseline_steps=[0, 10], baseline_values=[4.0, 2.0])
        >>> metric(2.5, 5)
        tensor(-0.5000, dtype=torch.float64)
        >>> metric(1.0, 10)
        tensor(-1., dtype=torch.float64)
        >>> metric.compute()
        tensor(-1., dtype=torch.float64)
    """

    def __init__(
        self,
        baseline_steps: Points,
        baseline_values: Points,
        *,
        higher_is_better: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(higher_is_better=higher_is_better, **kwargs)
        steps, values = merge_equal_steps(baseline_steps, baseline_values)
        self.baseline_steps: list[float] = steps.tolist()
        self.baseline_values: list[float] = values.tolist()

    @override
    def _summarise(self, steps: Tensor, values: Tensor) -> float:
        first, last = self.baseline_steps[0], self.baseline_steps[-1]
        shared = ((steps >= first) & (steps <= last)).nonzero()
        if shared.numel() == 0:
            return math.nan
        step, value = float(steps[shared[-1]]), float(values[shared[-1]])
        return value - value_at_step(self.baseline_steps, self.baseline_values, step)

    @override
    def _mark(self, ax: Any, steps: Tensor, values: Tensor) -> None:
        gap = self._summarise(steps, values)
        label = f"baseline (gap {gap:g})"
        ax.plot(self.baseline_steps, self.baseline_values, linestyle="--", label=label)


class SpeedupOverBaseline(TargetMetric):
    """Divide the baseline's cost of reaching a target by the cost of this run.

    1 means no speedup, 2 half the cost; 0 if only the baseline reached the target, `inf` if only
    this run did, nan if neither (see `speedup_over_baseline`). Both curves are smoothed with the
    same window. The cost is in the unit of the steps: give both curves global steps, or both
    seconds. The baseline is a constructor argument, not a state: it is not in checkpoints.

    Args:
        baseline_steps: The baseline's steps, shape (n,), any order, equal steps are averaged.
        baseline_values: The baseline's values, shape (n,), in the unit of this run's.
        target: Value to reach, in the same unit; fix it before the runs.
        higher_is_better: Whether the values improve upwards (accuracy) or downwards (loss). The
            class attribute of this name is about the result: a higher speedup is always better.
        window: Number of recorded points in the trailing mean that must reach the target.
        **kwargs: Keyword arguments of `torchmetrics.Metric`.

    Raises:
        TypeError: If `window` is not an integer.
        ValueError: If the baseline is no curve, `target` is not finite or `window` is below 1.

    Example:
        >>> metric = SpeedupOverBaseline([0, 100, 200], [3.0, 2.0, 1.0], target=1.0)
        >>> for step, loss in [(0, 3.0), (100, 0.9)]:
        ...     metric.update(loss, step)
        >>> metric.compute()
        tensor(2., dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(
        self,
        baseline_steps: Points,
        baseline_values: Points,
        target: float,
        *,
        higher_is_better: bool = False,
        window: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(target, higher_is_better=higher_is_better, window=window, **kwargs)
        steps, values = merge_equal_steps(baseline_steps, baseline_values)
        self.baseline_cost = self._cost(steps, values)
        self.baseline_steps: list[float] = steps.tolist()
        self.baseline_values: list[float] = values.tolist()

    @override
    def _summarise(self, steps: Tensor, values: Tensor) -> float:
        return speedup_over_baseline(self._cost(steps, values), self.baseline_cost)

    @override
    def _mark(self, ax: Any, steps: Tensor, values: Tensor) -> None:
        super()._mark(ax, steps, values)
        label = f"baseline (speedup {self._summarise(steps, values):g})"
        ax.plot(self.baseline_steps, self.baseline_values, linestyle="--", label=label)

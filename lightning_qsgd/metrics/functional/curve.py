"""Curves: their checks, values between points, and smoothing."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def checked_target(target: float) -> float:
    """Return `target` as a float, refusing what no curve can reach or every curve would.

    Args:
        target: The value to reach, in the metric's unit.

    Returns:
        The same number as a Python float.

    Raises:
        ValueError: If `target` is NaN or infinite.

    Example:
        >>> checked_target(1)
        1.0
    """
    target = float(target)
    if not math.isfinite(target):
        raise ValueError(
            f"Expected `target` to be finite, got {target}: no run can reach it, or every run "
            "does. Choose a value of the metric, before the runs."
        )
    return target


def checked_window(window: int) -> int:
    """Return `window`, refusing anything but a positive whole number of points.

    Args:
        window: Number of points of a trailing mean.

    Returns:
        The same integer.

    Raises:
        TypeError: If `window` is not an integer.
        ValueError: If `window` is below 1.

    Example:
        >>> checked_window(5)
        5
    """
    if isinstance(window, bool) or not isinstance(window, int):
        raise TypeError(
            f"Expected `window` to be an int, got {type(window).__name__}: it counts the points "
            "of a mean. Pass a whole number."
        )
    if window < 1:
        raise ValueError(
            f"Expected `window` to be at least 1, got {window}: a mean needs a point. "
            "Pass 1 for no smoothing."
        )
    return window


def value_at_step(steps: Sequence[float], values: Sequence[float], step: float) -> float:
    """Read a curve at any step, by linear interpolation.

    Linear, and not the last observation: a loss falls between two observations, so the last one is
    always too high and would flatter whatever is compared with it. Outside the observed range the
    answer is NaN: nothing is extrapolated. O(log n), so it can be asked live at every training
    step; for the same reason the curve is not checked here (see `as_curve`).

    Args:
        steps: Strictly increasing, length n, as plain Python floats.
        values: Length n, in the metric's unit.
        step: Where to read, in the unit of `steps`.

    Returns:
        The value in the metric's unit: exactly the observed one at an observed step, NaN outside
        the range and between two points of which one is not finite.

    Example:
        >>> value_at_step([0.0, 10.0], [4.0, 2.0], step=2.5)
        3.5
        >>> value_at_step([0.0, 10.0], [4.0, 2.0], step=11.0)
        nan
    """
    right = bisect_left(steps, step)
    if right == len(steps) or (right == 0 and steps[0] != step):
        return math.nan
    if steps[right] == step:
        return values[right]
    left = right - 1
    weight = (step - steps[left]) / (steps[right] - steps[left])
    value = values[left] + weight * (values[right] - values[left])
    return value if math.isfinite(value) else math.nan


def trailing_mean(values: Tensor, window: int) -> Tensor:
    r"""Average every value with the `window - 1` values before it.

    .. math:: s_i = \frac{1}{w} \sum_{j=i-w+1}^{i} v_j

    A training loss is the loss of one minibatch; a single lucky minibatch must not count as
    reaching a target. For the same reason the first `window - 1` entries are NaN, which never
    reaches a target, instead of means of fewer points. The mean looks back only, so a value never
    depends on what came later. A NaN spoils the `window` entries that contain it and no more: each
    window is summed on its own, where a running sum would carry the NaN to the end.

    Args:
        values: Values in the order of their steps, shape (n,), floating point.
        window: Number of points averaged, at least 1; 1 returns the values unchanged.

    Returns:
        Smoothed values, shape (n,), same dtype and unit; all NaN if n < window.

    Raises:
        TypeError: If `window` is not an integer.
        ValueError: If `window` is below 1.

    Example:
        >>> trailing_mean(torch.tensor([4.0, 0.0, 2.0]), window=2)
        tensor([nan, 2., 1.])
    """
    if checked_window(window) == 1:
        return values
    smoothed = torch.full_like(values, torch.nan)
    if len(values) >= window:
        smoothed[window - 1 :] = values.unfold(0, window, 1).mean(dim=-1)
    return smoothed


Points: TypeAlias = Tensor | NDArray[np.floating] | Sequence[float]
"""One coordinate of a curve: anything that turns into a 1-D float64 tensor."""


def as_points(steps: Points, values: Points) -> tuple[Tensor, Tensor]:
    """Check raw points and put them on the CPU in float64, in the order given.

    Float64 keeps global steps exact up to 2**53; float32 would already merge 16777216 and 16777217.

    Args:
        steps: Where the values were observed, shape (n,): global steps, epochs or seconds.
        values: What was observed, shape (n,), in the metric's unit. NaN and infinity are allowed.

    Returns:
        Steps and values, each of shape (n,), float64, on the CPU, detached.

    Raises:
        ValueError: If the shapes are not (n,) with n >= 1, or a step is negative or not finite.

    Example:
        >>> as_points([10, 0], [0.5, 2.0])
        (tensor([10.,  0.], dtype=torch.float64), tensor([0.5000, 2.0000], dtype=torch.float64))
    """
    steps, values = _as_float64(steps), _as_float64(values)
    if steps.ndim != 1 or steps.shape != values.shape:
        raise ValueError(
            f"Expected `steps` and `values` to be 1-D and of equal length, got shapes "
            f"{tuple(steps.shape)} and {tuple(values.shape)}: a curve has one value per step. "
            "Pass one value for each step."
        )
    if steps.numel() == 0:
        raise ValueError(
            "Expected a curve with at least one point, got an empty one: nothing can be said "
            "about a run that recorded nothing. Record a value first."
        )
    _check_steps(steps)
    return steps, values


def as_curve(steps: Points, values: Points) -> tuple[Tensor, Tensor]:
    """Check that points form a curve: steps strictly increasing.

    Args:
        steps: Strictly increasing, shape (n,), in any unit.
        values: Shape (n,), in the metric's unit.

    Returns:
        Steps and values, each of shape (n,), float64, on the CPU, detached.

    Raises:
        ValueError: If `as_points` refuses the points, or the steps do not strictly increase.

    Example:
        >>> as_curve([0, 10], [2.0, 0.5])
        (tensor([ 0., 10.], dtype=torch.float64), tensor([2.0000, 0.5000], dtype=torch.float64))
    """
    steps, values = as_points(steps, values)
    not_after = (steps.diff() <= 0).nonzero()
    if not_after.numel():
        i = int(not_after[0])
        raise ValueError(
            f"Expected `steps` to be strictly increasing, got {steps[i]:g} followed by "
            f"{steps[i + 1]:g}: a curve has one value per step, in order. "
            "Call `merge_equal_steps` first."
        )
    return steps, values


def merge_equal_steps(steps: Points, values: Points) -> tuple[Tensor, Tensor]:
    """Turn points in any order into a curve, averaging the values that share a step.

    This is how the curves of several processes reduce to one: each process saw its own shard of
    the batch at the same global step, so the mean is the value on the whole batch. The values of
    a step are summed in ascending order, hence the result does not depend on the order of the
    points, not even in the last bit.

    Args:
        steps: Shape (n,), any order, repetitions allowed.
        values: Shape (n,), in the metric's unit. A NaN makes the mean of its step NaN.

    Returns:
        A curve: steps strictly increasing and their mean values, both of shape (m,) with m <= n.

    Raises:
        ValueError: If `as_points` refuses the points.

    Example:
        >>> steps, values = merge_equal_steps([20, 10, 20], [1.0, 4.0, 3.0])
        >>> steps.tolist(), values.tolist()
        ([10.0, 20.0], [4.0, 2.0])
    """
    steps, values = as_points(steps, values)
    by_value = values.argsort()
    order = by_value[steps[by_value].argsort(stable=True)]
    unique, group, count = torch.unique_consecutive(
        steps[order], return_inverse=True, return_counts=True
    )
    total = torch.zeros_like(unique).index_add_(0, group, values[order])
    return unique, total / count


def _as_float64(points: Points) -> Tensor:
    if not isinstance(points, Tensor):
        points = torch.from_numpy(np.array(points, dtype=np.float64, order="C"))
    return points.detach().to("cpu", torch.float64)


def _check_steps(steps: Tensor) -> None:
    bad = steps[~(torch.isfinite(steps) & (steps >= 0))]
    if bad.numel():
        raise ValueError(
            f"Expected `steps` to be finite and non-negative, got {bad[0]:g}: a step counts the "
            "work done since the start of training. Count from 0."
        )

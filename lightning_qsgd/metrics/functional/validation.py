"""Checks of the arguments that several curve functions and metrics share."""

import math


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

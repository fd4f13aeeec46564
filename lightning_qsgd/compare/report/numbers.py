"""Numbers as people read them; the exact ones are in results.csv."""

from math import isfinite, isnan

from lightning_qsgd.compare.statistics import Interval

UNKNOWN = "-"


def plain(value: float) -> str:
    """Write a number with four digits; what is unknown is a dash, what never came is "never".

    Example:
        >>> plain(0.123456), plain(float("nan")), plain(float("inf"))
        ('0.1235', '-', 'never')
    """
    if isnan(value):
        return UNKNOWN
    return f"{value:.4g}" if isfinite(value) else "never"


def signed(value: float) -> str:
    """Write a difference with its sign; zero is exactly zero and has none.

    Example:
        >>> signed(0.0123), signed(0.0), signed(float("nan"))
        ('+0.0123', '0', '-')
    """
    if isnan(value):
        return UNKNOWN
    return f"{value:+.3g}" if value else "0"


def span(interval: Interval) -> str:
    """Write an interval.

    Example:
        >>> span(Interval(-0.01, 0.02))
        '-0.01 to +0.02'
    """
    if isnan(interval.low):
        return UNKNOWN
    low, high = (f"{end:+.2g}" if end else "0" for end in (interval.low, interval.high))
    return f"{low} to {high}"


def chance(p: float) -> str:
    """Write a p-value.

    Example:
        >>> chance(0.04321), chance(0.00001), chance(1.0)
        ('0.043', '< 0.001', '1')
    """
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def share(value: float) -> str:
    """Write a share as a percentage.

    Example:
        >>> share(0.625)
        '62 %'
    """
    return UNKNOWN if isnan(value) else f"{100 * value:.0f} %"


def count(number: int, what: str) -> str:
    """Write a number of things.

    Example:
        >>> count(1, "seed"), count(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"

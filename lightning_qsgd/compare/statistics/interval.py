"""An interval of confidence."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Two ends, in the unit of what was measured.

    Example:
        >>> Interval(-1.0, 2.0).excludes_zero
        False
    """

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0

"""How sure a claim has to be."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """Fixes everything that a statistic may depend on besides the data.

    Args:
        alpha: Chance that any claim of the comparison is false, in (0, 1).
        power: Chance with which an effect counts as detectable, in (alpha, 1).
        resamples: Bootstrap resamples. The smallest p-value that they can show is about
            `2 / resamples`; Holm's correction multiplies it by the number of arms.
        seed: Seed of the bootstrap. Every difference is resampled with the same indices, so a
            result does not depend on which other arms took part.

    Raises:
        ValueError: If a share is no share, or there are too few resamples.

    Example:
        >>> Method().alpha
        0.05
    """

    alpha: float = 0.05
    power: float = 0.8
    resamples: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < self.power < 1:
            raise ValueError(
                f"Expected 0 < alpha < power < 1, got alpha {self.alpha} and power {self.power}: "
                "a claim would be free or impossible. Use 0.05 and 0.8."
            )
        if self.resamples < 99:
            raise ValueError(
                f"Expected `resamples` to be at least 99, got {self.resamples}: an interval would "
                "hang on a few resamples. Use 9999."
            )

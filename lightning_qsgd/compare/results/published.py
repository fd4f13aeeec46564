"""Figures that somebody has published, to be shown beside the measured ones."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal, get_args

Measure = Literal["final", "gain", "epochs_to_target", "time_per_epoch", "time_to_target"]
"""What a figure is of: the final metric; its difference to the baseline's; epochs to the target;
and, as changes from the baseline, the time of an epoch and the time to the target."""


@dataclass(frozen=True)
class Published:
    """Quotes figures from elsewhere; nothing is computed from them.

    Args:
        source: Where they are from.
        figures: The figures by arm and `Measure`, as they were printed: ``93.8 ± 0.7 %``.

    Raises:
        ValueError: If a measure is unknown, or figures come without a source.

    Example:
        >>> Published("arXiv:2511.01918", {"quantum_0.5": {"gain": "+2.3 points"}}).source
        'arXiv:2511.01918'
    """

    source: str = ""
    figures: Mapping[str, dict[str, str | float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.figures and not self.source.strip():
            raise ValueError(
                "Expected `published.source` to say where the figures are from, got none: nobody "
                "could check them. Name the paper and the place in it."
            )
        measures = get_args(Measure)
        for arm, figures in self.figures.items():
            for measure in figures:
                if measure not in measures:
                    raise ValueError(
                        f"Expected `published.figures` of {arm!r} to be of {', '.join(measures)}, "
                        f"got {measure!r}: nothing measured would stand beside it."
                        f"{_hint(measure, measures)}"
                    )

    def of(self, arms: Collection[str]) -> "Published":
        """Return the figures of some of the arms.

        Example:
            >>> both = Published("a paper", {"sine": {"gain": 1}, "noise": {"gain": 0}})
            >>> both.of(["adamw", "sine"]).figures
            {'sine': {'gain': 1}}
        """
        kept = {arm: figures for arm, figures in self.figures.items() if arm in arms}
        return replace(self, figures=kept)

    def require_known(self, arms: Collection[str]) -> None:
        """Refuse figures of arms that are not compared.

        Raises:
            ValueError: If there is one.
        """
        for arm in self.figures:
            if arm not in arms:
                raise ValueError(
                    f"Expected `published.figures` to be of arms that are compared, got {arm!r}: "
                    f"nothing measured would stand beside it.{_hint(arm, arms)}"
                )


def _hint(word: str, known: Collection[str]) -> str:
    nearest = get_close_matches(word, known, n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else " Leave it out."

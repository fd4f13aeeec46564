"""Keeps logged scalars in memory."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers.logger import Logger


class MemoryLogger(Logger):
    """Collects (step, value) by tag; a run of a comparison writes no event files of its own.

    Attributes:
        points: Points by tag, in the order in which they were logged.

    Example:
        >>> logger = MemoryLogger()
        >>> logger.log_metrics({"loss": 0.5}, step=3)
        >>> logger.points["loss"]
        [(3, 0.5)]
    """

    def __init__(self) -> None:
        super().__init__()
        self.points: dict[str, list[tuple[int, float]]] = defaultdict(list)

    @property
    def name(self) -> str:
        """Name for Lightning's messages."""
        return "memory"

    @property
    def version(self) -> int:
        """There is only one."""
        return 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep scalars."""
        for tag, value in metrics.items():
            self.points[tag].append((-1 if step is None else step, float(value)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Ignore them: the stored configuration has them."""

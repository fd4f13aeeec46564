"""The wrapper's own state: counters that go into checkpoints."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class OwnState:
    """Counters of a perturbed optimizer.

    Attributes:
        steps: Optimizer steps taken; names the shots and drives the strength's schedule.
        due: Steps at which the strength was positive.
        applied: Steps at which at least one entry was perturbed.
    """

    steps: int = 0
    due: int = 0
    applied: int = 0

    def to_dict(self) -> dict[str, int]:
        """Return the counters as plain integers, safe for ``torch.load(weights_only=True)``."""
        return asdict(self)

    def load(self, saved: Any) -> None:
        """Overwrite the counters with saved ones.

        Raises:
            ValueError: If a counter is missing or not a non-negative integer.
        """
        for name in asdict(self):
            value = saved.get(name) if isinstance(saved, dict) else None
            if not isinstance(value, int) or value < 0:
                raise ValueError(
                    f"Cannot load the perturbation's state: `{name}` is {value!r} instead of a "
                    "non-negative integer. The checkpoint is damaged; load an earlier one."
                )
        for name in asdict(self):
            setattr(self, name, saved[name])

"""The wrapper's own state: counters, and what was learned, that go into checkpoints."""

from dataclasses import dataclass, fields, replace
from typing import Any

from lightning_qsgd.optimizers.learned import Learned


@dataclass
class OwnState:
    """Counters of a perturbed optimizer, and what its perturbation has learned.

    Attributes:
        steps: Optimizer steps taken; names the shots and drives the strength's schedule.
        due: Steps at which the strength was positive.
        applied: Steps at which at least one entry was perturbed; not those at which the strength
            was learned to be 0.
        skipped: Steps that were taken without their perturbation, since its circuits failed.
        circuits: Circuits evaluated, each attempt counted, where a backend counts them.
        learned: Learned strength and weights; None if the perturbation learns nothing.
    """

    steps: int = 0
    due: int = 0
    applied: int = 0
    skipped: int = 0
    circuits: int = 0
    learned: Learned | None = None

    @property
    def awaits_gradient(self) -> bool:
        """Whether the next gradient tells something, even if no perturbation is due."""
        return self.learned is not None and self.learned.pending is not None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values and tensors, safe for ``torch.load(weights_only=True)``."""
        learned = {} if self.learned is None else {"learned": self.learned.to_dict()}
        return {name: getattr(self, name) for name in _COUNTERS} | learned

    def forget_pending(self) -> None:
        """Learn nothing from the last perturbation: the parameters have been exchanged since."""
        if self.learned is not None:
            self.learned = replace(self.learned, pending=None)

    def load(self, saved: Any) -> None:
        """Overwrite the counters, and what was learned, with saved ones.

        A state that was saved without learning leaves alone what is learned; a perturbation that
        learns nothing leaves out what was.

        Raises:
            ValueError: If a counter is missing or not a non-negative integer, or what was learned
                is damaged. Nothing is overwritten then.
        """
        for name in _COUNTERS:
            value = saved.get(name) if isinstance(saved, dict) else None
            if not isinstance(value, int) or value < 0:
                raise ValueError(
                    f"Cannot load the perturbation's state: `{name}` is {value!r} instead of a "
                    "non-negative integer. The checkpoint is damaged; load an earlier one."
                )
        if self.learned is not None and saved.get("learned") is not None:
            self.learned = self.learned.loaded(saved["learned"])
        for name in _COUNTERS:
            setattr(self, name, saved[name])


_COUNTERS = tuple(field.name for field in fields(OwnState) if field.name != "learned")

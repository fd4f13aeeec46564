"""The record of one run: what a fit and a comparison keep of it, and how it lies on disk."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

from lightning_qsgd.atomic_file import write_atomically
from lightning_qsgd.training.first_weights import FirstWeights

FORMAT = 1

INITIAL_WEIGHTS = "initial_weights"
DATA_ORDER = "data_order"
RANDOM_STATE = "random_state"
VALIDATION_BATCHES = "validation_batches"
VALIDATION_DATA = "validation_data"
FINAL_WEIGHTS = "final_weights"
PAIRED_CHECKS = (INITIAL_WEIGHTS, DATA_ORDER, RANDOM_STATE, VALIDATION_BATCHES, VALIDATION_DATA)
"""What must agree between the arms of a seed: the weights before the first step, the first batches,
the random generators as training begins, which give the dropout, and the number and the first
batches of the validation that measures the final weights. The hash of the final weights need not
agree. The last two are not in runs that earlier versions stored."""

VERSIONS = ("torch", "lightning", "lightning-qsgd")


def fingerprint(config: Any) -> str:
    """Hash what determines a run: its configuration, and the versions it runs on.

    Args:
        config: The configuration as plain values, without places and displays.

    Returns:
        64 hexadecimal digits; equal configurations have equal ones.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    relevant = {"config": config, "versions": {name: _version(name) for name in VERSIONS}}
    text = json.dumps(relevant, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


_version = cache(version)
"""It reads a distribution's whole description, for three of them at each run of a table."""


@dataclass
class RecordedCurve:
    """One scalar of a run, point by point.

    Attributes:
        steps: Optimizer steps taken when the value was observed, strictly increasing.
        epochs: Epochs, as fractions, at the same points.
        seconds: Seconds of training at the same points, without validation and first batch.
        values: The values, in the scalar's unit.
    """

    steps: list[float] = field(default_factory=list)
    epochs: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def append(self, step: float, epoch: float, seconds: float, value: float) -> None:
        """Add a point; one that repeats the last step replaces it."""
        if self.steps and self.steps[-1] == step:
            for points in (self.steps, self.epochs, self.seconds, self.values):
                points.pop()
        self.steps.append(step)
        self.epochs.append(epoch)
        self.seconds.append(seconds)
        self.values.append(value)


@dataclass(frozen=True)
class Timing:
    """Wall-clock cost of a run, kept apart because it never repeats.

    Attributes:
        seconds: Seconds from the first step to the last; NaN if unknown.
        seconds_per_step: Median seconds of an optimizer step; NaN if unknown.
        seconds_per_epoch: Mean seconds of an epoch without its validation; NaN if unknown.
    """

    seconds: float = nan
    seconds_per_step: float = nan
    seconds_per_epoch: float = nan

    @classmethod
    def of(cls, loss: RecordedCurve) -> "Timing":
        """Read the cost off the curve of the loss, which has a point at every step."""
        if len(loss.seconds) < 3:  # the first batch is not timed
            return cls()
        seconds, epochs = (points[-1] - points[0] for points in (loss.seconds, loss.epochs))
        steps = [later - earlier for earlier, later in pairwise(loss.seconds)]
        return cls(loss.seconds[-1], median(steps[1:]), seconds / epochs if epochs else nan)


@dataclass
class RecordedRun:
    """One run, with what makes it comparable to another.

    Attributes:
        arm: Name of the arm.
        seed: Seed of the run; arms with the same seed form a pair.
        final: Last value by metric, the goal's metric among them; NaN or infinite if it diverged.
            No wall-clock numbers, which never repeat: those belong into `timing`.
        curves: Curves by tag, their four lists equally long: `goal.metric`, `goal.loss` and
            `tags.RELATIVE_SIZE` are drawn, and the first gives the cost to the target.
        checks: Hashes by name, `PAIRED_CHECKS` and optionally `FINAL_WEIGHTS`.
        timing: Wall-clock cost.
        first_weights: What the model started from, tensor by tensor; empty if not recorded.
        fingerprint: Hash of the configuration that produced it; empty if unknown.
        optimizers: The optimizers that trained it, their rates and schedules, in words.
    """

    arm: str = ""
    seed: int = 0
    final: dict[str, float] = field(default_factory=dict)
    curves: dict[str, RecordedCurve] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    timing: Timing = Timing()
    first_weights: FirstWeights = field(default_factory=FirstWeights)
    fingerprint: str = ""
    optimizers: str = ""

    def __repr__(self) -> str:
        final = ", ".join(f"{name} {value:.4g}" for name, value in self.final.items())
        return f"RecordedRun({self.arm or 'no arm'}, seed {self.seed}: {final or 'no metric'})"

    def curve(self, tag: str) -> RecordedCurve:
        """Return the curve of a tag, an empty one if nothing was recorded."""
        return self.curves.setdefault(tag, RecordedCurve())

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "RecordedRun":
        """Rebuild a run from `to_dict`.

        Raises:
            ValueError: If the record has another format or is incomplete.
        """
        try:
            if saved["format"] != FORMAT:
                raise ValueError(f"format {saved['format']}")
            return rebuilt_run({name: saved[name] for name in cls.__dataclass_fields__})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"Cannot read the recorded run: {error!r} does not fit format {FORMAT}. It was "
                "written by another version or is damaged; delete it and run again."
            ) from error


def rebuilt_run(saved: dict[str, Any]) -> RecordedRun:
    """Build a run from its plain fields; those that earlier versions did not store may be missing.

    Args:
        saved: Fields as `asdict` gives them; infinite numbers may be written as words.
    """
    parts = {
        "final": {metric: float(value) for metric, value in saved["final"].items()},
        "curves": {tag: RecordedCurve(**points) for tag, points in saved["curves"].items()},
        "timing": Timing(**{name: float(value) for name, value in saved["timing"].items()}),
        "first_weights": FirstWeights(**saved.get("first_weights", {})),
    }
    return RecordedRun(**{**saved, **parts})


def save_run(run: RecordedRun, path: Path) -> None:
    """Write a run to a JSON file, which is either complete or not there.

    Args:
        run: The run.
        path: File to write; its folder must exist.
    """
    write_atomically(path, json.dumps(run.to_dict()).encode())


def load_run(path: Path) -> RecordedRun:
    """Read a run from a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or of another format.
    """
    try:
        saved = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"Cannot read {path}: it is not complete JSON ({error}). Delete it and run again."
        ) from error
    return RecordedRun.from_dict(saved)

"""The curves of one run and how they are kept on disk."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightning_qsgd.atomic_file import write_atomically

FORMAT = 1


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


@dataclass
class RecordedRun:
    """All curves of a run, with what makes it comparable to another.

    Attributes:
        fingerprint: Hash of the configuration that produced it; empty if unknown.
        initial_weights: Hash of the initial parameters; equal for paired runs.
        curves: The curves by tag.
    """

    fingerprint: str = ""
    initial_weights: str = ""
    curves: dict[str, RecordedCurve] = field(default_factory=dict)

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
            curves = {tag: RecordedCurve(**points) for tag, points in saved["curves"].items()}
            return cls(saved["fingerprint"], saved["initial_weights"], curves)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"Cannot read the recorded run: {error!r} does not fit format {FORMAT}. It was "
                "written by another version or is damaged; delete it and run again."
            ) from error


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

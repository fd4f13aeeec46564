"""The record of one run: what a fit and a comparison keep of it, and how it lies on disk."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

from lightning_qsgd.atomic_file import write_atomically

FORMAT = 1

INITIAL_WEIGHTS = "initial_weights"
DATA_ORDER = "data_order"
RANDOM_STATE = "random_state"
SEEN_BATCHES = "seen_batches"
"""Hashes of the first batch, the first two, and so on: what `DATA_ORDER` is for the last of them.
By these a run that ended before its 8th batch is compared with a longer one."""
INITIAL_BUFFERS = "initial_buffers"
VALIDATION_BATCHES = "validation_batches"
VALIDATION_DATA = "validation_data"
FINAL_WEIGHTS = "final_weights"
TRAINING_BATCHES = "training_batches"
TRAINING_ROWS = "training_rows"
EPOCH_BATCHES = "epoch_batches"
TRAINED_ON = (TRAINING_BATCHES, TRAINING_ROWS, EPOCH_BATCHES)
"""How much a run has trained on: batches, their rows, and the batches of its last epoch if it were
whole. They need not agree, and are said where they do not: what takes more data per step wins at
equal steps. They are not in runs that earlier versions stored."""
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


@dataclass(frozen=True)
class FirstWeights:
    """The weights of a run before its first step.

    Attributes:
        hashes: Hash of shape, precision and values by name, of every parameter and stored buffer;
            empty of a lazy one that has no values yet.
        parameters: Number of numbers that are trained: those that take gradients, and that an
            optimizer holds; 0 if unknown.
        buffers: Likewise of the buffers that are not stored with the weights, such as a projection
            that is drawn and then fixed; empty in runs of earlier versions. No part of `digest`,
            which runs of earlier versions have to agree with.
    """

    hashes: Mapping[str, str] = field(default_factory=dict)
    parameters: int = 0
    buffers: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """One hash of all names and values; empty if nothing was recorded."""
        text = repr(sorted(self.hashes.items()))
        return hashlib.sha256(text.encode()).hexdigest() if self.hashes else ""

    @property
    def has_unknown(self) -> bool:
        """Whether the values of some tensor were not recorded: it was lazy then."""
        return not all(self.hashes.values())


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
        checks: Hashes and counts by name: `PAIRED_CHECKS`, and optionally `FINAL_WEIGHTS` and
            `TRAINED_ON`.
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

    def note_weights(self, first: FirstWeights) -> None:
        """Keep the first weights, and the hash of all where all are known."""
        self.first_weights = first
        self.checks.pop(INITIAL_WEIGHTS, None)
        self.checks |= {} if first.has_unknown else {INITIAL_WEIGHTS: first.digest}

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


def start_alike(one: FirstWeights, other: FirstWeights) -> bool | None:
    """Tell whether one of two models has all tensors of the other, with the same first values.

    A model may add parameters to another, e.g. the circuit's weights in quantum attention: the two
    are a pair in all that the smaller one has. Where each has a tensor that the other lacks, as
    after a renaming, nothing says that they are the same network but for an addition: no pair.

    Returns:
        The answer; None if either was not recorded, or a lazy tensor of theirs without values.

    Example:
        >>> plain = FirstWeights({"head": "a1"}, 4)
        >>> start_alike(plain, FirstWeights({"head": "a1", "circuit": "b2"}, 20))
        True
        >>> start_alike(plain, FirstWeights({"tail": "a1", "circuit": "b2"}, 20))
        False
    """
    if not (one.hashes and other.hashes):
        return None
    fewer, more = sorted((one.hashes, other.hashes), key=len)
    pairs = [(value, more.get(name)) for name, value in fewer.items()]
    if any(None in pair for pair in pairs) or changed(fewer, more):
        return False
    return None if any("" in pair for pair in pairs) else True


def unlike(one: FirstWeights, other: FirstWeights) -> list[str]:
    """Name the tensors that stand against a pair: those of other values, else those not in both.

    Returns:
        Names in alphabetical order; none if the models start alike.

    Example:
        >>> unlike(FirstWeights({"head": "a1"}), FirstWeights({"tail": "a1"}))
        ['head', 'tail']
    """
    if start_alike(one, other) is not False:
        return []
    common = changed(one.hashes, other.hashes)
    return common or sorted(one.hashes.keys() ^ other.hashes.keys())


def changed(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Name what both have, with known hashes that differ, in alphabetical order."""
    common = sorted(one.keys() & other.keys())
    return [name for name in common if len({one[name], other[name]} - {""}) > 1]


def require_pair(ours: FirstWeights, baseline: FirstWeights, continued: str = "") -> None:
    """Refuse a baseline that started from other weights, or trained others.

    Args:
        ours: Of the run.
        baseline: Of its baseline.
        continued: A checkpoint that the run continues and that says nothing of first weights.

    Raises:
        RuntimeError: If the two are no pair.

    Example:
        >>> weights = FirstWeights({"head": "a1"}, 4)
        >>> require_pair(weights, weights)
    """
    apart = unlike(ours, baseline) or changed(ours.buffers, baseline.buffers)
    if apart:
        remedy = _GO_ON_ALONE.format(continued) if continued else _START_ALIKE
        raise RuntimeError(
            f"The baseline started from other weights ({', '.join(apart[:3])}), "
            "so the two runs are no pair: their difference would mix the perturbation with the "
            f"initialisation. {remedy}"
        )
    is_one_model = ours.hashes.keys() == baseline.hashes.keys()  # else an arm may have more
    if is_one_model and baseline.parameters and ours.parameters != baseline.parameters:
        raise RuntimeError(
            f"The baseline trained {baseline.parameters:,} numbers and this run trains "
            f"{ours.parameters:,} of the same model, so the two are no pair. Where "
            "`configure_optimizers` of the module leaves some out, the command line's optimizer "
            "takes all: write `--baseline own`, or give the others `requires_grad_(False)`. A "
            "baseline from before can be trained anew."
        )


_START_ALIKE = (
    "Use the same seed_everything and model, or train the baseline anew. Weights in a default "
    "argument, or on a class, are shared with the baseline, which trains first: make them in "
    "`__init__`."
)
_GO_ON_ALONE = (
    "This run continues {}, which says nothing of its first weights. Go on without a baseline, or "
    "from a checkpoint of a fit with this package."
)

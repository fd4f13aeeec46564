"""Everything that a comparison found: runs, failures, where they came from."""

import os
import platform
import subprocess
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from math import log
from typing import Literal

from lightning_qsgd.compare.results.arm import Arm
from lightning_qsgd.compare.results.published import Published
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import RecordedRun


@dataclass(frozen=True)
class Provenance:
    """What somebody needs in order to get the same numbers.

    Attributes:
        command: Command that repeats the comparison.
        config: The whole configuration, as text.
        versions: Version by package.
        git: Commit of the working tree, with a word if it has uncommitted changes.
        machine: Processor, cores, accelerator, operating system.
        date: When the comparison was started, ISO 8601.
    """

    command: str = ""
    config: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    git: str = ""
    machine: str = ""
    date: str = ""


PACKAGES = (
    *("lightning-qsgd", "torch", "lightning", "torchmetrics", "numpy", "scipy", "optuna", "ray"),
    *("qiskit", "qiskit-machine-learning", "qiskit-aer"),
)


def provenance_of(command: str, config: str) -> Provenance:
    """Describe this machine, its libraries and the state of the code.

    Args:
        command: Command that repeats the comparison.
        config: The whole configuration, as text.
    """
    return Provenance(command, config, _versions(), _git(), _machine(), _now())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git() -> str:
    try:
        commit, changes = (
            subprocess.run(
                ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit} with uncommitted changes" if changes else commit


def usable_cores() -> int:
    """Count the cores that this process may use: `taskset`, Slurm and containers leave it some.

    Example:
        >>> 1 <= usable_cores() <= os.cpu_count()
        True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # a system that ties no process to cores


def _machine() -> str:
    return f"{platform.machine()}, {usable_cores()} cores, {platform.system()} {platform.release()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


EDGE = 0.05
"""Share of the range, at either end, that counts as its edge."""

Scale = Literal["linear", "log", "complement"]
"""How a range is searched: the value, its logarithm, or the logarithm of one minus it."""


@dataclass(frozen=True)
class TunedValue:
    """The best value of one hyperparameter and the range it was looked for in.

    Args:
        name: Name of the hyperparameter.
        low: Least value tried, in the hyperparameter's unit.
        high: Greatest value tried.
        best: The value chosen.
        scale: How the range was searched.

    Raises:
        ValueError: If the range is empty, or does not hold the best value.

    Example:
        >>> TunedValue("lr", low=1e-4, high=1e-1, best=9e-2, scale="log").at_edge
        True
    """

    name: str
    low: float
    high: float
    best: float
    scale: Scale = "linear"

    def __post_init__(self) -> None:
        if not self.low <= self.best <= self.high or self.low == self.high:
            raise ValueError(
                f"Expected the best `{self.name}` inside a range, got {self.best} in [{self.low}, "
                f"{self.high}]: it was not found there. Record the range that was searched."
            )
        if self.scale == "log" and self.low <= 0:
            raise ValueError(
                f"Expected a positive range for `{self.name}` on a log scale, got it to start at "
                f"{self.low}. Use scale 'linear'."
            )

    @property
    def at_edge(self) -> bool:
        """Whether a better value may lie outside: best within `EDGE` of an end of the range."""
        return bool(self.edge)

    @property
    def edge(self) -> Literal["low", "high", ""]:
        """The end of the range that the best value lies at; empty if it lies inside."""
        low, high, best = (
            _searched(value, self.scale) for value in (self.low, self.high, self.best)
        )
        share = (best - low) / (high - low)
        return "low" if share < EDGE else "high" if share > 1 - EDGE else ""


def _searched(value: float, scale: Scale) -> float:
    if scale == "complement":
        return -log(1 - value)
    return log(value) if scale == "log" else value


@dataclass(frozen=True)
class TunedArm:
    """How one arm was tuned.

    Attributes:
        arm: Name of the arm.
        trials: Number of settings tried; fair if equal for all tuned arms, `extra` left out.
        seeds: Seeds used for tuning, none of which is reported.
        values: What was chosen.
        score: Mean of the goal's metric at the best setting over the seeds that chose it.
        extra: Trials among them that came after a best value at an edge had widened its range.
        final_seeds: Seeds at which the best settings were tried again, and that chose; else empty.
        finalists: How many settings were tried again.
        inert: Names of the values that moved nothing: trials that differ in them end with the same
            weights to the last bit.
    """

    arm: str
    trials: int
    seeds: tuple[int, ...]
    values: tuple[TunedValue, ...]
    score: float
    extra: int = 0
    final_seeds: tuple[int, ...] = ()
    finalists: int = 1
    inert: tuple[str, ...] = ()


@dataclass(frozen=True)
class FailedRun:
    """One run that raised or whose process died.

    Attributes:
        arm: Name of the arm.
        seed: Seed of the run.
        traceback: What it said last.
    """

    arm: str
    seed: int
    traceback: str


@dataclass(frozen=True)
class Comparison:
    """What is asked, fixed before the first run.

    Args:
        name: Name of the experiment.
        goal: Metric, direction, target and loss.
        arms: All arms in the order in which they are shown, exactly one of kind "baseline".
        seeds: Seeds of the reported runs.
        budget: What each run may spend, in words: "300 steps".
        published: Figures of others that the report shows beside the measured ones.
        length: The budget in steps or epochs; 0 if it is in seconds.
        alpha: Chance of any false claim about an arm that the verdicts may have.
        left_out: Arms that the folder has runs of and that are no longer on trial. They were looked
            at, so they stay questions: else to drop arms would make claims easier.

    Raises:
        ValueError: If the arms or seeds do not make a comparison, or the goal has no direction.

    Example:
        >>> arms = (Arm("adamw", "baseline"), Arm("sine"))
        >>> Comparison("digits", Goal(), arms, seeds=(0, 1, 2)).baseline.name
        'adamw'
    """

    name: str
    goal: Goal
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    budget: str = ""
    published: Published = field(default_factory=Published)
    length: int = 0
    alpha: float = 0.05
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        _refuse_repetition("arms", names)
        if not all(type(seed) is int and seed >= 0 for seed in self.seeds):
            raise ValueError(
                f"Expected the seeds to be whole numbers from 0, got {self.seeds}: they name "
                "files. Write them as numbers."
            )
        _refuse_repetition("seeds", self.seeds)
        _ = self.goal.is_rising  # refuses a goal that nobody could judge by
        if not self.seeds:
            raise ValueError(
                "Expected at least one seed, got none: there is nothing to run. Name at least 3, "
                "the fewest that allow a claim."
            )
        self.published.require_known(names)
        baselines = [arm.name for arm in self.arms if arm.kind == "baseline"]
        if len(baselines) != 1:
            raise ValueError(
                f"Expected exactly one arm of kind 'baseline', got {baselines}: all others are "
                "compared with it. Mark one arm."
            )
        kinds = {arm.name: arm.kind for arm in self.arms}
        for arm in self.arms:
            for control in arm.controls:
                if kinds.get(control) != "control":
                    raise ValueError(
                        f"Expected the controls of {arm.name!r} to be arms of kind 'control', got "
                        f"{control!r}: nothing could show what its gain is due to. Add that arm, "
                        "or take it out of `controls`."
                    )

    @property
    def baseline(self) -> Arm:
        """The arm that all others are compared with."""
        return next(arm for arm in self.arms if arm.kind == "baseline")

    @property
    def on_trial(self) -> tuple[Arm, ...]:
        """The arms that the comparison asks about, without controls and references."""
        return tuple(arm for arm in self.arms if arm.kind == "arm")

    @property
    def num_questions(self) -> int:
        """How many arms on trial claims are corrected for: those that were left out as well."""
        return len(self.on_trial) + len(self.left_out)

    @property
    def challengers(self) -> tuple[Arm, ...]:
        """All arms but the baseline, controls included."""
        return tuple(arm for arm in self.arms if arm.kind != "baseline")

    def arm(self, name: str) -> Arm:
        """Return the arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)


@dataclass(frozen=True)
class Results:
    """Everything a report is made of.

    A seed of an arm with neither a run nor a failure was not started yet; reports say so.

    Args:
        comparison: What was asked.
        runs: Runs that ended, in any order.
        failures: Runs that did not.
        tuning: How arms were tuned beforehand, one entry per tuned arm.
        provenance: Where the numbers come from.
        horizons: The same arms with shorter runs, by their length in the unit of the budget, for
            the steps that each needs to the target; their runs keep no curves on disk.
        untuned: Why arms could not be tuned, by arm: for want of settings, no run is made of them.
        fingerprints: Fingerprint of each planned run by arm, in the order of the seeds: a stored
            run with another one was made with another configuration. Empty if nobody noted them.

    Raises:
        ValueError: If a run belongs to no arm or seed, or is there twice.
    """

    comparison: Comparison
    runs: tuple[RecordedRun, ...]
    failures: tuple[FailedRun, ...] = ()
    tuning: tuple[TunedArm, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    horizons: Mapping[int, "Results"] = field(default_factory=dict)
    untuned: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = [(run.arm, run.seed) for run in self._ended]
        _refuse_repetition("runs", keys)
        strangers = sorted(set(keys) - set(self.planned))
        if strangers:
            raise ValueError(
                f"Expected runs of the compared arms and seeds only, got {strangers}: they belong "
                "to another comparison. Use one folder per comparison."
            )

    def __repr__(self) -> str:
        asked = self.comparison
        size = f"{len(asked.arms)} arms x {len(asked.seeds)} seeds"
        ended = f"{len(self.runs)} runs ended, {len(self.failures)} failed"
        return f"Results({asked.name}: {size}, {ended})"

    @property
    def _ended(self) -> list[RecordedRun | FailedRun]:
        return [*self.runs, *self.failures]

    @property
    def planned(self) -> list[tuple[str, int]]:
        """(Arm, seed) of all runs that are to be made, in the order of arms, then seeds."""
        asked = self.comparison
        names = [arm.name for arm in asked.arms if arm.name not in self.untuned]
        return [(name, seed) for name in names for seed in asked.seeds]

    def belongs(self, arm: str, seed: int, fingerprint: str) -> bool:
        """Tell whether a run of this fingerprint is the planned one; yes if nobody noted any."""
        if not self.fingerprints:
            return True
        noted = self.fingerprints.get(arm, ())
        return dict(zip(self.comparison.seeds, noted, strict=False)).get(seed) == fingerprint

    @property
    def missing(self) -> list[tuple[str, int]]:
        """(Arm, seed) of the runs that have neither ended nor failed."""
        known = {(run.arm, run.seed) for run in self._ended}
        return [key for key in self.planned if key not in known]

    @property
    def all_failures(self) -> list[FailedRun]:
        """Runs that failed, at whatever horizon."""
        return [*self.failures, *(one for part in self.horizons.values() for one in part.failures)]

    def runs_of(self, arm: str) -> dict[int, RecordedRun]:
        """Return the ended runs of an arm by seed, in the order of the seeds."""
        return self._by_arm.get(arm, {})

    @cached_property
    def _by_arm(self) -> dict[str, dict[int, RecordedRun]]:
        place = {seed: number for number, seed in enumerate(self.comparison.seeds)}
        found: dict[str, dict[int, RecordedRun]] = {}
        for run in sorted(self.runs, key=lambda run: place[run.seed]):
            found.setdefault(run.arm, {})[run.seed] = run
        return found


def _refuse_repetition(what: str, items: Sequence[Hashable]) -> None:
    twice = [item for item, count in Counter(items).items() if count > 1]
    if twice:
        raise ValueError(
            f"Expected every one of the {what} once, got {twice} more than once: a difference "
            "would count it twice. Remove the repetition."
        )

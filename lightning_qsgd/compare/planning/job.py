"""A job: one run of one arm at one seed, and how failures are handled."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_qsgd.training.recorded_run import fingerprint

RUNS, TARGET, TUNING = "runs", "target", "tuning"
"""Blocks: the reported runs, those that the target is taken from, and those of the tuning."""


def run_name(arm: str, seed: int, block: str = RUNS) -> str:
    """Return the place of a run in the folder of a comparison, without a suffix.

    Example:
        >>> run_name("adamw", 3), run_name("adamw", 3, "tuning/trial0")
        ('runs/adamw/seed3', 'tuning/trial0/adamw/seed3')
    """
    return f"{block}/{arm}/seed{seed}"


@dataclass(frozen=True)
class Job:
    """Describes a run completely; equal jobs give equal numbers.

    Args:
        arm: Name of the arm.
        seed: Seed of the run.
        config: Configuration of the subcommand `fit` as plain values, every default included.
        block: What the run is for, a relative path: `RUNS`, `TARGET` or below `TUNING`.
    """

    arm: str
    seed: int
    config: Mapping[str, Any] = field(repr=False, hash=False)
    block: str = RUNS

    @property
    def key(self) -> tuple[str, str, int]:
        """Block, arm and seed."""
        return self.block, self.arm, self.seed

    @property
    def name(self) -> str:
        """Relative path of the run, without a suffix."""
        return run_name(self.arm, self.seed, self.block)

    @property
    def fingerprint(self) -> str:
        """Hash of what determines the run: its configuration, and the versions it runs on."""
        return fingerprint(self.config)


PLACES = ("baseline", "ckpt_path", "config", "run", "weights_only")
DISPLAYS = (
    *("default_root_dir", "enable_model_summary", "enable_progress_bar"),
    *("log_every_n_steps", "logger"),
)


def what_determines(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a fit's configuration where it writes and what it shows.

    Args:
        config: Configuration of the subcommand `fit` as plain values; not changed.

    Example:
        >>> what_determines({"run": {"root": "a"}, "trainer": {"max_epochs": 1, "logger": None}})
        {'trainer': {'max_epochs': 1}}
    """
    kept = {key: value for key, value in config.items() if key not in PLACES}
    trainer = config.get("trainer") or {}
    kept["trainer"] = {key: value for key, value in trainer.items() if key not in DISPLAYS}
    return kept


def with_values(config: Mapping[str, Any], values: Mapping[str, float], arm: str) -> dict[str, Any]:
    """Set values deep inside a configuration.

    Args:
        config: Nested mappings; not changed.
        values: Values by dotted path.
        arm: Name of the arm, for error messages.

    Raises:
        ValueError: If the configuration has no such place.

    Example:
        >>> with_values({"optimizer": {"lr": 1.0}}, {"optimizer.lr": 2.0}, "adamw")
        {'optimizer': {'lr': 2.0}}
    """
    changed = deepcopy(dict(config))
    for path, value in values.items():
        *parents, last = path.split(".")
        node: Any = changed
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node:
            raise ValueError(
                f"Cannot set `{path}` of the arm {arm!r}: its configuration has no such place. "
                "Name the optimizer by `optimizer: {class_path: ...}`, give the range another "
                "`path`, or write `hyperparameters: given`."
            )
        node[last] = value
    return changed


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Name the places at which two configurations differ.

    Example:
        >>> list(differences({"a": {"lr": 1}, "b": 0}, {"a": {"lr": 2}, "b": 0}))
        ['a.lr: 1, now 2']
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            inner = f"{path}.{key}" if path else str(key)
            yield from differences(old.get(key), new.get(key), inner)
    elif old != new:
        yield f"{path}: {old}, now {new}"


@dataclass(frozen=True)
class Running:
    """Says where runs are stored, who makes them, and what to do in doubt.

    Args:
        folder: Where everything is stored; None takes `runs/compare/<name of the config>`.
        executor: "local" for processes on this machine, "ray" for a Ray cluster.
        processes: Runs at a time; None takes one per core, or what the cluster has.
        address: Address of the Ray cluster; None starts one on this machine.
        unpaired: What to do if two arms of a seed did not start alike or saw other data:
            "refuse" stops, "allow" goes on and leaves the pair out of every difference.
        changed: What to do with stored runs of another configuration: "refuse" to go on, or
            "rerun" and replace them.

    Raises:
        ValueError: If `processes` is below 1, or an address is given without Ray.

    Example:
        >>> Running(processes=2).executor
        'local'
    """

    folder: str | None = None
    executor: Literal["local", "ray"] = "local"
    processes: int | None = None
    address: str | None = None
    unpaired: Literal["refuse", "allow"] = "refuse"
    changed: Literal["refuse", "rerun"] = "refuse"

    def __post_init__(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise ValueError(
                f"Expected `processes` to be at least 1, got {self.processes}: nothing would run. "
                "Leave it out to use every core."
            )
        if self.address is not None and self.executor != "ray":
            raise ValueError(
                f"Expected no `address` with the executor {self.executor!r}, got "
                f"{self.address!r}: only Ray runs elsewhere. Add `executor: ray`."
            )

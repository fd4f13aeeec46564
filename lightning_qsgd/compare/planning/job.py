"""A job: one run of one arm at one seed, and how failures are handled."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from lightning_qsgd.training.recorded_run import fingerprint

RUNS, TARGET, TUNING, HORIZONS = "runs", "target", "tuning", "horizons"
"""Blocks: the reported runs, those that the target is taken from, those of the tuning, and those
that end earlier."""


def horizon_block(length: int) -> str:
    """Name the block of the runs that end after so many steps or epochs."""
    return f"{HORIZONS}/{length}"


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
        block: What the run is for, a relative path: `RUNS`, `TARGET`, or below `TUNING` or
            `HORIZONS`.
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


SEARCH_SPACE = "search_space"
DIRECTION = "higher_is_better"
PLACES = ("baseline", "ckpt_path", "config", "run", "weights_only", SEARCH_SPACE)
DISPLAYS = (
    *("default_root_dir", "enable_model_summary", "enable_progress_bar"),
    *("log_every_n_steps", "logger"),
)


def what_determines(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a fit's configuration where it writes, what it shows, and how it is tuned.

    Args:
        config: Configuration of the subcommand `fit` as plain values; not changed.

    Example:
        >>> what_determines({"run": {"root": "a"}, "trainer": {"max_epochs": 1, "logger": None}})
        {'trainer': {'max_epochs': 1}}
    """
    kept = {key: value for key, value in config.items() if key not in PLACES}
    trainer = config.get("trainer") or {}
    kept["trainer"] = {key: value for key, value in trainer.items() if key not in DISPLAYS}
    if "goal" in kept and kept["goal"].get(DIRECTION) is None:
        kept["goal"] = {
            **kept["goal"],
            DIRECTION: True,
        }  # the default of stored runs, trained alike
    return kept


def has_place(config: Mapping[str, Any], path: str) -> bool:
    """Tell whether a configuration has a place.

    Example:
        >>> has_place({"betas": [0.9, 0.99]}, "betas.0"), has_place({"betas": None}, "betas.0")
        (True, False)
    """
    try:
        value_at(config, path, "")
    except ValueError:
        return False
    return True


def value_at(config: Mapping[str, Any], path: str, arm: str) -> Any:
    """Return what lies at a dotted path.

    Args:
        config: Nested mappings and lists.
        path: Names and, for lists, indices.
        arm: Name of the arm, for error messages.

    Raises:
        ValueError: If the configuration has no such place.
    """
    *parents, last = path.split(".")
    node: Any = config
    for name in parents:
        node = node[_key(node, name)] if _key(node, name) is not None else None
    if _key(node, last) is None:
        raise ValueError(
            f"Cannot set `{path}` of the arm {arm!r}: its configuration has no such place. "
            "Name the optimizer by `optimizer: {class_path: ...}`, give the range another "
            "`path`, or write `hyperparameters: given`."
        )
    return node[_key(node, last)]


def _key(node: Any, name: str) -> Any:
    """Return the key or index that a name means in a node; None if the node has no such."""
    if isinstance(node, Mapping):
        return name if name in node else None
    inside = isinstance(node, list | tuple) and name.isdigit() and int(name) < len(node)
    return int(name) if inside else None


def with_values(config: Mapping[str, Any], values: Mapping[str, float], arm: str) -> dict[str, Any]:
    """Set values deep inside a configuration.

    Args:
        config: Nested mappings and lists; not changed.
        values: Values by dotted path.
        arm: Name of the arm, for error messages.

    Raises:
        ValueError: If the configuration has no such place.

    Example:
        >>> with_values({"optimizer": {"betas": [0.9, 0.99]}}, {"optimizer.betas.0": 0.5}, "adamw")
        {'optimizer': {'betas': [0.5, 0.99]}}
    """
    changed = deepcopy(dict(config))
    for path, value in values.items():
        value_at(changed, path, arm)
        *parents, last = path.split(".")
        node: Any = changed
        for name in parents:
            node = node[_key(node, name)]
        node[_key(node, last)] = value
    return changed


LENGTHS = (
    *("T_0", "T_max", "epochs", "milestones"),
    *("step_size", "step_size_down", "step_size_up", "total_iters", "total_steps"),
    *("max_epochs", "max_iters", "max_steps", "num_epochs", "num_training_steps"),
    *("t_initial", "total_epochs", "training_steps"),
)
"""What schedulers and decays call numbers of steps or epochs: of torch's all that give a schedule
its shape, those of a warm-up too, and what other libraries call the whole length. `patience` is
none: it waits for the metric."""

NO_LENGTHS = ("cooldown", "last_epoch", "patience", "power", "seed", "warmup_steps")
"""Whole numbers of schedules that stay as they are in a shorter run, and should."""


def shortened(
    config: Mapping[str, Any], trainer: Mapping[str, Any], share: float
) -> dict[str, Any]:
    """Let a run end earlier, and what its configuration schedules with it.

    Schedules that ask the trainer for its length follow by themselves. Numbers of steps or epochs
    that are written in `lr_scheduler` and `perturbation` are shortened by the same share, those of
    a warm-up by one of torch's schedulers too, if their names are among `LENGTHS`. `warmup_steps`
    stays.

    Args:
        config: Configuration of the run; not changed.
        trainer: The trainer's limits that make it shorter.
        share: Length of the shorter run over that of the whole one.

    Example:
        >>> whole = {"trainer": {}, "lr_scheduler": {"init_args": {"T_max": 200, "gamma": 2}}}
        >>> shortened(whole, {"max_steps": 140}, 0.7)["lr_scheduler"]
        {'init_args': {'T_max': 140, 'gamma': 2}}
    """
    parts = {key: _scaled(config[key], share) for key in SCHEDULED if key in config}
    return {**config, **parts, "trainer": {**config["trainer"], **trainer}}


SCHEDULED = ("lr_scheduler", "perturbation")


def _scaled(node: Any, share: float, name: str = "") -> Any:
    if isinstance(node, Mapping):
        return {key: _scaled(inner, share, str(key)) for key, inner in node.items()}
    if isinstance(node, list | tuple):
        return [_scaled(inner, share, name) for inner in node]
    is_length = name in LENGTHS and type(node) is int
    return max(1, round(share * node)) if is_length else node


def unshortened(config: Mapping[str, Any]) -> list[str]:
    """Name the whole numbers in a user's own schedules that a shorter run leaves as they are.

    They may be lengths of a name that nobody knows here: `shortened` cannot tell.

    Args:
        config: Configuration of the run.

    Example:
        >>> arguments = {"class_path": "mine.Warm", "init_args": {"hot": 400, "max_steps": 400}}
        >>> unshortened({"lr_scheduler": arguments})
        ['lr_scheduler.init_args.hot']
    """
    parts = {key: config.get(key) for key in SCHEDULED}
    found = (path for key, part in parts.items() for path in _of_unknown_meaning(part, key, False))
    of_schedules = (".lr_scheduler.", ".decay.")
    return [path for path in dict.fromkeys(found) if any(s in f".{path}" for s in of_schedules)]


def _of_unknown_meaning(node: Any, path: str, is_own: bool) -> Iterator[str]:
    if isinstance(node, Mapping):
        owner = node.get("class_path")
        if isinstance(owner, str):
            is_own = not owner.startswith(("torch.", "lightning_qsgd."))
        for name, inner in node.items():
            yield from _of_unknown_meaning(inner, f"{path}.{name}", is_own)
    elif isinstance(node, list | tuple):
        for inner in node:
            yield from _of_unknown_meaning(inner, path, is_own)
    elif is_own and type(node) is int and node > 1 and not path.endswith(KNOWN):
        yield path


KNOWN = tuple(f".{name}" for name in (*LENGTHS, *NO_LENGTHS))


def words_for_unshortened(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Say which numbers in users' own schedules the shorter runs leave as they are, by arm.

    Args:
        configs: Configuration of the whole run by arm.
    """
    found = {arm: unshortened(config) for arm, config in configs.items()}
    return {
        arm: f"{', '.join(f'`{path}`' for path in paths)} not shortened, since nothing tells what "
        "it counts. If it is a length, the shorter runs end in the middle of their schedule: call "
        "it `total_steps`, or let the schedule ask the trainer."
        for arm, paths in found.items()
        if paths
    }


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


def lost_parts(old: Any, new: Any, path: str = "") -> dict[str, list[str]]:
    """Name the classes that lists of one configuration hold and those of another do not.

    What only shows or saves is left out.

    Returns:
        Class paths by the place of the list; of a list of plain values nothing is said.

    Example:
        >>> callback = {"class_path": "my.Averaging", "init_args": {"rate": 0.9}}
        >>> lost_parts({"trainer": {"callbacks": [callback]}}, {"trainer": {"callbacks": None}})
        {'trainer.callbacks': ['my.Averaging']}
    """
    if isinstance(old, Mapping) and path not in LISTS:
        inner = new if isinstance(new, Mapping) else {}
        if old.get("class_path") != inner.get("class_path"):
            return {}  # another class has other arguments
        found: dict[str, list[str]] = {}
        for key, value in old.items():
            found |= lost_parts(value, inner.get(key), f"{path}.{key}" if path else str(key))
        return found
    gone = Counter(_classes(old)) - Counter(_classes(new))
    return {path: list(gone.elements())} if gone else {}


def is_named(path: str, names: Collection[str]) -> bool:
    """Whether names hold a class path, or its last part."""
    return path in names or path.rpartition(".")[-1] in names


LISTS = ("trainer.callbacks", "trainer.plugins")
"""Places that may hold one part in place of a list."""

SHOWING = (
    *("DeviceStatsMonitor", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary"),
    *("OnExceptionCheckpoint", "RichModelSummary", "RichProgressBar", "TQDMProgressBar"),
    *("ConvergenceCallback", "PerturbationMonitor", "RandomStateCallback", "TensorBoardCallback"),
)
"""Callbacks of Lightning and of this package that change no number of a run."""


OURS = ("lightning.", "lightning_qsgd.")


def _classes(parts: Any) -> list[str]:
    listed = parts if isinstance(parts, list | tuple) else [parts]
    paths = [str(p["class_path"]) for p in listed if isinstance(p, Mapping) and "class_path" in p]
    return [path for path in paths if not path.startswith(OURS) or _counts(path)]


def _counts(path: str) -> bool:
    return path.rpartition(".")[-1] not in SHOWING


MOST_PROCESSES = 10_000


@dataclass(frozen=True)
class Running:
    """Says where runs are stored, who makes them, and what to do in doubt.

    Args:
        folder: Where everything is stored; None takes `runs/compare/<name of the config>`.
        executor: "local" for processes on this machine, "ray" for a Ray cluster, or the class path
            of an `Executor`.
        processes: Runs at a time; None takes one per core that this
            process may use, or what the cluster has.
        address: Address of the Ray cluster; None starts one on this machine.
        unpaired: What to do if two arms of a seed did not start alike or saw other data:
            "refuse" stops, "allow" goes on and leaves the pair out of every difference.
        changed: What to do with stored runs of another configuration, and with results of other
            arms: "refuse" to go on, or "rerun" and replace them.

    Raises:
        ValueError: If `processes` is below 1, or an address is given with "local".

    Example:
        >>> Running(processes=2).executor
        'local'
    """

    folder: str | None = None
    executor: str = "local"
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
        if self.processes is not None and self.processes > MOST_PROCESSES:
            raise ValueError(
                f"Expected `processes` to be at most {MOST_PROCESSES}, got {self.processes}: no "
                "machine runs so many at a time. Leave it out to use every core."
            )
        if self.address is not None and self.executor == "local":
            raise ValueError(
                f"Expected no `address` with the executor 'local', got {self.address!r}: its "
                "processes are on this machine. Add `executor: ray`."
            )


def as_yaml(value: Any) -> str:
    """Write plain values as YAML, in their own order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)

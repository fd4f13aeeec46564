"""A job: one run of one arm at one seed, and its configuration."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

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
    if "goal" in kept and kept["goal"].get(DIRECTION) is None:  # what earlier versions took it for
        kept["goal"] = {**kept["goal"], DIRECTION: True}
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


def is_changed(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> bool:
    """Tell whether two configurations differ at a place, and not since a class on the way does.

    Example:
        >>> slow, fast = ({"optimizer": {"class_path": "SGD", "lr": lr}} for lr in (1, 2))
        >>> is_changed(slow, fast, "optimizer.lr")
        True
    """
    names = path.split(".")
    above = [".".join((*names[:n], "class_path")) for n in range(1, len(names))]
    pairs = [[value_at(c, p, "") if has_place(c, p) else None for c in (old, new)] for p in above]
    alike = has_place(old, path) and all(one == other for one, other in pairs)
    return alike and value_at(old, path, "") != value_at(new, path, "")


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
    *("T_0", "T_max", "anneal_epochs", "epochs", "milestones"),
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
    that are written in `lr_scheduler`, in `perturbation` and in torch's schedulers anywhere are
    shortened by the same share, those of a warm-up by one of torch's schedulers too, if their names
    are among `LENGTHS`. `warmup_steps` stays.

    Args:
        config: Configuration of the run; not changed.
        trainer: The trainer's limits that make it shorter.
        share: Length of the shorter run over that of the whole one.

    Example:
        >>> whole = {"trainer": {}, "lr_scheduler": {"init_args": {"T_max": 200, "gamma": 2}}}
        >>> shortened(whole, {"max_steps": 140}, 0.7)["lr_scheduler"]
        {'init_args': {'T_max': 140, 'gamma': 2}}
    """
    parts = {
        key: _scaled(part, share) if key in SCHEDULED else _with_scaled(part, share)
        for key, part in config.items()
    }
    return {**parts, "trainer": {**parts["trainer"], **trainer}}


SCHEDULED = ("lr_scheduler", "perturbation")
TORCHS = ("torch.optim.lr_scheduler.", "torch.optim.swa_utils.")


def _with_scaled(node: Any, share: float) -> Any:
    """Scale torch's schedulers wherever they stand: a module may take one as an argument."""
    if isinstance(node, Mapping):
        if str(node.get("class_path")).startswith(TORCHS):
            return _scaled(node, share)
        return {key: _with_scaled(inner, share) for key, inner in node.items()}
    return [_with_scaled(one, share) for one in node] if isinstance(node, list | tuple) else node


def _scaled(node: Any, share: float, name: str = "") -> Any:
    if isinstance(node, Mapping):
        return {key: _scaled(inner, share, str(key)) for key, inner in node.items()}
    if isinstance(node, list | tuple):
        return [_scaled(inner, share, name) for inner in node]
    is_length = name in LENGTHS and type(node) is int
    return max(1, round(share * node)) if is_length else node


def unshortened(config: Mapping[str, Any]) -> list[str]:
    """Name the whole numbers of a user's own that a shorter run leaves, and that may be lengths.

    In schedules these are the ones of a name that nobody knows here; elsewhere those that are
    called like a length, and epochs at which a callback does something.

    Args:
        config: Configuration of the run.

    Example:
        >>> arguments = {"class_path": "mine.Warm", "init_args": {"hot": 400, "max_steps": 400}}
        >>> unshortened({"lr_scheduler": arguments, "model": arguments})
        ['lr_scheduler.init_args.hot', 'model.init_args.max_steps']
    """
    callbacks = (config.get("trainer") or {}).get("callbacks")
    others = {k: part for k, part in config.items() if k not in (*SCHEDULED, "trainer")}
    found = [
        path
        for key in SCHEDULED
        for path, number, is_own in _whole_numbers(config.get(key), key, False)
        if is_own and number > 1 and not path.endswith(KNOWN)
        if any(part in f".{path}" for part in (".lr_scheduler.", ".decay."))
    ]
    found += [
        path.partition(SCHEDULING)[0] + SCHEDULING[:-1] if SCHEDULING in path else path
        for key, other in {**others, "trainer.callbacks": callbacks}.items()
        for path, number, is_own in _whole_numbers(other, key, True)
        if (is_own and number > 1 and _may_be_length(path)) or (number > 0 and _is_epoch(path))
    ]
    return [*dict.fromkeys(found)]


def _whole_numbers(node: Any, path: str, is_own: bool) -> Iterator[tuple[str, int, bool]]:
    """Find them with their places, and whether the class that takes one is a user's own."""
    if isinstance(node, Mapping):
        owner = node.get("class_path")
        if isinstance(owner, str):
            is_own = not owner.startswith(("torch.", "pytorch_lightning.", *OURS))
        for name, inner in node.items():
            yield from _whole_numbers(inner, f"{path}.{name}", is_own)
    elif isinstance(node, list | tuple):
        for inner in node:
            yield from _whole_numbers(inner, path, is_own)
    elif type(node) is int:
        yield path, node, is_own


def _may_be_length(path: str) -> bool:
    return path.endswith(CALLED) or ("sched" in path.lower() and not path.endswith(KNOWN))


def _is_epoch(path: str) -> bool:
    return path.endswith(EPOCHS) or (SCHEDULING in path and not path.endswith(".0"))


SCHEDULING = ".scheduling."
"""Lightning's `GradientAccumulationScheduler` has factors by epoch there."""

EPOCHS = tuple(
    f".{name}"
    for name in (
        *("swa_epoch_start", "unfreeze_backbone_at_epoch"),
        *("update_starting_at_epoch", "update_starting_at_step"),
    )
)
CALLED = tuple(f".{name}" for name in (*LENGTHS, "warmup_steps", "num_warmup_steps"))
KNOWN = tuple(f".{name}" for name in (*LENGTHS, *NO_LENGTHS))


def words_for_unshortened(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Say which numbers that may be lengths the shorter runs leave as they are, by arm.

    Args:
        configs: Configuration of the whole run by arm.
    """
    found = {arm: unshortened(config) for arm, config in configs.items()}
    return {
        arm: f"{', '.join(f'`{path}`' for path in paths)} not shortened, since nothing tells what "
        "it counts. If it is a length, the shorter runs end in the middle of their schedule: let "
        "the schedule ask the trainer, write a share where the class takes one, or call it "
        "`total_steps` in `lr_scheduler`."
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


def as_yaml(value: Any) -> str:
    """Write plain values as YAML, in their own order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)

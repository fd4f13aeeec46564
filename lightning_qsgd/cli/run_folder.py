"""Where a run writes, a folder of its own, claimed atomically; and what tells it from others."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from lightning_qsgd.compare.results.arm import require_folder_name, shortened

LONGEST_PATH = 1000
"""Bytes: systems take 4096, and folders and files come behind."""


@dataclass(frozen=True)
class RunPlace:
    """Names the folder ``<root>/<experiment>/<arm>/<name>`` of a run.

    TensorBoard gives each such folder a colour of its own, so arms that log the same tags lie in
    one chart.

    Args:
        root: Folder of all runs.
        experiment: What is trained; arms of one experiment are comparable.
        arm: How it is trained; None names it after the optimizer.
        name: Name of this run; None takes ``seed<k>``, with a number behind it if that is taken.

    Raises:
        ValueError: If a part is empty or too long, or a name holds a separator or a line break.

    Example:
        >>> RunPlace(experiment="digits", arm="adamw").folder_of_arm.as_posix()
        'runs/digits/adamw'
    """

    root: str = "runs"
    experiment: str = "experiment"
    arm: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        for part in ("experiment", "arm", "name"):
            value = getattr(self, part)
            if value is not None:
                require_folder_name(f"`run.{part}`", value)
        if "\0" in self.root or len(self.root.encode()) > LONGEST_PATH:
            raise ValueError(
                f"Expected `run.root` to be the path of a folder, got {shortened(self.root)}: no "
                "folder can have that name. Choose another."
            )

    @property
    def folder_of_arm(self) -> Path:
        """Folder of all runs of the arm."""
        return Path(self.root) / self.experiment / (self.arm or "arm")

    def require_free(self) -> None:
        """See that the run's folder can be made, without making it.

        Raises:
            FileExistsError: If `name` was given and its folder exists.
            NotADirectoryError: If a part of the path is a file.
        """
        folder = self.folder_of_arm
        for place in (folder, *folder.parents):
            if place.exists() and not place.is_dir():
                raise NotADirectoryError(
                    f"Cannot write the run to {folder}: {place} is a file. Choose another "
                    "`--run.root`, or move the file."
                )
        if self.arm is not None and self.name is not None and (folder / self.name).exists():
            raise self._in_use()

    def _in_use(self) -> FileExistsError:
        return FileExistsError(
            f"The run folder {self.folder_of_arm / str(self.name)} is in use: two runs in one "
            "folder would mix their curves. Choose another `--run.name`, leave it out to have one "
            "made up, or delete the folder."
        )

    def claim(self, seed: object) -> Path:
        """Create the run's folder; two processes never get the same one.

        Raises:
            FileExistsError: If `name` was given and its folder exists.
            OSError: If no folder can be made there.
        """
        self.require_free()
        try:
            return self._make(seed)
        except FileExistsError:
            raise
        except OSError as error:
            raise OSError(
                f"Cannot make the run's folder in {self.folder_of_arm}: {error.strerror}. Choose "
                "another `--run.root`, where this user may write."
            ) from error

    def _make(self, seed: object) -> Path:
        arm = self.folder_of_arm
        arm.mkdir(parents=True, exist_ok=True)
        if self.name is None:
            return _first_free(arm, f"seed{seed}")
        try:
            (arm / self.name).mkdir()
        except FileExistsError as error:
            raise self._in_use() from error
        return arm / self.name


def require_checkpoint(given: object, arm: Path) -> None:
    """See that there is a checkpoint to resume from, before a folder is claimed.

    Places that Lightning looks up elsewhere ("hpc", a registry, a URL) pass.

    Args:
        given: The value of `ckpt_path`; None resumes nothing.
        arm: Folder of all runs of the arm, where checkpoints are looked for.

    Raises:
        FileNotFoundError: If there is no such file, or it is named "last" or "best": each run has a
            new folder, in which Lightning would find none and start from the beginning.
    """
    if given is None or given == "hpc" or str(given).startswith("registry") or "://" in str(given):
        return
    is_looked_up = given in ("last", "best")
    if not is_looked_up and Path(str(given)).exists():
        return
    found = sorted(arm.glob("*/checkpoints/*.ckpt"), key=lambda file: file.stat().st_mtime)
    reason = (
        "each run has a new folder, which holds none yet"
        if is_looked_up
        else f"there is no such file in {Path.cwd()}"
    )
    remedy = (
        f"The newest here is {found[-1]}: give its path to --ckpt_path."
        if found
        else f"There is none below {arm}: leave --ckpt_path out."
    )
    raise FileNotFoundError(f"Cannot resume from {given}: {reason}. {remedy}")


def give_back(folder: Path) -> None:
    """Remove a claimed folder in which nothing was run, and those above it that are empty too.

    Args:
        folder: What `claim` returned.
    """
    for place in (folder, *folder.parents[:3]):
        if not place.is_dir() or any(place.iterdir()):
            return
        place.rmdir()


def _first_free(arm: Path, name: str) -> Path:
    for number in count(1):
        folder = arm / (name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable: count() does not end")


def hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Pick what tells the runs of an experiment apart, for the table of TensorBoard.

    TensorBoard sorts the columns by name, those that differ first, and shows five: the arm, its
    base optimizer and the perturbation. Model and data are those of the experiment, and would
    hide them.

    Args:
        config: The configuration as plain values.

    Returns:
        Arm, base optimizer and schedule, seed, the other settings, and the perturbation of a run
        that is not perturbed: `TensorBoardCallback` puts that of the optimizers in its place.

    Example:
        >>> sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "foreach": True}}
        >>> hyperparameters({"seed_everything": 1, "run": {"arm": "plain"}, "optimizer": sgd})
        {'arm': 'plain', 'base': 'SGD', 'base/lr': 0.1, 'perturbation': {'strength': 0.0}, ...}
    """
    row: dict[str, Any] = {"arm": (config.get("run") or {}).get("arm")}
    optimizer, schedule = (config.get(key) or {} for key in ("optimizer", "lr_scheduler"))
    settings = dict(optimizer.get("init_args") or {})
    row["base"] = _short(optimizer.get("class_path"))
    row |= {f"base/{name}": settings.pop(name) for name in _TUNED if name in settings}
    row["base/schedule"] = _short(schedule.get("class_path"))
    trainer = config.get("trainer") or {}
    settings |= {name: trainer[name] for name in ("max_epochs", "max_steps") if trainer.get(name)}
    # A strength of zero equals the bare optimizer, and a column that all runs have shows first.
    row["perturbation"] = {"strength": 0.0}
    row |= {"seed": config.get("seed_everything"), "settings": settings or None}
    return {name: value for name, value in row.items() if value is not None}


_TUNED = ("lr", "weight_decay", "momentum")


def _short(class_path: str | None) -> str | None:
    return class_path.rsplit(".", 1)[-1] if class_path else None


def default_arm(optimizer: str | None, is_perturbed: bool) -> str:
    """Name an arm after its optimizer.

    Args:
        optimizer: Class path of the optimizer; None if the module or the command line fixes it.
        is_perturbed: Whether its steps are, wherever in the configuration that is asked for.

    Example:
        >>> default_arm("torch.optim.SGD", is_perturbed=True)
        'sgd_perturbed'
    """
    name = (_short(optimizer) or "default").lower()
    return f"{name}_perturbed" if is_perturbed else name

"""Where a run writes: a folder of its own, claimed atomically."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path


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
        ValueError: If a part is empty, or a name holds a path separator.

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
            if value is not None and (value in ("", ".", "..") or set(value) & set("/\\")):
                raise ValueError(
                    f"Expected `run.{part}` to be the name of one folder, got {value!r}: it is a "
                    "part of the run's path. Use letters, digits, '.', '_' and '-'."
                )

    @property
    def folder_of_arm(self) -> Path:
        """Folder of all runs of the arm."""
        return Path(self.root) / self.experiment / (self.arm or "arm")

    def claim(self, seed: object) -> Path:
        """Create the run's folder; two processes never get the same one.

        Raises:
            FileExistsError: If `name` was given and its folder exists.
        """
        arm = self.folder_of_arm
        arm.mkdir(parents=True, exist_ok=True)
        if self.name is None:
            return _first_free(arm, f"seed{seed}")
        try:
            (arm / self.name).mkdir()
        except FileExistsError as error:
            raise FileExistsError(
                f"The run folder {arm / self.name} is in use: two runs in one folder would mix "
                "their curves. Choose another `--run.name`, leave it out to have one made up, or "
                "delete the folder."
            ) from error
        return arm / self.name


def _first_free(arm: Path, name: str) -> Path:
    for number in count(1):
        folder = arm / (name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable: count() does not end")

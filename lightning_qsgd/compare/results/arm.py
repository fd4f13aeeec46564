"""One way to train that takes part in a comparison."""

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["baseline", "arm", "control", "reference"]
"""The baseline is what the others are compared with; an arm is on trial, and each is a question; a
control shows what an arm's gain is not; a reference stands beside them for orientation."""


@dataclass(frozen=True)
class Arm:
    """Names an arm and says what it is compared with.

    Args:
        name: Name in tables and folders.
        kind: "baseline", "arm", "control" or "reference".
        controls: Names of the controls that match this arm in size. An arm is called better only
            if it also beats each of them.
        description: What it does, in a few words for the report.
        overlay: The lines of configuration that make it what it is.
        lacks: Hyperparameters that were tuned for the baseline and that this arm does not have.

    Raises:
        ValueError: If the kind is unknown, or something else than an arm has controls.

    Example:
        >>> Arm("circuit", controls=("gaussian",)).kind
        'arm'
    """

    name: str
    kind: Kind = "arm"
    controls: tuple[str, ...] = ()
    description: str = ""
    overlay: str = ""
    lacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"Expected `kind` to be one of {get_args(Kind)}, got {self.kind!r}. "
                "Write 'arm' for a way of training that is on trial."
            )
        if self.controls and self.kind != "arm":
            raise ValueError(
                f"Expected only arms to have controls, got a {self.kind} {self.name!r} with "
                f"{self.controls}: a control is matched to an arm. Move `controls` to the arm."
            )

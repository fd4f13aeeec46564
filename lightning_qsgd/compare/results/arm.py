"""One way to train that takes part in a comparison."""

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["baseline", "arm", "control", "reference"]
"""The baseline is what the others are compared with; an arm is on trial, and each is a question; a
control shows what an arm's gain is not; a reference stands beside them for orientation."""


LONGEST_NAME = 200
"""Bytes: file systems take 255, and suffixes come behind."""


def require_folder_name(what: str, name: str) -> None:
    """Refuse a name that no folder, or more than one, could have.

    Args:
        what: What is named, for the message.
        name: The name.

    Raises:
        ValueError: If it is empty, holds a separator or control characters, or is too long.

    Example:
        >>> require_folder_name("`run.arm`", "a/b")
        Traceback (most recent call last):
        ...
        ValueError: Expected `run.arm` to be the name of one folder, got 'a/b': ...
    """
    if not isinstance(name, str):
        raise ValueError(
            f"Expected {what} to be the name of one folder, got {name!r}: no text. "
            "Put it in quotes: YAML takes yes, null and 1 for something else."
        )
    unfit = name in ("", ".", "..") or set(name) & set("/\\") or not name.isprintable()
    if unfit or name.strip() != name or len(name.encode(errors="replace")) > LONGEST_NAME:
        raise ValueError(
            f"Expected {what} to be the name of one folder, got {shortened(name)}: it is a part of "
            f"the run's path. Use letters, digits, '.', '_' and '-', {LONGEST_NAME} at most."
        )


def shortened(text: str) -> str:
    """Quote a text of whatever length for a message.

    Example:
        >>> shortened("a" * 300)
        "'aaaaaaaaaaaaaaaaaaaaaaaa...' (300 characters)"
    """
    return repr(text) if len(text) <= 60 else f"'{text[:24]!s}...' ({len(text)} characters)"


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
        lacks: Hyperparameters that were tuned for the baseline and not for this arm.
        remarks: Sentences on what sets it apart from the baseline besides what its overlay says.

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
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_folder_name("the name of an arm", self.name)
        if self.name.startswith("_"):
            raise ValueError(
                f"Expected the name of an arm to be the name of one folder without '_' in front, "
                f"got {shortened(self.name)}: such folders hold means. Choose another name."
            )
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

"""Where the numbers of a comparison come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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

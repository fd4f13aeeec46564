"""Where and how a comparison runs; none of it changes a number."""

from dataclasses import dataclass
from typing import Literal


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

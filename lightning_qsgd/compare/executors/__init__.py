"""Who makes the runs: processes on this machine, or a Ray cluster. The numbers are the same."""

from pathlib import Path

from lightning_qsgd.compare.executors.executor import Attempt, Executor, Fit, attempt
from lightning_qsgd.compare.executors.local import LocalExecutor
from lightning_qsgd.compare.executors.ray import RayExecutor
from lightning_qsgd.compare.planning.job import Running

__all__ = [
    "Attempt",
    "Executor",
    "Fit",
    "LocalExecutor",
    "RayExecutor",
    "attempt",
    "choose_executor",
]


def choose_executor(running: Running, logs: Path) -> Executor:
    """Build the executor.

    Args:
        running: What the config says.
        logs: Folder for what local runs print.

    Raises:
        ModuleNotFoundError: If it needs a library that is not installed.
    """
    if running.executor == "ray":
        return RayExecutor(running.address, running.processes)
    return LocalExecutor(logs, running.processes)

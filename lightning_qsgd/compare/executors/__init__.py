"""Who makes the runs: processes on this machine, or a Ray cluster. The numbers are the same."""

from lightning_qsgd.compare.executors.executor import (
    Attempt,
    Executor,
    Fit,
    attempt,
    choose_executor,
)
from lightning_qsgd.compare.executors.local import LocalExecutor
from lightning_qsgd.compare.executors.ray import RayExecutor

__all__ = [
    "Attempt",
    "Executor",
    "Fit",
    "LocalExecutor",
    "RayExecutor",
    "attempt",
    "choose_executor",
]

"""How the runs of a comparison are made, kept and continued."""

from lightning_qsgd.compare.executors.executor import Running
from lightning_qsgd.compare.planning.job import Job

__all__ = ["Job", "Running"]

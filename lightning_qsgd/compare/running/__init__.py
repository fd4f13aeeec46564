"""How the runs of a comparison are made, kept and continued."""

from lightning_qsgd.compare.planning.job import Job, Running

__all__ = ["Job", "Running"]

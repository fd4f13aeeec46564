"""What a process of the local executor does."""

import faulthandler
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lightning_qsgd.compare.executors.attempt import Attempt, Fit, attempt
from lightning_qsgd.compare.running.job import Job


def work(fit: Fit, job: Job, parent: "Connection[Attempt, Any]", log: Path) -> None:
    """Make one run and send what became of it.

    Args:
        fit: Trains the run.
        job: What to run.
        parent: Where the attempt is sent.
        log: File for everything that the run prints.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with log.open("w") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        faulthandler.enable(output)
        parent.send(attempt(fit, job))
        faulthandler.disable()
    parent.close()


def _die_with_parent() -> None:
    """End with a parent that was killed: nobody would store the run, and the cores are needed."""
    owner = multiprocessing.parent_process()
    if owner is not None:
        owner.join()
        os._exit(1)

"""Launches the processes of a distributed test."""

import multiprocessing
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing import start_processes

SECONDS = 120


def run_processes(
    work: Callable[[int, int, int, Path], None], processes: int, folder: Path
) -> list[dict[str, Any]]:
    """Run `work(rank, processes, port, folder)` in each process; return what each has saved.

    The processes are forked from a server that has imported everything once, which takes longer
    than the tests themselves.
    """
    multiprocessing.set_forkserver_preload([work.__module__])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = (processes, port, folder)
    launched = start_processes(work, arguments, processes, join=False, start_method="forkserver")
    deadline = time.monotonic() + SECONDS
    try:
        while not launched.join(timeout=1):
            assert time.monotonic() < deadline, f"the processes took longer than {SECONDS} s"
    finally:
        for process in launched.processes:
            if process.is_alive():
                process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(processes)]

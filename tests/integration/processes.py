"""Launches the processes of a distributed test."""

import multiprocessing
import os
import socket
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
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


def become_rank(rank: int, processes: int, port: int) -> None:
    """Make this process one of several, with what a launcher such as torchrun would set."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(100 + rank)  # global generators may differ between ranks
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }


def join_gloo(rank: int, processes: int, port: int) -> None:
    """Make this process one of a group on gloo, where no Lightning does so."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(100 + rank)  # global generators may differ between ranks
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=processes,
        timeout=timedelta(seconds=30),
    )

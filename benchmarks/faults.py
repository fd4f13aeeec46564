"""Count what kills, flipped bits and full disks do to a run, without and with this package.

Run `python -m benchmarks.faults`; it takes some minutes on two cores. Disks are filled if
SMALL_DISK names a folder on a file system of 8 MB: `mount -t tmpfs -o size=8m tmpfs <folder>`.
"""

import multiprocessing
import os
import random
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch.multiprocessing import ProcessExitedException, start_processes
from torch.utils.data import DataLoader

from lightning_qsgd.data import split_data_module
from lightning_qsgd.training import SafeCheckpointIO
from tests.integration.killed_worker import LAST, LIMIT, Kill, train

KILLS, FLIPS = 20, 20
SMALL_DISK = Path(os.environ.get("SMALL_DISK", "no disk"))
CONTENT = {"w": torch.arange(5000.0)}


def die(_: int, name: str, batch: int, folder: Path, plain: bool) -> None:
    """Train until the process kills itself."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if plain:
        split_data_module.ResumableLoader = DataLoader
    train(name, folder, Kill(batch))


def equal_after_kill(name: str, batch: int, plain: bool) -> bool:
    """Kill a run before a batch, resume it, and compare its weights with an uninterrupted run."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        arguments = (name, batch, folder / "killed", plain)
        while not (folder / "killed" / LAST).exists():  # a busy system may kill it even earlier
            with suppress(ProcessExitedException):
                start_processes(die, arguments, 1, start_method="forkserver")
        split_data_module.ResumableLoader = DataLoader if plain else LOADER
        torch.rand(17)
        resumed = train(name, folder / "rest", ckpt=folder / "killed" / LAST)
        return torch.equal(resumed["weights"], uninterrupted(name))


LOADER = split_data_module.ResumableLoader


@cache
def uninterrupted(name: str) -> torch.Tensor:
    """Return the weights of the run that nobody killed; any loader serves it alike."""
    with TemporaryDirectory() as folder:
        weights: torch.Tensor = train(name, Path(folder))["weights"]
        return weights


def kills(plain: bool) -> int:
    """Count the resumed runs that end as if nothing had happened."""
    rng, names = random.Random(0), ["digits", "sequences", "characters"]
    # Not at the first batch, before which there is no checkpoint, nor at an epoch's end.
    batches = [batch for batch in range(1, 2 * LIMIT) if batch % LIMIT]
    cases = [(names[n % len(names)], rng.choice(batches)) for n in range(KILLS)]
    return sum(equal_after_kill(name, batch, plain) for name, batch in cases)


def flips(io: TorchCheckpointIO) -> int:
    """Count the files with a flipped bit that are refused, or still hold the right numbers."""
    found = 0
    with TemporaryDirectory() as temporary:
        file = Path(temporary) / "a.ckpt"
        for seed in range(FLIPS):
            io.save_checkpoint(CONTENT, file)
            content, rng = bytearray(file.read_bytes()), random.Random(seed)
            content[rng.randrange(len(content) - 100)] ^= 1 << rng.randrange(8)
            file.write_bytes(content)
            try:
                io.load_checkpoint(file)
            except Exception:  # whatever says that something is wrong
                found += 1
    return found


def full_disks(io: TorchCheckpointIO) -> int:
    """Write ever larger checkpoints over a good one on a small disk; count the whole ones left."""
    file, whole = SMALL_DISK / "a.ckpt", 0
    for size in (1_200_000, 1_600_000, 3_000_000):
        file.unlink(missing_ok=True)
        io.save_checkpoint({"w": torch.ones(1_000_000)}, file)
        with suppress(Exception):
            io.save_checkpoint({"w": torch.ones(size)}, file)
        with suppress(Exception):
            whole += len(io.load_checkpoint(file)["w"]) in (size, 1_000_000)
    file.unlink(missing_ok=True)
    return whole


def main() -> None:
    """Print a table."""
    warnings.simplefilter("ignore")
    multiprocessing.set_forkserver_preload([__name__])
    rows: dict[str, tuple[int, Callable[[Any], int], Any, Any]] = {
        "runs killed within an epoch, resumed bit for bit": (KILLS, kills, True, False),
        "flipped bits found": (FLIPS, flips, TorchCheckpointIO(), SafeCheckpointIO()),
    }
    if SMALL_DISK.is_dir():
        title = "full disks, a whole checkpoint is left"
        rows[title] = (3, full_disks, TorchCheckpointIO(), SafeCheckpointIO())
    print(f"{'':50} {'of':>4} {'here':>6} {'Lightning':>10}", flush=True)
    for title, (total, count, before, after) in rows.items():
        print(f"{title:50} {total:4} {count(after):6}", end=" ", flush=True)
        print(f"{count(before):10}", flush=True)


if __name__ == "__main__":
    main()

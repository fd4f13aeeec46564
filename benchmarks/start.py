"""What it costs to start: imports, `--help`, and the answer to a misspelt word.

    python -m benchmarks.start

Process time (user and system) of a new Python for each, which does not count the time that other
programs take. Rounds go through all of them in turn; the best round of each is shown, since
whatever else is going on only adds. Writes benchmarks/results/start.json.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results" / "start.json"
ROUNDS = 5
MISSPELT = "trainr: {max_epochs: 1}\n"
MISSPELT_INSIDE = "optimizer: {class_path: torch.optim.SGD, init_args: {momentun: 0.9}}\n"


@dataclass(frozen=True)
class Case:
    """One start of Python.

    Attributes:
        title: For the table.
        arguments: What follows `python`.
        limit: Most seconds that it should take; None for none.
    """

    title: str
    arguments: tuple[str, ...]
    limit: float | None = None


def _code(code: str) -> Case:
    return Case(code, ("-c", code))


def _command(typed: str, limit: float | None = None) -> Case:
    return Case(f"lightning-qsgd {typed}", ("-m", "lightning_qsgd", *typed.split()), limit)


PEER = _code("import lightning, torch")
WHOLE = _code("from lightning_qsgd import *")
CASES = (
    PEER,
    _code("import lightning_qsgd"),
    WHOLE,
    _command("--version", 1.5),
    _command("--help", 3.0),
    _command("fti", 1.5),
    _command("fit --config digts", 1.5),
    _command("fit --config digits --modle x", 1.5),
    _command("fit --config misspelt.yaml", 1.5),
    _command("fit --config misspelt_inside.yaml", 1.5),
    _command("fit --trainer.max_epohcs 3", 1.5),
    _command("fit --optimizer torch.optim.AdmW", 1.5),
    _command("fit --config digits --optimizer.lrr 1", 1.5),
    _command("configs", 1.5),
    _command("fit --help", 3.0),
    _command("compare --help", 3.0),
    _command("fit --help all"),
)


def seconds(case: Case, folder: str) -> float:
    """Return the process time of one start."""
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, *case.arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, usage = os.wait4(child.pid, 0)
    child.returncode = 0  # it was waited for
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure, print and write the figures."""
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "misspelt.yaml").write_text(MISSPELT)
        (Path(folder) / "misspelt_inside.yaml").write_text(MISSPELT_INSIDE)
        for _ in range(ROUNDS):
            for case in CASES:
                best[case.title] = min(best.get(case.title, 1e9), seconds(case, folder))
    table = Table("start", "seconds", "limit", f"of {PEER.title}", box=None)
    for case in CASES:
        took = best[case.title]
        limit = "" if case.limit is None else f"{case.limit:g}"
        table.add_row(case.title, f"{took:.2f}", limit, f"{took / best[PEER.title]:.2f}")
    Console().print(table)
    host = {"python": platform.python_version(), "rounds": ROUNDS, "cores": os.cpu_count()}
    RESULTS.write_text(json.dumps({"host": host, "seconds": best}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What a comparison leaves behind for people: report, TensorBoard runs, a table."""

import os
import shutil
import sys
from pathlib import Path

from rich.console import Console

from lightning_qsgd.compare.report import summary_table, write_report
from lightning_qsgd.compare.results import Results
from lightning_qsgd.compare.running.job import RUNS
from lightning_qsgd.compare.running.stored_run import RunStore
from lightning_qsgd.compare.tensorboard_runs import MEAN, write_tensorboard

MOST_SHOWN = 40
"""TensorBoard selects no run of its own accord where there are more."""


def publish(results: Results, folder: Path, console: Console) -> None:
    """Write the report and the TensorBoard runs, and show the outcome.

    Args:
        results: The runs.
        folder: Folder of the comparison.
        console: Where the outcome is shown.
    """
    page = write_report(results, folder)
    store = RunStore(folder)
    configs = {
        run.arm: stored.config
        for run in results.runs
        if (stored := store.load(f"{RUNS}/{run.arm}/seed{run.seed}")) is not None
    }
    logs = write_tensorboard(results, folder, configs)
    console.print(summary_table(results))
    if results.failures:
        console.print(f"[bold red]{len(results.failures)} runs failed[/]; see the report.")
    console.print(f"Report: {page}", soft_wrap=True)
    found = shutil.which("tensorboard") or Path(sys.executable).with_name("tensorboard")
    command = f"{os.path.relpath(found)} --logdir {logs}"
    console.print(f"See the mean curves: {command}/{MEAN}", soft_wrap=True)
    console.print(f"And all runs: {command}", soft_wrap=True)
    if len(results.runs) > MOST_SHOWN:
        console.print(f"TensorBoard hides more than {MOST_SHOWN} runs until they are ticked.")

"""Paired differences between the arms of an experiment and AdamW, over the seeds that were run.

    for seed in 0 1 2 3 4 5 6 7; do for arm in sine_0.5 quantum_0.5 relative_0.5 equation_1; do
        lightning-qsgd fit -c configs/experiments/sequences.yaml -c configs/arms/$arm.yaml \
            --baseline '{}' --seed_everything $seed
    done; done
    python -m benchmarks.paired_differences runs/sequences val/accuracy

Reads the records that `lightning-qsgd fit` leaves. Pairs share seed, weights and data order; the
interval is Student's t at 95 % for the mean difference, without correction for several arms.
"""

import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from lightning_qsgd.training.recorded_run import load_run

BASELINE = "adamw"


def final_values(arm: Path, metric: str) -> dict[str, float]:
    """Return the last value of the metric by name of the run (its seed)."""
    files = sorted(arm.glob("*/record.json"))
    return {file.parent.name: load_run(file).curve(metric).values[-1] for file in files}


def main(experiment: str, metric: str) -> None:
    """Print one row per arm."""
    folders = [folder for folder in sorted(Path(experiment).iterdir()) if folder.is_dir()]
    baseline = final_values(Path(experiment) / BASELINE, metric)
    table = Table(title=f"{experiment}: final {metric}")
    for column in ("arm", "pairs", "mean", "minus AdamW", "95 % interval", "equal pairs"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for folder in folders:
        values = final_values(folder, metric)
        seeds = sorted(values.keys() & baseline.keys())
        own = np.array([values[seed] for seed in seeds])
        differences = own - np.array([baseline[seed] for seed in seeds])
        half = stats.t.ppf(0.975, len(seeds) - 1) * stats.sem(differences)
        mean = differences.mean()
        table.add_row(
            folder.name,
            str(len(seeds)),
            f"{own.mean():.4f}",
            f"{mean:+.4f}",
            f"{mean - half:+.4f} to {mean + half:+.4f}",
            str(int((differences == 0).sum())),
        )
    Console().print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])

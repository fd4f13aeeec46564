"""What features cost per touched entry: AdamW alone, and with alignment on all entries.

    python -m benchmarks.entries

Steps are taken one after the other with the same gradients: this is the arithmetic on the entries
with warm caches, where `benchmarks.step` measures a step in a training. One pinned core, one
thread, process time. Bare and wrapped optimizers take turns; the figures are medians over rounds.
"""

import os
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.optim import AdamW, Optimizer

from benchmarks.step import ALIGNMENT
from lightning_qsgd import PerturbedOptimizer
from lightning_qsgd.nn import TransformerClassifier

ROUNDS, STEPS = 31, 20
ENTRIES = 2**17


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        shapes: Of the parameters.
        fused: Whether AdamW is fused; torch chooses otherwise.
        limit: Most nanoseconds per entry of a wrapped step; None for none.
    """

    name: str
    shapes: Sequence[torch.Size]
    fused: bool
    limit: float | None = None


def _cases() -> list[Case]:
    one, many = [torch.Size([ENTRIES])], [p.shape for p in TransformerClassifier().parameters()]
    return [
        Case("one tensor, default", one, False, 12.0),
        Case("one tensor, fused", one, True, 12.0),
        Case(f"{len(many)} tensors, default", many, False),
        Case(f"{len(many)} tensors, fused", many, True),
    ]


def _optimizer(case: Case, wrapped: bool) -> Optimizer:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape)) for shape in case.shapes]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    base = AdamW(parameters, lr=1e-3, fused=True if case.fused else None)
    return PerturbedOptimizer(base, ALIGNMENT) if wrapped else base


def _seconds(optimizer: Optimizer) -> float:
    start = time.process_time()
    for _ in range(STEPS):
        optimizer.step()
    return (time.process_time() - start) / STEPS


def measure(case: Case) -> list[list[float]]:
    """Return nanoseconds per entry of each round, bare and wrapped."""
    optimizers = [_optimizer(case, wrapped) for wrapped in (False, True)]
    for optimizer in optimizers:
        _seconds(optimizer)
    entries = sum(shape.numel() for shape in case.shapes)
    rounds = [[_seconds(each) * 1e9 / entries for each in optimizers] for _ in range(ROUNDS)]
    return [list(column) for column in zip(*rounds, strict=True)]


def _shown(values: Sequence[float]) -> str:
    ordered = sorted(values)
    low, high = ordered[ROUNDS // 10], ordered[-1 - ROUNDS // 10]
    return f"{statistics.median(ordered):.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    """Measure the cases and print the table."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    table = Table(title="ns per entry of one step, AdamW; median (9 rounds in 10 lie within)")
    for column in ("parameters", "bare", "with alignment", "added", "limit"):
        table.add_column(column, justify="left" if column == "parameters" else "right")
    for case in _cases():
        bare, wrapped = measure(case)
        added = [with_ - without for without, with_ in zip(bare, wrapped, strict=True)]
        limit = "-" if case.limit is None else f"{case.limit:g}"
        table.add_row(case.name, *map(_shown, (bare, wrapped, added)), limit)
    Console().print(table)


if __name__ == "__main__":
    main()

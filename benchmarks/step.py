"""What a wrapped `optimizer.step()` costs beside the bare one, inside a real training step.

    python -m benchmarks.step
    python -m benchmarks.step --only "131 k, fused"   (cases whose name holds this; writes nothing)

One pinned core, one thread, process time. Bare and wrapped optimizers take turns, step by step, on
models of their own, so that each step meets the caches as forward and backward left them. A round
is the mean of its steps (a median would hide the steps at which the size is measured); the ratio
is the median over rounds. Writes benchmarks/results/step.json.

Ratios depend on the machine: what the caches hold, and which vector instructions there are.
Compare two versions on one machine, in turn.
"""

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lightning_qsgd import (
    Alignment,
    AllEntries,
    CompiledBackend,
    GradientInjection,
    HiddenMatrices,
    MuonWithAdamW,
    Perturbation,
    PerturbedOptimizer,
    RenormalisedInjection,
    SamplerBackend,
    SignalProcessingCircuit,
    SpectralInjection,
    SuperpositionCircuit,
)
from lightning_qsgd.nn import TransformerClassifier
from lightning_qsgd.nn.transformer_classifier import TransformerSizes

RESULTS = Path(__file__).parent / "results" / "step.json"
LARGE = TransformerSizes(embedding=512, heads=8, feed_forward=2048, layers=8)
MIDDLE = TransformerSizes(embedding=256, heads=8, feed_forward=1024, layers=4)
SPECTRAL = Perturbation(
    backend=SignalProcessingCircuit(),
    coordinates=HiddenMatrices(),
    injection=SpectralInjection(),
    strength=0.9,
)

ALIGNMENT = Perturbation(
    backend=CompiledBackend(SuperpositionCircuit(num_qubits=1, reps=1)),
    coordinates=AllEntries(),
    injection=RenormalisedInjection(),
    features=Alignment(),
)


@dataclass(frozen=True)
class Case:
    """One comparison: model, optimizer, perturbation, and what must not be exceeded.

    Attributes:
        limit: Largest ratio of wrapped to bare step; None for none.
        limit_ms: Largest time of the wrapped step in milliseconds; None for none.
        muon: Whether Muon is the base, with AdamW for the rest.
    """

    name: str
    sizes: TransformerSizes
    fused: bool
    perturbation: Perturbation
    limit: float | None
    steps: int
    limit_ms: float | None = None
    muon: bool = False


CASES = (
    Case("131 k, fused, first 4 of each", TransformerSizes(), True, Perturbation(), 1.5, 40),
    Case("131 k, default, first 4 of each", TransformerSizes(), False, Perturbation(), 1.2, 40),
    Case(
        "131 k, default, first 4 of each, into the gradient",
        TransformerSizes(),
        False,
        Perturbation(injection=GradientInjection()),
        None,
        40,
    ),
    Case("25 M, fused, first 4 of each", LARGE, True, Perturbation(), 1.05, 3),
    Case(
        "131 k, fused, first 4 of each, depth-2 circuit",
        TransformerSizes(),
        True,
        Perturbation(backend=CompiledBackend()),
        1.9,
        40,
    ),
    Case(
        "131 k, fused, all entries, depth-2 circuit",
        TransformerSizes(),
        True,
        Perturbation(backend=CompiledBackend(), coordinates=AllEntries()),
        None,
        10,
        limit_ms=15.0,
    ),
    Case(
        "131 k, fused, all entries",
        TransformerSizes(),
        True,
        Perturbation(coordinates=AllEntries()),
        None,
        40,
    ),
    Case("131 k, Muon, spectrum", TransformerSizes(), False, SPECTRAL, 1.35, 20, muon=True),
    Case("3.4 M, Muon, spectrum", MIDDLE, False, SPECTRAL, 1.35, 2, muon=True),
    Case(
        "131 k, default, alignment on all entries",
        TransformerSizes(),
        False,
        ALIGNMENT,
        1.6,
        40,
    ),
    Case(
        "131 k, fused, first 4 of each on SamplerQNN",
        TransformerSizes(),
        True,
        Perturbation(backend=SamplerBackend()),
        None,
        2,
    ),
)


def measure(case: Case, rounds: int = 9) -> dict[str, float]:
    """Return microseconds per step, bare and wrapped, and the ratio's median and range."""
    tokens = torch.randint(1, 1000, (32, 32), generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 4, (32,), generator=torch.Generator().manual_seed(1))
    bare, wrapped = _stepper(case, False, tokens, labels), _stepper(case, True, tokens, labels)
    for _ in range(2):
        bare(), wrapped()
    pairs = []
    for _ in range(rounds):
        times = [(bare(), wrapped()) for _ in range(case.steps)]
        pairs.append([statistics.mean(column) for column in zip(*times, strict=True)])
    ratios = [with_ / without for without, with_ in pairs]
    return {
        "bare_us": statistics.median(without for without, _ in pairs) * 1e6,
        "wrapped_us": statistics.median(with_ for _, with_ in pairs) * 1e6,
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
    }


def _stepper(case: Case, perturbed: bool, tokens: Tensor, labels: Tensor) -> Callable[[], float]:
    torch.manual_seed(0)
    network = TransformerClassifier(sizes=case.sizes)
    parameters, fused = network.parameters(), True if case.fused else None
    optimizer: torch.optim.Optimizer = (
        MuonWithAdamW(parameters)
        if case.muon
        else torch.optim.AdamW(parameters, lr=1e-3, fused=fused)
    )
    if perturbed:
        optimizer = PerturbedOptimizer(optimizer, case.perturbation)

    def step() -> float:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(tokens), labels).backward()
        start = time.process_time()
        optimizer.step()
        return time.process_time() - start

    return step


def _limit(case: Case) -> str:
    if case.limit is not None:
        return f"{case.limit:g}"
    return "-" if case.limit_ms is None else f"{case.limit_ms:g} ms"


def main() -> None:
    """Measure the cases, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description="Cost of a wrapped step beside the bare one.")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    only = parser.parse_args().only
    cases = [case for case in CASES if only in case.name]
    if not cases:
        parser.error(f"no case holds {only!r}; there are: {'; '.join(c.name for c in CASES)}")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    results = {case.name: measure(case) for case in cases}
    table = Table(title="wrapped over bare optimizer.step(), AdamW")
    for column in ("case", "bare us", "wrapped us", "ratio", "range", "limit"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for case in cases:
        r = results[case.name]
        table.add_row(
            case.name,
            f"{r['bare_us']:.0f}",
            f"{r['wrapped_us']:.0f}",
            f"{r['ratio']:.3f}",
            f"{r['least']:.3f} to {r['most']:.3f}",
            _limit(case),
        )
    Console().print(table)
    if only:
        return
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "torch": torch.__version__}
    RESULTS.write_text(json.dumps({"machine": machine, "cases": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

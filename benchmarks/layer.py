"""What the paper's circuit costs as a layer: compiled, plugged into SamplerQNN, and with peers.

    make bench-layer                      (installs the peers)
    python -m benchmarks.layer [--full | --large]

One run, one pinned core, one thread, process time, float32, eager. Before anything is timed, all
contestants must return the same numbers and gradients. Rounds are interleaved: each round times
every contestant of a case once, as the mean of enough calls to be measured well. Figures are
medians over rounds (7 up to 8 qubits, 3 above); a ratio is the median of the rounds' ratios.
`--large` measures the cases of `SIZES` alone, and writes layer_large.json. Gradients of plain
SamplerQNN for 1024 circuits take minutes a call: they are extrapolated linearly from 32 circuits,
unless `--full`. Writes benchmarks/results/layer.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks import layer_contestants as contestants
from benchmarks.layer_contestants import SHOTS, Passes, Problem
from benchmarks.layer_report import summary, times_table, verdict_table

RESULTS = Path(__file__).parent / "results" / "layer.json"
ROUNDS = 7
SECONDS_PER_ROUND = 0.03
"""A contestant's calls in one round take at least so long together."""

OURS, LAYER, PLUGINS = "CompiledCircuit", "CircuitLayer", "SamplerQNN, plug-ins"
EXACT, AER = "SamplerQNN, exact", f"SamplerQNN, Aer, {SHOTS} shots"
PENNYLANE = ("PennyLane, expval", "PennyLane, probs")
LIGHTNING, BY_TORCH = "PennyLane, lightning", "CompiledCircuit, torch.compile"
TENSORCIRCUIT = ("tensorcircuit-ng, vmap", "tensorcircuit-ng, vvag")
BUILDERS: dict[str, Callable[[Problem], Passes]] = {
    OURS: contestants.compiled,
    LAYER: contestants.layer,
    PENNYLANE[0]: contestants.pennylane_expectations,
    PENNYLANE[1]: contestants.pennylane_probabilities,
    LIGHTNING: contestants.lightning_qubit,
    BY_TORCH: contestants.compiled_by_torch,
    TENSORCIRCUIT[0]: contestants.tensorcircuit_vmap,
    TENSORCIRCUIT[1]: contestants.tensorcircuit_value_and_grad,
    PLUGINS: contestants.sampler_qnn_with_plugins,
    EXACT: contestants.sampler_qnn,
    AER: contestants.sampler_qnn_on_aer,
}
SMALL_CASE = "n = 4, B = 32, forward+backward"
SLOW_CASE = "n = 4, B = 1024, forward+backward"
"""Measured for plain networks with `--full` only, and extrapolated from the small case else."""

FORWARD = (OURS, LAYER, *PENNYLANE, TENSORCIRCUIT[0])
FAST = (*FORWARD, TENSORCIRCUIT[1])
LARGE = (OURS, *PENNYLANE, LIGHTNING, *TENSORCIRCUIT)
SLOW_IN_BATCHES = {LIGHTNING: 32}
"""Goes row by row: measured up to so many."""

AIMS = {8: 10.0, 12: 8.0, 16: 6.0, 18: 6.0, 20: 6.0}
"""Ratio to the fastest peer, forward and backward, that is wanted for so many qubits."""

SIZES = ((8, 1), (8, 32), (8, 1024), (12, 1), (12, 32), (16, 1), (16, 32), (18, 1), (20, 1))
"""Qubits and batches of the large cases, as memory allows."""

ROUNDS_OF_LARGE = 3
NETWORKS = (PLUGINS, EXACT, AER)


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        num_qubits: Number of qubits.
        batch: Number of circuits.
        backward: Whether gradients are computed as well.
        names: Who takes part.
    """

    num_qubits: int
    batch: int
    backward: bool
    names: tuple[str, ...]

    @property
    def title(self) -> str:
        """Name of the case in the results."""
        way = "forward+backward" if self.backward else "forward"
        return f"n = {self.num_qubits}, B = {self.batch}, {way}"


@dataclass(frozen=True)
class Requirement:
    """A ratio that must be reached: the fastest of `peers` over `ours` in a case."""

    title: str
    ours: str
    peers: tuple[str, ...]
    case: str
    least: float


def large_cases() -> list[Case]:
    """Return the cases of 8 qubits and more."""
    return [Case(n, batch, True, _who(n, batch)) for n, batch in SIZES]


def cases(full: bool) -> list[Case]:
    """Return what is measured."""
    slow = (PLUGINS, EXACT) if full else (PLUGINS,)
    return [
        Case(4, 1, False, FORWARD + NETWORKS),
        Case(4, 32, False, FORWARD + NETWORKS),
        Case(4, 1024, False, FORWARD + NETWORKS),
        Case(4, 8192, False, FORWARD),
        Case(8, 1024, False, FORWARD),
        Case(4, 1, True, FAST + NETWORKS),
        Case(4, 32, True, FAST + NETWORKS),
        Case(4, 1024, True, FAST + slow),
        Case(4, 8192, True, FAST),
        *large_cases(),
    ]


def _who(num_qubits: int, batch: int) -> tuple[str, ...]:
    """Return who takes part in a large case."""
    names = tuple(name for name in LARGE if batch <= SLOW_IN_BATCHES.get(name, batch))
    return (*names, BY_TORCH) if (num_qubits, batch) == (8, 32) else names


def requirements() -> list[Requirement]:
    """Return what must hold."""
    peers = PENNYLANE + TENSORCIRCUIT
    forward, both = "n = 4, B = {}, forward", "n = 4, B = {}, forward+backward"
    wide = "n = 8, B = 1024, "
    return [
        Requirement("over SamplerQNN", OURS, (EXACT,), forward.format(1024), 2000),
        Requirement("over SamplerQNN", OURS, (EXACT,), both.format(1024), 20000),
        *(
            Requirement("over the fastest peer", OURS, peers, both.format(batch), least)
            for batch, least in ((1, 5), (32, 5), (1024, 6), (8192, 3))
        ),
        Requirement("over tensorcircuit-ng", OURS, TENSORCIRCUIT[:1], wide + "forward", 1),
        *(
            Requirement(
                "over the fastest peer",
                OURS,
                tuple(set(_who(n, batch)) - {OURS, BY_TORCH}),
                f"n = {n}, B = {batch}, forward+backward",
                AIMS[n],
            )
            for n, batch in SIZES
        ),
        Requirement("plug-ins over SamplerQNN", PLUGINS, (EXACT,), forward.format(1024), 50),
        Requirement("plug-ins over SamplerQNN", PLUGINS, (EXACT,), both.format(32), 100),
    ]


def check_agreement(num_qubits: int, names: tuple[str, ...], batch: int = 4) -> dict[str, float]:
    """Return the largest difference of each contestant from ours, relative to what is allowed.

    Exact contestants may differ by 1e-5 of the largest number or of 1. Shots may differ by 6
    standard errors, bounded through the parameter-shift rule.

    Raises:
        ArithmeticError: If a contestant returns other numbers.
    """
    problem = Problem.draw(num_qubits, batch)
    expected = _numbers(BUILDERS[OURS](problem))
    found = {}
    for name in names:
        allowed = [1e-5 * max(1.0, float(number.abs().max())) for number in expected]
        if name == AER:
            allowed = _sampling_errors(problem)
        pairs = zip(_numbers(BUILDERS[name](problem)), expected, allowed, strict=True)
        found[name] = max(float((got - want).abs().max()) / most for got, want, most in pairs)
        if found[name] > 1:
            raise ArithmeticError(f"{name} disagrees: {found[name]:.2g} of what is allowed.")
    return found


def _numbers(passes: Passes) -> tuple[torch.Tensor, ...]:
    return (passes.forward(), *passes.both())


def _sampling_errors(problem: Problem) -> list[float]:
    """Bound 6 standard errors of outputs and of the gradients of inputs and weights."""
    rows = problem.cotangent.abs().sum(1)
    one = 6 / SHOTS**0.5
    of_gate = one / 2**0.5  # half the difference of two evaluations
    by_input = torch.pi * contestants.REPS**0.5 * of_gate * float(rows.max())
    return [one, by_input, of_gate * float(rows.norm())]


def measure(case: Case) -> dict[str, list[float]]:
    """Return each contestant's milliseconds per call, round by round."""
    problem = Problem.draw(case.num_qubits, case.batch)
    runs: dict[str, Callable[[], Any]] = {}
    for name in case.names:
        passes = BUILDERS[name](problem)
        runs[name] = passes.both if case.backward else passes.forward
    calls = {name: _calls(run) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS if case.num_qubits <= 8 else ROUNDS_OF_LARGE):
        for name, run in runs.items():
            times[name].append(_seconds(run, calls[name]) * 1e3)
    return times


def _calls(run: Callable[[], Any]) -> int:
    """Warm up; return how many calls a round needs."""
    if _seconds(run, 1) > SECONDS_PER_ROUND * 20:
        return 1
    once = max(_seconds(run, 2), 1e-6)
    return max(1, round(SECONDS_PER_ROUND / once))


def _seconds(run: Callable[[], Any], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - start) / calls


def extrapolate(times: dict[str, dict[str, list[float]]]) -> list[str]:
    """Fill in what only `--full` measures; return the names of what was filled in."""
    missing = [name for name in NETWORKS if name not in times[SLOW_CASE]]
    for name in missing:
        times[SLOW_CASE][name] = [32 * each for each in times[SMALL_CASE][name]]
    return missing


def ratio(requirement: Requirement, times: dict[str, list[float]]) -> tuple[float, str]:
    """Return the ratio to the fastest peer, and that peer."""
    ours = times[requirement.ours]
    ratios = {
        peer: statistics.median(t / o for t, o in zip(times[peer], ours, strict=True))
        for peer in requirement.peers
    }
    fastest = min(ratios, key=lambda peer: ratios[peer])
    return ratios[fastest], fastest


def judge(times: dict[str, dict[str, list[float]]], guessed: list[str]) -> list[dict[str, Any]]:
    """Return every requirement with its ratio and whether it holds."""
    verdicts = []
    for requirement in (each for each in requirements() if each.case in times):
        reached, peer = ratio(requirement, times[requirement.case])
        extrapolated = peer in guessed and requirement.case == SLOW_CASE
        verdicts.append(
            asdict(requirement)
            | {"ratio": reached, "peer": peer, "holds": reached >= requirement.least}
            | {"extrapolated": extrapolated}
        )
    return verdicts


def main() -> None:
    """Check, measure, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="do not extrapolate the slowest case")
    parser.add_argument("--large", action="store_true", help="only 8 to 20 qubits")
    given = parser.parse_args()
    full, large = given.full, given.large
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    threadpool_limits(limits=1)
    warnings.simplefilter("ignore")
    console = Console(width=130)
    agreement = {"n = 8": check_agreement(8, (*LARGE, BY_TORCH))}
    if not large:
        agreement["n = 4"] = check_agreement(4, FAST + NETWORKS)
    times = {}
    for case in large_cases() if large else cases(full):
        console.print(f"measuring {case.title}")
        times[case.title] = measure(case)
    guessed = [] if large else extrapolate(times)
    verdicts = judge(times, guessed)
    console.print(times_table(times, guessed, SLOW_CASE), verdict_table(verdicts))
    record = {
        "machine": _machine(),
        "rounds": {"up to 8 qubits": ROUNDS, "above": ROUNDS_OF_LARGE},
        "share_of_allowed_difference": agreement,
        "extrapolated": {} if large else {SLOW_CASE: guessed},
        "cases": summary(times),
        "requirements": verdicts,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    results = RESULTS.with_name("layer_large.json") if large else RESULTS
    results.write_text(json.dumps(record, indent=2) + "\n")


def _machine() -> dict[str, str]:
    libraries = ("torch", "qiskit", "qiskit-aer", "qiskit-machine-learning")
    peers = ("pennylane", "tensorcircuit-ng")
    return {"python": platform.python_version()} | {
        name: version(name) for name in libraries + peers
    }


if __name__ == "__main__":
    main()
